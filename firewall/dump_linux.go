package firewall

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// replyTimeout bounds the wait for one answer of the kernel, which works a request off before the send returns.
const replyTimeout = 10 * time.Second

// A reader asks the kernel for what is in nftables.
type reader struct{ conn *netlink.Conn }

func openReader() (*reader, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	_ = conn.SetReadBuffer(8 << 20)  // less is only slower
	_ = conn.SetWriteBuffer(4 << 20) // transactions are split for what is certain to fit
	return &reader{conn}, nil
}

func (r *reader) close() error { return r.conn.Close() }

// generation is a number that every change of nftables by anybody makes another one.
func (r *reader) generation(ctx context.Context) (id uint32, err error) {
	err = r.ask(ctx, unix.NFT_MSG_GETGEN, netlink.Request, unix.AF_UNSPEC, nil, func(o Object) { id = attrs(o.Attrs).u32(1) })
	return id, err
}

// ask sends one request and calls yield for every answer.
func (r *reader) ask(ctx context.Context, kind uint16, flags netlink.HeaderFlags, family byte, attributes []byte, yield func(Object)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline := time.Now().Add(replyTimeout)
	if until, ok := ctx.Deadline(); ok && until.Before(deadline) {
		deadline = until
	}
	if err := r.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	m := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attributes...),
	}
	answers, err := r.conn.Execute(m)
	if err != nil {
		return fmt.Errorf("ask nftables: %w", err)
	}
	for _, a := range answers {
		if len(a.Data) >= 4 {
			yield(Object{Family: a.Data[0], Attrs: a.Data[4:]})
		}
	}
	return nil
}

// list is ask for everything of one kind.
func (r *reader) list(ctx context.Context, kind uint16, family byte, attributes []byte) (out []Object, err error) {
	err = r.ask(ctx, kind, netlink.Request|netlink.Dump, family, attributes, func(o Object) { out = append(out, o) })
	if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) { // the list changes, the table is gone: the caller looks at the generation
		err = nil
	}
	return out, err
}

// snapshot reads everything as it was at one moment, and says which generation that was.
func (r *reader) snapshot(ctx context.Context) (*Dump, uint32, error) {
	const tries = 5
	for range tries {
		before, err := r.generation(ctx)
		if err != nil {
			return nil, 0, err
		}
		d, err := r.dump(ctx)
		if err != nil {
			return nil, 0, err
		}
		after, err := r.generation(ctx)
		if err != nil {
			return nil, 0, err
		}
		if before == after {
			return d, after, nil
		}
	}
	return nil, 0, errChanging
}

// dump reads everything but what is Fairlead's own, which may be large.
func (r *reader) dump(ctx context.Context) (*Dump, error) {
	d := new(Dump)
	var err error
	if d.Tables, err = r.list(ctx, unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC, nil); err != nil {
		return nil, err
	}
	if d.Chains, err = r.list(ctx, unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC, nil); err != nil {
		return nil, err
	}
	for _, o := range d.Tables {
		id := tableID{family: o.Family, name: attrs(o.Attrs).text(1)}
		if !filters(id) {
			continue
		}
		of := strAttr(1, id.name)
		rules, err := r.list(ctx, unix.NFT_MSG_GETRULE, id.family, of)
		if err != nil {
			return nil, err
		}
		sets, err := r.list(ctx, unix.NFT_MSG_GETSET, id.family, of)
		if err != nil {
			return nil, err
		}
		d.Rules, d.Sets = append(d.Rules, rules...), append(d.Sets, sets...)
		for _, s := range sets {
			list, err := r.list(ctx, unix.NFT_MSG_GETSETELEM, id.family, append(of[:len(of):len(of)], strAttr(2, attrs(s.Attrs).text(2))...))
			if err != nil {
				return nil, err
			}
			d.Elements = append(d.Elements, list...)
		}
	}
	return d, nil
}

// tableHandle is the number of the table of marks, which one made anew does not share.
func (r *reader) tableHandle(ctx context.Context) (handle uint64, err error) {
	err = r.ask(ctx, unix.NFT_MSG_GETTABLE, netlink.Request, familyInet, markTable(), func(o Object) { handle = attrs(o.Attrs).u64(4) })
	return handle, err
}
