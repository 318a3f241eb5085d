package tunnel

import (
	"sync"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// A chunk is some bytes of a stream with room before them for the head of their frame, so that they go out from where they were read
// to. It lives until the other end has acknowledged it.
type chunk struct {
	next     *chunk
	offset   uint64 // in the stream, of the first byte
	from, to int    // the bytes, in buf
	head     int    // where the frame begins in buf; below 0 while bytes may be added
	refs     int    // lanes that are writing it
	dropped  bool   // it is free once nobody writes it
	class    int8
	buf      []byte
}

// The sizes of chunks. The largest is a frame of 64 KiB with its head, which fills four records of TLS.
const (
	chunkMost = 64 << 10
	dataMost  = chunkMost - wire.DataHead // of one DATA frame
)

var (
	chunkSizes = [...]int{512, 2 << 10, 16 << 10, chunkMost}
	chunkPools [len(chunkSizes)]sync.Pool
)

// newChunk is a chunk with room for n bytes, or for as many as one takes.
func newChunk(n int) *chunk {
	class := len(chunkSizes) - 1
	for class > 0 && chunkSizes[class-1]-wire.DataHead >= n {
		class--
	}
	c, ok := chunkPools[class].Get().(*chunk)
	if !ok {
		c = &chunk{buf: make([]byte, chunkSizes[class]), class: int8(class)}
	}
	c.from, c.to, c.head = wire.DataHead, wire.DataHead, -1
	return c
}

// free gives the chunk back, now or when nobody writes it any more.
func (c *chunk) free() {
	if c.refs > 0 {
		c.dropped = true
		return
	}
	*c = chunk{buf: c.buf, class: c.class}
	chunkPools[c.class].Put(c)
}

func (c *chunk) len() int     { return c.to - c.from }
func (c *chunk) room() int    { return len(c.buf) - c.to }
func (c *chunk) end() uint64  { return c.offset + uint64(c.len()) }
func (c *chunk) data() []byte { return c.buf[c.from:c.to] }

// seal writes the head of the frame. Nothing is added from then on, so that the chunk is the same frame whenever it is sent.
func (c *chunk) seal(stream uint64) {
	if c.head < 0 {
		c.head = wire.PutDataHead(c.buf, c.from, c.len(), stream, c.offset)
	}
}

func (c *chunk) frame() []byte { return c.buf[c.head:c.to] }

// chunks is a list of them.
type chunks struct {
	first, last *chunk
	size        int // bytes
}

func (l *chunks) push(c *chunk) {
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
	l.size += c.len()
}

// add copies p to the end.
func (l *chunks) add(p []byte) {
	for len(p) > 0 {
		c := l.last
		if c == nil || c.room() == 0 {
			c = newChunk(len(p))
			l.push(c)
		}
		n := copy(c.buf[c.to:], p)
		c.to += n
		l.size += n
		p = p[n:]
	}
}

// join moves all of other to the end.
func (l *chunks) join(other *chunks) {
	if other.first == nil {
		return
	}
	if l.last == nil {
		l.first = other.first
	} else {
		l.last.next = other.first
	}
	l.last = other.last
	l.size += other.size
	*other = chunks{}
}

// take copies the first bytes into p, and returns how many.
func (l *chunks) take(p []byte) int {
	n := 0
	for n < len(p) && l.first != nil {
		m := copy(p[n:], l.first.data())
		n += m
		l.skip(m)
	}
	return n
}

// skip drops the first n bytes, which are not more than the first chunk has.
func (l *chunks) skip(n int) {
	c := l.first
	c.from += n
	l.size -= n
	if c.from == c.to {
		l.pop().free()
	}
}

func (l *chunks) pop() *chunk {
	c := l.first
	l.first = c.next
	if l.first == nil {
		l.last = nil
	}
	c.next = nil
	l.size -= c.len()
	return c
}

func (l *chunks) clear() {
	for l.first != nil {
		l.pop().free()
	}
}
