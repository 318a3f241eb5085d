package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// serveDirect opens one channel to where the client wants to go.
func (c *client) serveDirect(ctx context.Context, nc ssh.NewChannel, to sshchan.Place, err error) {
	var target net.Conn
	if err == nil {
		dialing, cancel := context.WithTimeout(ctx, dialTime)
		target, err = c.dial(dialing, to)
		cancel()
	}
	if err != nil {
		c.quiet.log(c.log, slog.LevelInfo, "channel refused", "to", to.String(), "error", err)
		reason, text := ssh.ConnectionFailed, plainText(err)
		if errors.Is(err, errDenied) || errors.Is(err, errRevoked) || errors.Is(err, errExpired) || errors.Is(err, sshchan.ErrPayload) {
			reason = ssh.Prohibited
		}
		_ = nc.Reject(reason, text)
		return
	}
	defer target.Close()
	channel, requests, err := nc.Accept()
	if err != nil {
		return
	}
	f := c.begin(nc.ChannelType(), to.String(), func() { target.Close() })
	defer c.finish(f)
	stop := context.AfterFunc(ctx, func() { target.Close() })
	defer stop()
	carry(channel, requests, target, f)
}

// plainText is an error for the client's eyes: what happened, not to whom.
func plainText(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err.Error()
}

// dial authorises a destination and connects to it. What was authorised is what is dialled: where addresses matter, the name
// is looked up once and an address goes to Dial.
func (c *client) dial(ctx context.Context, to sshchan.Place) (net.Conn, error) {
	r, err := c.rights()
	if err != nil {
		return nil, err
	}
	o := &c.server.o
	if !r.mayOpen(to) {
		return nil, fmt.Errorf("%w by the key", errDenied)
	}
	if to.Path != "" {
		if o.Policy.Judge("", netip.Addr{}, 0) == forward.Denied || isOneOf(to.Path, o.ClosedSockets) {
			return nil, errDenied
		}
		return o.Dial(ctx, c.from, "unix", to.Path)
	}
	host, port := strings.TrimSuffix(strings.ToLower(to.Host), "."), strconv.Itoa(int(to.Port))
	if addr, err := netip.ParseAddr(host); err == nil {
		if o.Policy.Judge("", addr, to.Port) == forward.Denied {
			return nil, errDenied
		}
		return o.Dial(ctx, c.from, "tcp", net.JoinHostPort(host, port))
	}
	if !speaksOfNetworks(o.Policy) {
		if o.Policy.Judge(host, netip.Addr{}, to.Port) == forward.Denied {
			return nil, errDenied
		}
		return o.Dial(ctx, c.from, "tcp", net.JoinHostPort(to.Host, port))
	}
	addrs, err := o.Lookup(ctx, to.Host)
	if err != nil {
		return nil, err
	}
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
