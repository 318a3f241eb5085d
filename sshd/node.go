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
	switch r, err := n.client.rights(); {
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", n.key, node.ErrRefused, err)
	case !r.mayListen(p.asked):
		return nil, fmt.Errorf("%s: %w: the key no longer permits to listen at %s", n.key, node.ErrRefused, p.asked)
	}
	kind, payload := channelForwardedUnix, ssh.Marshal(forwardedUnixMessage{Path: p.asked.path})
	if p.asked.path == "" {
		host, port := originOf(client)
		kind = channelForwarded
		payload = ssh.Marshal(forwardedMessage{p.asked.host, uint32(p.asked.port), host, port})
	}
	if !n.client.hold() {
		return nil, fmt.Errorf("%s: %w: its connection has as many channels as it may", n.key, node.ErrRefused)
	}
	opened := make(chan opening, 1)
	go n.openChannel(opened, kind, payload)
	select {
	case o := <-opened:
		if o.err != nil {
			n.client.release()
			return nil, n.failed(o.err)
		}
		return n.wrap(o, kind, p, client), nil
	case <-ctx.Done():
		go n.forsake(opened)
		return nil, fmt.Errorf("%s did not answer: %w", n.key, ctx.Err())
	}
}

// An opening is what came of the wish for a channel.
type opening struct {
	channel  ssh.Channel
	requests <-chan *ssh.Request
	err      error
}

func (n *clientNode) openChannel(opened chan<- opening, kind string, payload []byte) {
	channel, requests, err := n.client.conn.OpenChannel(kind, payload)
	opened <- opening{channel, requests, err}
}

// forsake waits for a channel that nobody wants any more. The client may take as long as its connection lives.
func (n *clientNode) forsake(opened <-chan opening) {
	defer n.client.release()
	if o := <-opened; o.err == nil {
		_ = o.channel.Close()
		ssh.DiscardRequests(o.requests)
	}
}

// wrap makes a connection of a channel, which counts as open until the client has let go of it.
func (n *clientNode) wrap(o opening, kind string, p *placed, client netip.AddrPort) net.Conn {
	f := n.client.begin(kind, p.bound.String(), nil)
	go n.untilClosed(o.requests, f)
	var local net.Addr = &net.UnixAddr{Name: p.asked.path, Net: "unix"}
	if p.asked.path == "" {
		local = net.TCPAddrFromAddrPort(client)
	}
	return sshchan.New(o.channel, nil, local, net.TCPAddrFromAddrPort(n.client.from))
}

// untilClosed answers requests until the channel is gone.
func (n *clientNode) untilClosed(requests <-chan *ssh.Request, f *flow) {
	ssh.DiscardRequests(requests)
	n.client.finish(f)
	n.client.release()
}

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
			if p.asked.path == addr {
				return p, nil
			}
		case p.asked.path != "" || firstPort(p.bound) != uint16(port):
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
func (n *clientNode) take(asked address) *placed {
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
