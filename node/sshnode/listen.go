package sshnode

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

const (
	acceptQueue = 512             // connections that wait for Accept; more are refused
	cancelWait  = 2 * time.Second // for a server to say that it has closed a port
	keepPort    = 5               // refusals after which a port that the server chose is let go
)

// A listener listens on the server whenever there is a connection to it. It is a node.Stated.
type listener struct {
	n       *Node
	network string // "tcp" or "unix"
	host    string // as the protocol has it, or the path
	port    uint32 // that was asked for
	text    string // for people

	queue  chan *incoming
	bound  chan net.Addr
	closed chan struct{}
	tended chan struct{} // closed when nobody tends it any more
	greet  atomic.Pointer[func(node.Arrival) bool]

	mu    sync.Mutex
	state node.State
	addr  net.Addr
	chose uint32 // the port that the server chose, if it was asked to
	why   error  // of the end
	shutd bool
}

var (
	_ node.Stated  = (*listener)(nil)
	_ node.Greeter = (*listener)(nil)
)

// Listen returns at once. What it returns listens whenever there is a connection, and again after each; State says whether
// it does. Its Bound method returns a channel with the address that was bound, each time that this changes: with port 0
// that is when Addr knows it. A host "" or "*" is every address of the server.
func (n *Node) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &listener{
		n: n, text: network + "/" + addr, queue: make(chan *incoming, acceptQueue), bound: make(chan net.Addr, 1),
		closed: make(chan struct{}), tended: make(chan struct{}), state: node.State{Why: "not tried yet", Since: time.Now()},
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, text, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		port, err := net.LookupPort(network, text)
		if err != nil {
			return nil, err
		}
		l.network, l.host, l.port = "tcp", bindHost(network, host), uint32(port)
		l.addr = boundAddr(l.host, l.port)
	case "unix":
		if addr == "" || len(addr) > maxPath {
			return nil, fmt.Errorf("unix/%s: that is no path of a socket", clean(addr))
		}
		l.network, l.host = "unix", addr
		l.addr = &net.UnixAddr{Net: "unix", Name: addr}
	default:
		return nil, fmt.Errorf("%s: an SSH server listens on tcp and unix only: %w", l.text, node.ErrUnfit)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return nil, fmt.Errorf("%s: %w", l.text, node.ErrClosed)
	}
	for other := range n.listeners {
		if other.same(l) {
			return nil, &net.OpError{Op: "listen", Net: network, Addr: l.addr, Err: syscall.EADDRINUSE}
		}
	}
	n.listeners[l] = true
	n.waiting = append(n.waiting, l)
	n.wake()
	return l, nil
}

// bindHost is the host of a listener in the protocol's words (RFC 4254, section 7.1): "" is every address.
func bindHost(network, host string) string {
	if host == "*" {
		host = ""
	}
	switch {
	case host == "" && network == "tcp4":
		return "0.0.0.0"
	case host == "" && network == "tcp6":
		return "::"
	}
	return host
}

func boundAddr(host string, port uint32) net.Addr {
	switch host {
	case "":
		return &net.TCPAddr{IP: net.IPv6unspecified, Port: int(port)}
	case "localhost":
		return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}
	}
	return hostAddr(host, port)
}

func (l *listener) same(other *listener) bool {
	l.mu.Lock()
	port := l.port
	if port == 0 {
		port = l.chose
	}
	l.mu.Unlock()
	return l.network == other.network && l.host == other.host && port == other.port && (port != 0 || l.network == "unix")
}

// State says whether the server listens.
func (l *listener) State() node.State {
	if away := l.n.State(); !away.Up {
		return away // the listener learns of it a moment later
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Bound has the address that was bound, each time that it changes.
func (l *listener) Bound() <-chan net.Addr { return l.bound }

func (l *listener) Addr() net.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addr
}

// Accept returns connections whose RemoteAddr is what the server says of the originator: a *net.TCPAddr if it is an IP
// address.
func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case <-l.closed:
			return nil, l.end()
		default:
		}
		select {
		case <-l.closed:
			return nil, l.end()
		case in := <-l.queue:
			if c, err := in.take(); err == nil {
				return c, nil
			} // else its connection has ended meanwhile
		}
	}
}

func (l *listener) end() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &net.OpError{Op: "accept", Net: l.network, Addr: l.addr, Err: l.why}
}

// Close has the server close the port, and waits a moment for that. Connections that were accepted go on.
func (l *listener) Close() error {
	if !l.shut(net.ErrClosed) {
		return &net.OpError{Op: "close", Net: l.network, Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.n.mu.Lock()
	delete(l.n.listeners, l)
	untended := false
	for i, w := range l.n.waiting {
		if w == l {
			l.n.waiting = append(l.n.waiting[:i], l.n.waiting[i+1:]...)
			untended = true
			break
		}
	}
	l.n.mu.Unlock()
	if untended {
		close(l.tended)
	}
	t := time.NewTimer(cancelWait)
	defer t.Stop()
	select {
	case <-l.tended:
	case <-t.C:
	}
	return nil
}

// shut ends Accept; false if it had been.
func (l *listener) shut(why error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutd {
		return false
	}
	l.shutd, l.why = true, why
	l.state = node.State{Why: "closed", Since: time.Now()}
	close(l.closed)
	return true
}

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}
