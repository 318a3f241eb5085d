package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A batch is one nftables transaction: all of it happens at once, or nothing does.
type batch struct {
	table  string
	buf    []byte
	seq    uint32
	owners map[uint32]string // the forward that a message is for, where it is for one alone

	helpers map[uint32]helperObject // that a message declares

	lastMessage int // where in buf the last message begins
}

// chunk is the most elements in one message: their attribute has a length of 16 bits.
const chunk = 400

func newBatch(table string) *batch { return newBatchAt(table, 0) }

// newBatchAt begins a batch that the kernel refuses (ERESTART) if nftables is not at this generation any more. 0: it may be at any.
func newBatchAt(table string, generation uint32) *batch {
	b := &batch{table: table, owners: map[uint32]string{}, helpers: map[uint32]helperObject{}}
	var attrs []byte
	if generation != 0 {
		attrs = be32(unix.NFNL_BATCH_GENID, generation)
	}
	b.raw(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, attrs)
	return b
}

func (b *batch) raw(kind, flags uint16, family byte, resource uint16, attrs ...[]byte) {
	b.seq++
	b.lastMessage = len(b.buf)
	b.buf = appendMessage(b.buf, kind, flags, b.seq, family, resource, attrs...)
}

func (b *batch) add(kind, flags uint16, attrs ...[]byte) {
	b.raw(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, familyInet, 0, attrs...)
}

func (b *batch) addTable() { b.addTableCalled(layout) }

// addTableCalled declares the table with a comment.
func (b *batch) addTableCalled(text string) {
	b.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, str(1, b.table), appendComment(nil, 6, text))
}

func (b *batch) deleteTable() { b.add(unix.NFT_MSG_DELTABLE, 0, str(1, b.table)) }

// appendComment adds user data that nft(8) shows as a comment: type 0, length, text with a closing zero.
func appendComment(buf []byte, kind uint16, text string) []byte {
	at := len(buf)
	buf = appendAttr(buf, kind, nil)
	buf = append(buf, 0, byte(len(text)+1))
	buf = append(append(buf, text...), 0)
	closeAttr(buf, at)
	return pad(buf)
}

func (b *batch) addChain(c chain) {
	attrs := [][]byte{str(1, b.table), str(3, c.name)}
	if c.kind != "" {
		const policyAccept = 1
		attrs = append(attrs, nested(4, be32(1, uint32(c.hook)), be32(2, uint32(c.priority))), be32(5, policyAccept), str(7, c.kind))
	}
	b.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, attrs...)
}

func (b *batch) deleteChain(name string) {
	b.add(unix.NFT_MSG_DELCHAIN, 0, str(1, b.table), str(3, name))
}

// flushRules takes every rule of the table away.
func (b *batch) flushRules() { b.add(unix.NFT_MSG_DELRULE, 0, str(1, b.table)) }

func (b *batch) addRules(c chain) {
	for _, r := range c.rules {
		var exprs []byte
		for _, s := range r {
			exprs = append(exprs, s.expr...)
		}
		b.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, str(1, b.table), str(2, c.name), nested(4, exprs))
	}
}

// addSet declares set id for n elements. A concatenated key of ranges also says how long its fields are.
func (b *batch) addSet(id setID, n int) {
	var flags uint32
	key := id.key()
	attrs := [][]byte{str(1, b.table), str(2, id.name()), be32(4, typeNumber(id, key)), be32(5, uint32(id.size(key)))}
	if id.isMap() {
		flags |= unix.NFT_SET_MAP
		attrs = append(attrs, be32(6, typeNumber(id, id.data())), be32(7, uint32(id.size(id.data()))))
	}
	if id.interval() {
		flags |= unix.NFT_SET_INTERVAL
	}
	if id.interval() && len(key) > 1 {
		const concatenated = 0x80 // NFT_SET_CONCAT
		flags |= concatenated
		var lengths [][]byte
		for _, f := range key {
			lengths = append(lengths, nested(1, be32(1, uint32(id.dataType(f).size))))
		}
		attrs = append(attrs, nested(9, nested(2, lengths...)))
	}
	if size := id.capacity(n); size > 0 {
		attrs = append(attrs, nested(9, be32(1, uint32(size))))
	}
	if id.role.learned() {
		const fromRules = 0x20 // NFT_SET_EVAL
		flags |= fromRules | unix.NFT_SET_TIMEOUT
		attrs = append(attrs, be64(11, uint64(learnedTimeout.Milliseconds())))
	}
	if slices.Contains(key, fieldSlot) {
		attrs = append(attrs, attr(13, id.userData()))
	}
	if id.counts() {
		attrs = append(attrs, nested(17, str(1, "counter"), nested(2, be64(1, 0), be64(2, 0))))
	}
	b.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, append(attrs, be32(3, flags), be32(10, b.seq))...)
}

func (b *batch) deleteSet(name string) { b.add(unix.NFT_MSG_DELSET, 0, str(1, b.table), str(2, name)) }

// addInterfaceSet declares the set of interfaces that packets may leave by again.
func (b *batch) addInterfaceSet() {
	const ifname = 41
	b.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, str(1, b.table), str(2, sameInterfaces),
		be32(4, ifname<<6|ifname), be32(5, 32), be32(3, 0), be32(10, b.seq))
}

func (b *batch) changeInterface(kind uint16, name string) {
	key := make([]byte, 32)
	copy(key, name)
	copy(key[16:], name)
	b.add(kind, unix.NLM_F_CREATE, str(1, b.table), str(2, sameInterfaces), nested(3, nested(1, nested(1, attr(1, key)))))
}

// typeNumber packs the types of fields the way nft(8) reads them back: six bits each.
func typeNumber(id setID, fields []field) uint32 {
	var n uint32
	for _, f := range fields {
		n = n<<6 | id.dataType(f).number
	}
	return n
}

// changeElements adds or deletes (kind) elements of one set, size at a time. With size 1 a refusal names the forward.
func (b *batch) changeElements(kind uint16, id setID, list []element, size int) {
	for len(list) > 0 {
		n := min(size, len(list))
		if n == 1 {
			b.owners[b.seq+1] = list[0].owner
		}
		b.add(kind, unix.NLM_F_CREATE, str(1, b.table), str(2, id.name()))
		at := len(b.buf)
		var elements int
		b.buf, elements = openAttr(b.buf, 3)
		for _, e := range list[:n] {
			b.buf = appendElement(b.buf, e, kind == unix.NFT_MSG_NEWSETELEM)
		}
		b.buf = closeAttr(b.buf, elements)
		b.grow(len(b.buf) - at)
		list = list[n:]
	}
}

// grow adds n to the length of the last message, whose attributes were written in place.
func (b *batch) grow(n int) {
	last := b.lastMessage
	binary.NativeEndian.PutUint32(b.buf[last:], binary.NativeEndian.Uint32(b.buf[last:])+uint32(n))
}

func appendElement(buf []byte, e element, whole bool) []byte {
	buf, elem := openAttr(buf, 1)
	buf = appendKey(buf, 1, e.set.trim(e.set.key(), e.key))
	if e.keyEnd != nil {
		buf = appendKey(buf, 10, e.keyEnd)
	}
	if whole {
		if e.data != nil {
			buf = appendKey(buf, 2, e.set.trim(e.set.data(), e.data))
		}
		buf = appendComment(buf, 6, e.owner)
		if e.lasts > 0 {
			buf = append(buf, be64(4, uint64(e.lasts.Milliseconds()))...)
		}
		if e.counted != (counter{}) {
			buf = append(buf, nested(7, str(1, "counter"), nested(2, be64(1, e.counted.bytes), be64(2, e.counted.packets)))...)
		}
	}
	return closeAttr(buf, elem)
}

func appendKey(buf []byte, kind uint16, value []byte) []byte {
	buf, at := openAttr(buf, kind)
	buf = appendAttr(buf, 1, value)
	return closeAttr(buf, at)
}

func be64(kind uint16, v uint64) []byte { return attr(kind, binary.BigEndian.AppendUint64(nil, v)) }

// commit sends the transaction. The error is a *KernelError where the kernel refused it; nothing of it happened then.
func (b *batch) commit(s *nlSocket) error {
	if b.seq == 1 {
		return nil // nothing asked for
	}
	last := b.seq
	flags := binary.NativeEndian.Uint16(b.buf[b.lastMessage+6:])
	binary.NativeEndian.PutUint16(b.buf[b.lastMessage+6:], flags|unix.NLM_F_ACK)
	b.raw(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	if need := len(b.buf) + 1<<20; need > s.room {
		if err := s.setBuffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, need); err != nil {
			return fmt.Errorf("make room for a transaction of %d bytes: %w", len(b.buf), err)
		}
		s.room = need
	}
	if err := s.send(b.buf); err != nil {
		if errors.Is(err, unix.EMSGSIZE) {
			return fmt.Errorf("a transaction of %d bytes does not fit net.core.wmem_max: %w", len(b.buf), err)
		}
		return err
	}
	return b.outcome(s, last)
}

// outcome reads the kernel's answers: a refusal for each message that failed, and an acknowledgement of the last.
func (b *batch) outcome(s *nlSocket, last uint32) error {
	var first error
	for acknowledged := false; !acknowledged; {
		err := s.receive(func(m nlMessage) error {
			if m.kind != unix.NLMSG_ERROR {
				return nil
			}
			if err := refusal("change nftables", m); err != nil && first == nil {
				first = err
			}
			// A refusal of the whole batch comes under the number of its first message, and nothing after it.
			acknowledged = acknowledged || m.seq == last || m.seq == 1
			return nil
		})
		if err != nil {
			return errors.Join(first, err)
		}
	}
	return first
}
