package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A batch is one nftables transaction: all of it happens at once, or nothing does.
type batch struct {
	messages []netlink.Message
	size     int
}

// newBatch begins a transaction. With a generation other than 0 the kernel refuses it when that is over (ERESTART).
func newBatch(generation uint32) *batch {
	b := new(batch)
	var attributes []byte
	if generation != 0 {
		attributes = u32Attr(1, generation) // NFNL_BATCH_GENID
	}
	b.raw(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, attributes)
	return b
}

func (b *batch) raw(kind uint16, flags netlink.HeaderFlags, family byte, resource uint16, attributes []byte) {
	data := binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
	m := netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags}, Data: append(data, attributes...)}
	b.messages = append(b.messages, m)
	b.size += len(m.Data) + 16
}

func (b *batch) add(kind uint16, flags netlink.HeaderFlags, family byte, parts ...[]byte) {
	b.raw(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, family, 0, concat(parts...))
}

func (b *batch) empty() bool { return len(b.messages) == 1 }

// commit sends the transaction and waits for the kernel's answer to its last message; a refusal comes before that.
func (r *reader) commit(ctx context.Context, b *batch) error {
	if b.empty() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.messages[len(b.messages)-1].Header.Flags |= netlink.Acknowledge
	b.raw(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	if err := r.conn.SetDeadline(time.Now().Add(replyTimeout)); err != nil {
		return err
	}
	if _, err := r.conn.SendMessages(b.messages); err != nil {
		return fmt.Errorf("change nftables: %w", err)
	}
	if _, err := r.conn.Receive(); err != nil {
		return fmt.Errorf("change nftables: %w", err)
	}
	return nil
}

// edit adds what an edit asks for.
func (b *batch) edit(e edit) {
	family, table, chain := e.chain.family, strAttr(1, e.chain.name), strAttr(2, e.chain.chain)
	for _, handle := range e.delete {
		b.add(unix.NFT_MSG_DELRULE, 0, family, table, chain, u64Attr(3, handle))
	}
	if e.insert == nil {
		return
	}
	attributes := [][]byte{table, chain, nestAttr(4, e.insert.acceptMarked())}
	flags := netlink.Create | netlink.Append
	if e.insert.before != 0 { // without append, a position is what comes after
		flags = netlink.Create
		attributes = append(attributes, u64Attr(6, e.insert.before))
	}
	if !e.insert.xt {
		attributes = append(attributes, attr(7, userComment(Comment)))
	}
	b.add(unix.NFT_MSG_NEWRULE, flags, family, attributes...)
}

func markTable() []byte { return strAttr(1, MarkTable) }

func (b *batch) deleteMarkTable() { b.add(unix.NFT_MSG_DELTABLE, 0, familyInet, markTable()) }

// addMarkTable makes the table, without sets.
func (b *batch) addMarkTable() {
	b.add(unix.NFT_MSG_NEWTABLE, netlink.Create, familyInet, markTable(), attr(6, userComment("fairlead: sessions that other firewalls are to accept")))
	for _, c := range markChains {
		b.add(unix.NFT_MSG_NEWCHAIN, netlink.Create, familyInet, markTable(), strAttr(3, c.name),
			nestAttr(4, u32Attr(1, uint32(c.hook)), u32Attr(2, signed(priorityMark))), u32Attr(5, codeAccept), strAttr(7, "filter"))
	}
}

// markChains are the chains of the table.
var markChains = [...]struct {
	hook Hook
	name string
}{{Input, "input"}, {Forward, "forward"}}

// addMarkSets makes sets, and the rules that look into them.
func (b *batch) addMarkSets(sets []setID) {
	for i, id := range sets {
		b.addSet(id, uint32(i+1))
		for _, c := range markChains {
			for _, rule := range markRules(id, c.hook) {
				b.add(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, familyInet, markTable(), strAttr(2, c.name), nestAttr(4, rule))
			}
		}
	}
}

func signed(p int32) uint32 { return uint32(p) }

func (b *batch) addSet(id setID, number uint32) {
	const concatenated = 0x80 // NFT_SET_CONCAT
	var flags, kind uint32
	var lengths [][]byte
	for _, f := range id.fields() {
		kind = kind<<6 | f.dataType
		lengths = append(lengths, nestAttr(1, u32Attr(1, uint32(f.size))))
	}
	attributes := [][]byte{markTable(), strAttr(2, id.name()), u32Attr(4, kind), u32Attr(5, uint32(id.keyLen())), u32Attr(10, number)}
	if id.interval() {
		flags = setInterval | concatenated
		attributes = append(attributes, nestAttr(9, nestAttr(2, lengths...)))
	}
	b.add(unix.NFT_MSG_NEWSET, netlink.Create, familyInet, append(attributes, u32Attr(3, flags))...)
}

// change adds or deletes (kind) elements of a set. It stops when the transaction is as long as is certain to fit, and
// returns what is left.
func (b *batch) change(kind uint16, id setID, list []session) []session {
	const (
		perMessage = 400
		fits       = 100 << 10 // below any system's net.core.wmem_default
	)
	for len(list) > 0 && b.size < fits {
		n := min(perMessage, len(list))
		var elements []byte
		for _, s := range list[:n] {
			parts := nestAttr(1, attr(1, []byte(s.key)))
			if s.last != "" {
				parts = append(parts, nestAttr(10, attr(1, []byte(s.last)))...)
			}
			elements = append(elements, nestAttr(1, parts)...)
		}
		b.add(kind, netlink.Create, familyInet, markTable(), strAttr(2, id.name()), nestAttr(3, elements))
		list = list[n:]
	}
	return list
}

// isStale reports whether a transaction that was refused because somebody changed nftables since it was made.
func isStale(err error) bool { return errors.Is(err, unix.ERESTART) }

// isAbsent is a table or chain that is gone.
func isAbsent(err error) bool { return errors.Is(err, unix.ENOENT) }
