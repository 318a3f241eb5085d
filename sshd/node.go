package sshd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// A clientNode is the node that a client is to those who listen for it: dialling opens a channel to it.
type clientNode struct {
	client *client
	key    string // KEYNAME

	placing sync.RWMutex // held while a listener is opened, until the client knows of it

	mu      sync.Mutex
	placed  map[string]*placed // by claim
	counter int
}

var (
	_ node.Node       = (*clientNode)(nil)
	_ node.Introducer = (*clientNode)(nil)
)

func newClientNode(c *client) *clientNode {
	return &clientNode{client: c, key: c.who.name, placed: map[string]*placed{}}
}

// Listen is nothing that a client can do.
func (n *clientNode) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, fmt.Errorf("%s: %w: an SSH client does not listen", n.key, node.ErrUnfit)
}

// Dial opens a channel for the listener at addr: the path of a unix socket, or a port, which may have the listener's
// address before it.
func (n *clientNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.DialFor(ctx, netip.AddrPort{}, network, addr)
}

// DialFor is Dial, and tells the client who is connecting. Like every channel it is held to what the key may at this moment.
func (n *clientNode) DialFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	p, err := n.find(network, addr)
	if errors.Is(err, node.ErrRefused) {
		// It may be so new that the client has not been told of it.
		n.placing.RLock()
		p, err = n.find(network, addr)
		n.placing.RUnlock()
	}
	if err != nil {
		return nil, err
	}
	kind, payload, err := n.message(p, client)
	if err != nil {
		return nil, err
	}
	if !n.client.hold() {
		return nil, fmt.Errorf("%s: %w: its connection has as many channels as it may", n.key, node.ErrRefused)
	}
	f := n.client.newFlow(kind, p.bound.String())
	e := ends{remote: net.TCPAddrFromAddrPort(n.client.from), gone: func() {
		f.finish()
		n.client.release()
	}}
	e.local = &net.UnixAddr{Name: p.asked.Path, Net: "unix"}
	if p.asked.Path == "" {
		e.local = net.TCPAddrFromAddrPort(client)
	}
	conn, err := n.client.peer.open(ctx, kind, payload, f, e)
	switch {
	case err == nil:
		f.begin(nil)
		return conn, nil
	case ctx.Err() != nil && err == ctx.Err():
		return nil, n.silent(err)
	}
	return nil, n.failed(err)
}

// message is what opens a channel for a listener, if the key still permits that.
func (n *clientNode) message(p *placed, client netip.AddrPort) (kind string, payload []byte, err error) {
	switch r, err := n.client.rights(); {
	case err != nil:
		return "", nil, fmt.Errorf("%s: %w: %w", n.key, node.ErrRefused, err)
	case !r.mayListen(p.asked):
		return "", nil, fmt.Errorf("%s: %w: the key no longer permits to listen at %s", n.key, node.ErrRefused, p.asked)
	}
	if p.asked.Path != "" {
		return sshchan.ForwardedUnix, ssh.Marshal(sshchan.ForwardedUnixChannel{Path: p.asked.Path}), nil
	}
	host, port := sshchan.OriginOf(client)
	return sshchan.Forwarded, ssh.Marshal(sshchan.TCPChannel{Host: p.asked.Host, Port: uint32(p.asked.Port), OriginHost: host, OriginPort: port}), nil
}

func (n *clientNode) silent(err error) error { return fmt.Errorf("%s did not answer: %w", n.key, err) }

func (n *clientNode) failed(err error) error {
	var refused *ssh.OpenChannelError
	switch {
	case !errors.As(err, &refused):
		return fmt.Errorf("%s: %w: %w", n.key, node.ErrAway, err)
	case refused.Reason == ssh.ConnectionFailed:
		return fmt.Errorf("%s: %w: %s", n.key, node.ErrFar, printable(refused.Message))
	}
	return fmt.Errorf("%s: %w: %s", n.key, node.ErrRefused, printable(refused.Message))
}

// printable is text from the far end, fit for a log.
func printable(s string) string { return strconv.QuoteToASCII(s[:min(len(s), 200)]) }

// find is the listener for which somebody dials.
func (n *clientNode) find(network, addr string) (*placed, error) {
	var host string
	var port uint64
	switch network {
	case "tcp", "tcp4", "tcp6":
		h, p, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return nil, err
		}
		host = h
	case "unix":
	default:
		return nil, fmt.Errorf("%s: %w: the network %q", n.key, node.ErrUnfit, network)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var found *placed
	for _, p := range n.placed {
		switch {
		case network == "unix":
			if p.asked.Path == addr {
				return p, nil
			}
		case p.asked.Path != "" || firstPort(p.bound) != uint16(port):
		case host != "" && p.bound.Addr.IsValid() && p.bound.Addr.String() == host:
			return p, nil
		case found == nil || !p.bound.Addr.IsValid():
			found = p
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%s: %w: it does not listen at %s", n.key, node.ErrRefused, addr)
	}
	return found, nil
}

func (n *clientNode) add(p *placed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.placed[p.claim] = p
}

func (n *clientNode) has(claim string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.placed[claim] != nil
}

// next numbers listeners whose port is picked.
func (n *clientNode) next() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counter++
	return n.counter
}

// take removes the listener that the client named so.
func (n *clientNode) take(asked sshchan.Place) *placed {
	n.mu.Lock()
	defer n.mu.Unlock()
	for claim, p := range n.placed {
		if p.asked == asked {
			delete(n.placed, claim)
			return p
		}
	}
	return nil
}

func (n *clientNode) takeAll() []*placed {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := slices.Collect(maps.Values(n.placed))
	clear(n.placed)
	return list
}
