package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The layout of a bbolt file, as bbolt's internal/common has it. Numbers are in the byte order of the machine.
const (
	pageHeaderSize = 16 // id u64, flags u16, count u16, overflow u32
	elementSize    = 16 // branch: pos u32, ksize u32, page u64; leaf: flags u32, pos u32, ksize u32, vsize u32
	bucketSize     = 16 // root page u64, sequence u64; root 0: the one page follows inline
	metaSize       = 64
	metaSumOffset  = 56

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketElement = 0x01

	noFreelist    = ^uint64(0)
	manyFreePages = 0xFFFF // the count that says: the first number of the list is the count

	minPageSize = 1 << 10
	maxPageSize = 1 << 24
	maxDepth    = 64 // of pages and of buckets in each other; real files need about 5
)

// checkFile reports whether bbolt can work with the file at path without panicking: it trusts page numbers and lengths that
// it reads, and maps the file, so that one that is cut short or scribbled on takes the whole process down.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil // bbolt makes a new one of it
	}
	return check(f, info.Size())
}

// A checker walks every page that the newest meta page leads to.
type checker struct {
	r        io.ReaderAt
	pageSize uint64
	pages    uint64 // pages in use, and so the first page number that must not occur
	seen     []bool
}

func check(r io.ReaderAt, size int64) error {
	m, err := newestMeta(r, size)
	if err != nil {
		return err
	}
	c := &checker{r: r, pageSize: uint64(m.pageSize), pages: m.pages}
	if c.pages > uint64(size)/c.pageSize {
		return fmt.Errorf("%w: it is cut short: %d bytes where there should be at least %d pages of %d", ErrDamaged, size, c.pages, c.pageSize)
	}
	c.seen = make([]bool, c.pages)
	if err := c.tree(m.root, nil, 0, 0); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := c.freelist(m.freelist); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

type meta struct {
	pageSize              uint32
	root, freelist, pages uint64
	txid                  uint64
}

// newestMeta returns the meta page that bbolt will use: the valid one of the last transaction. One of the two may be torn.
func newestMeta(r io.ReaderAt, size int64) (meta, error) {
	var best meta
	found, looksLike := false, false
	try := func(offset int64) {
		var b [pageHeaderSize + metaSize]byte
		if _, err := r.ReadAt(b[:], offset); err != nil {
			return
		}
		m, magic, ok := parseMeta(b[pageHeaderSize:])
		looksLike = looksLike || magic
		if ok && (offset == 0 || offset == int64(m.pageSize)) && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	try(0)
	for offset := int64(minPageSize); offset <= maxPageSize && offset < size; offset *= 2 {
		try(offset)
	}
	switch {
	case found && size < 2*int64(best.pageSize):
		return meta{}, fmt.Errorf("%w: it is cut short: %d bytes", ErrDamaged, size)
	case found:
		return best, nil
	case looksLike:
		return meta{}, fmt.Errorf("%w: both of its first pages are", ErrDamaged)
	}
	return meta{}, ErrForeign
}

func parseMeta(b []byte) (m meta, magic, ok bool) {
	order := binary.NativeEndian
	magic = order.Uint32(b) == metaMagic
	if !magic || order.Uint32(b[4:]) != metaVersion {
		return meta{}, magic, false
	}
	sum := fnv.New64a()
	sum.Write(b[:metaSumOffset])
	if sum.Sum64() != order.Uint64(b[metaSumOffset:]) {
		return meta{}, magic, false
	}
	m = meta{
		pageSize: order.Uint32(b[8:]),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		pages:    order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}
	ok = m.pageSize >= minPageSize && m.pageSize <= maxPageSize && m.pageSize&(m.pageSize-1) == 0
	return m, magic, ok
}

// A page is a whole page with what flows over into the pages after it.
type page struct {
	flags, count uint16
	data         []byte // the header included: element positions count from the element itself
}

func (c *checker) page(id uint64) (page, error) {
	if id < 2 || id >= c.pages {
		return page{}, fmt.Errorf("page %d is out of the file", id)
	}
	var head [pageHeaderSize]byte
	if _, err := c.r.ReadAt(head[:], int64(id*c.pageSize)); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	order := binary.NativeEndian
	if got := order.Uint64(head[:]); got != id {
		return page{}, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	n := uint64(order.Uint32(head[12:])) + 1
	if n > c.pages-id {
		return page{}, fmt.Errorf("page %d flows over the end of the file", id)
	}
	for i := id; i < id+n; i++ {
		if c.seen[i] {
			return page{}, fmt.Errorf("page %d is used twice", i)
		}
		c.seen[i] = true
	}
	p := page{flags: order.Uint16(head[8:]), count: order.Uint16(head[10:]), data: make([]byte, n*c.pageSize)}
	if _, err := c.r.ReadAt(p.data, int64(id*c.pageSize)); err != nil && !errors.Is(err, io.EOF) {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

// tree checks the page id and everything below it. Its keys start at low, when low is not nil.
func (c *checker) tree(id uint64, low []byte, depth, buckets int) error {
	if depth > maxDepth || buckets > maxDepth {
		return fmt.Errorf("page %d is nested too deeply", id)
	}
	p, err := c.page(id)
	if err != nil {
		return err
	}
	switch p.flags {
	case leafPage:
		err = c.leaf(p, low, buckets)
	case branchPage:
		err = c.branch(p, low, depth, buckets)
	default:
		err = fmt.Errorf("it is of kind %#x, which does not belong here", p.flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (c *checker) branch(p page, low []byte, depth, buckets int) error {
	if p.count == 0 {
		return errors.New("it leads nowhere")
	}
	for i := range int(p.count) {
		at := pageHeaderSize + i*elementSize
		if at+elementSize > len(p.data) {
			return errors.New("it has more elements than room")
		}
		order, e := binary.NativeEndian, p.data[at:]
		key, err := slice(e, order.Uint32(e), order.Uint32(e[4:]))
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(key, low) <= 0 || i == 0 && low != nil && bytes.Compare(key, low) < 0 {
			return errors.New("its keys are out of order")
		}
		low = key
		if err := c.tree(order.Uint64(e[8:]), key, depth+1, buckets); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) leaf(p page, low []byte, buckets int) error {
	for i := range int(p.count) {
		at := pageHeaderSize + i*elementSize
		if at+elementSize > len(p.data) {
			return errors.New("it has more elements than room")
		}
		order, e := binary.NativeEndian, p.data[at:]
		pos, ksize, vsize := order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
		key, err := slice(e, pos, ksize)
		if err != nil {
			return err
		}
		value, err := slice(e, pos+ksize, vsize)
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(key, low) <= 0 || i == 0 && low != nil && bytes.Compare(key, low) < 0 {
			return errors.New("its keys are out of order")
		}
		low = key
		if order.Uint32(e)&bucketElement != 0 {
			if err := c.bucket(value, buckets+1); err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
		}
	}
	return nil
}

func (c *checker) bucket(value []byte, buckets int) error {
	if len(value) < bucketSize {
		return errors.New("its header is cut short")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.tree(root, nil, 0, buckets)
	}
	inline := value[bucketSize:]
	if len(inline) < pageHeaderSize || buckets > maxDepth {
		return errors.New("its page is cut short")
	}
	order := binary.NativeEndian
	p := page{flags: order.Uint16(inline[8:]), count: order.Uint16(inline[10:]), data: inline}
	if p.flags != leafPage {
		return fmt.Errorf("its page is of kind %#x, which does not belong here", p.flags)
	}
	return c.leaf(p, nil, buckets)
}

// freelist checks that no free page is in use: bbolt would write over it.
func (c *checker) freelist(id uint64) error {
	if id == noFreelist {
		// Ours always write one. Without, bbolt reads the whole file in a goroutine of its own, out of reach of recover.
		return errors.New("it has no list of free pages")
	}
	p, err := c.page(id)
	if err != nil {
		return err
	}
	if p.flags != freelistPage {
		return fmt.Errorf("page %d is no list of free pages", id)
	}
	order, list, count := binary.NativeEndian, p.data[pageHeaderSize:], uint64(p.count)
	if p.count == manyFreePages {
		count, list = order.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return fmt.Errorf("page %d: the list of free pages is longer than its page", id)
	}
	for i := range count {
		free := order.Uint64(list[i*8:])
		if free < 2 || free >= c.pages || c.seen[free] {
			return fmt.Errorf("page %d is listed as free and is not", free)
		}
		c.seen[free] = true
	}
	return nil
}

// slice returns n bytes at pos of b.
func slice(b []byte, pos, n uint32) ([]byte, error) {
	if uint64(pos)+uint64(n) > uint64(len(b)) {
		return nil, errors.New("an element reaches out of its page")
	}
	return b[pos : pos+n], nil
}
