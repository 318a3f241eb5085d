package sshd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// Connecting takes at most this long in all, and for one of several addresses.
const (
	dialTime    = 30 * time.Second
	addressTime = 10 * time.Second
)

// errDenied is the answer to a destination that the key or the policy does not permit.
var errDenied = errors.New("the destination is not permitted")

// serveAtOnce opens a channel to where the client wants to go, if that needs no waiting, and reports whether it has. What goes
// wrong is left to serveDirect to find out and to say.
func (c *client) serveAtOnce(in incoming) bool {
	nc, ok := in.(carrier)
	if !ok || c.server.o.Connect == nil || in.kind() != sshchan.Direct {
		return false
	}
	to, err := sshchan.ParseDirect(in.payload())
	if err != nil {
		return false
	}
	addr, _, err := c.permitted(to)
	if err != nil || !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	fd, err := c.server.o.Connect(netip.AddrPortFrom(addr, to.Port))
	if err != nil {
		return false
	}
	keepAlive(fd)
	c.carry(nc, fd, dialTime, to)
	return true
}

// carry has the peer carry a socket.
func (c *client) carry(nc carrier, fd int, connecting time.Duration, to sshchan.Place) {
	nc.carry(fd, carriage{
		connecting: connecting, flow: c.newFlow(nc.kind(), to.String()), ended: c.release,
		failed: func(err error) { c.noteRefusal(to, err) },
	})
}

// serveDirect opens one channel to where the client wants to go, and reports whether it goes on when this returns.
func (c *client) serveDirect(ctx context.Context, in incoming, to sshchan.Place, err error) (goesOn bool) {
	var target net.Conn
	if err == nil {
		dialing, cancel := context.WithTimeout(ctx, dialTime)
		target, err = c.dial(dialing, to)
		cancel()
	}
	if err != nil {
		c.noteRefusal(to, err)
		reason, text := ssh.ConnectionFailed, plainText(err)
		if errors.Is(err, errDenied) || errors.Is(err, errRevoked) || errors.Is(err, errExpired) || errors.Is(err, sshchan.ErrPayload) {
			reason = ssh.Prohibited
		}
		in.reject(reason, text)
		return false
	}
	if nc, ok := in.(carrier); ok {
		if fd, ok := detach(target); ok {
			c.carry(nc, fd, 0, to)
			return true
		}
	}
	defer target.Close()
	ch, requests, err := in.accept()
	if err != nil {
		return false
	}
	f := c.newFlow(in.kind(), to.String())
	f.begin(closing{target})
	defer f.finish()
	stop := context.AfterFunc(ctx, func() { target.Close() })
	defer stop()
	carry(ch, requests, target, f)
	return false
}

func (c *client) noteRefusal(to sshchan.Place, err error) {
	if leftOut, ok := c.quiet.may(); ok {
		c.log.Info("channel refused", "to", to.String(), "error", err, keyLeftOut, leftOut)
	}
}

// plainText is an error for the client's eyes: what happened, not to whom.
func plainText(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err.Error()
}

// permitted reports whether the client may go to a place. addr is its address where the client named one; lookup says that this
// is not all: a name's addresses have to be permitted, too.
func (c *client) permitted(to sshchan.Place) (addr netip.Addr, lookup bool, err error) {
	r, err := c.rights()
	if err != nil {
		return addr, false, err
	}
	if !r.mayOpen(to) {
		return addr, false, fmt.Errorf("%w by the key", errDenied)
	}
	o := &c.server.o
	if to.Path != "" {
		if o.Policy.Judge("", netip.Addr{}, 0) == forward.Denied || isOneOf(to.Path, o.ClosedSockets) {
			return addr, false, errDenied
		}
		return addr, false, nil
	}
	verdict := forward.Open
	host := plainHost(to)
	if addr, err = netip.ParseAddr(host); err == nil {
		verdict = o.Policy.Judge("", addr, to.Port)
	} else if lookup = speaksOfNetworks(o.Policy); !lookup {
		verdict = o.Policy.Judge(host, netip.Addr{}, to.Port)
	}
	if verdict == forward.Denied {
		return addr, false, errDenied
	}
	return addr, lookup, nil
}

// plainHost is the host as rules have it.
func plainHost(to sshchan.Place) string { return strings.TrimSuffix(strings.ToLower(to.Host), ".") }

// dial authorises a destination and connects to it. What was authorised is what is dialled: where addresses matter, the name
// is looked up once and an address goes to Dial.
func (c *client) dial(ctx context.Context, to sshchan.Place) (net.Conn, error) {
	addr, lookup, err := c.permitted(to)
	if err != nil {
		return nil, err
	}
	o, port := &c.server.o, strconv.Itoa(int(to.Port))
	switch {
	case to.Path != "":
		return o.Dial(ctx, c.from, "unix", to.Path)
	case addr.IsValid():
		return o.Dial(ctx, c.from, "tcp", net.JoinHostPort(addr.String(), port))
	case !lookup:
		return o.Dial(ctx, c.from, "tcp", net.JoinHostPort(to.Host, port))
	}
	addrs, err := o.Lookup(ctx, to.Host)
	if err != nil {
		return nil, err
	}
	host := plainHost(to)
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return o.Policy.Judge(host, a, to.Port) == forward.Denied })
	if len(addrs) == 0 {
		return nil, errDenied
	}
	return c.dialFirst(ctx, addrs, port)
}

// dialFirst connects to the first address that answers.
func (c *client) dialFirst(ctx context.Context, addrs []netip.Addr, port string) (conn net.Conn, err error) {
	for _, a := range addrs {
		one, cancel := context.WithTimeout(ctx, addressTime)
		conn, err = c.server.o.Dial(one, c.from, "tcp", net.JoinHostPort(a.Unmap().String(), port))
		cancel()
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
	}
	return nil, err
}

func speaksOfNetworks(p forward.Policy) bool {
	network := func(r forward.Rule) bool { return r.Prefix.IsValid() }
	return slices.ContainsFunc(p.Permit, network) || slices.ContainsFunc(p.Deny, network)
}

// mayOpen is what the key says. Hosts are compared as they are written, as sshd does; of addresses the spelling is no matter.
func (r *Rights) mayOpen(to sshchan.Place) bool {
	if !r.forwarding || r.open == nil {
		return r.forwarding
	}
	return slices.ContainsFunc(r.open, func(p place) bool {
		if to.Path != "" {
			return p == place{host: "*"}
		}
		return (p.port == 0 || p.port == to.Port) && (p.host == "*" || sameHost(p.host, to.Host))
	})
}

func sameHost(a, b string) bool {
	if strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, ".")) {
		return true
	}
	x, err := netip.ParseAddr(a)
	y, err2 := netip.ParseAddr(b)
	return err == nil && err2 == nil && x.Unmap() == y.Unmap()
}

// isOneOf reports whether path leads to one of the files, by whatever way.
func isOneOf(path string, files []string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return slices.Contains(files, path)
	}
	return slices.ContainsFunc(files, func(name string) bool {
		other, err := os.Stat(name)
		return err == nil && os.SameFile(info, other)
	})
}
