// Package host is the node that this machine is.
//
// Listeners and connections are the plain ones of package net, never wrapped: the relay's fast path (splice) needs the
// real *net.TCPConn. Which forwards use them, and what they do with the bytes, is not decided here.
package host

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/fairlead-net/fairlead/node"
)

// Caps is what this machine can do as a node.
func Caps() node.Caps {
	return node.Caps{Packets: true, Unix: true, Interfaces: canBindInterface, Sources: canDialFrom}
}

// ErrNoInterfaces is the answer to a Binding with an interface where the system cannot hold a socket to one.
var ErrNoInterfaces = errors.New("holding a listener to an interface needs Linux (SO_BINDTODEVICE)")

// A Node is this machine. The zero Node is ready.
type Node struct{ binding node.Binding }

var (
	_ node.Node       = (*Node)(nil)
	_ node.PacketNode = (*Node)(nil)
	_ node.Binder     = (*Node)(nil)
)

// New returns this machine.
func New() *Node { return &Node{} }

// Bind returns this machine with its listeners held to b.
func (n *Node) Bind(b node.Binding) node.Node { return &Node{binding: b} }

// Listen opens a *net.TCPListener or *net.UnixListener. An address without a host is every address, IPv4 and IPv6 in one
// socket where the system has both. A unix socket that a dead program left behind is replaced.
func (n *Node) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	if network == "unix" {
		return listenUnix(ctx, addr)
	}
	return beside(n.binding, func(lc *net.ListenConfig) (net.Listener, error) { return lc.Listen(ctx, network, addr) })
}

// ListenPacket opens a *net.UDPConn.
func (n *Node) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	return beside(n.binding, func(lc *net.ListenConfig) (net.PacketConn, error) { return lc.ListenPacket(ctx, network, addr) })
}

// Dial opens a *net.TCPConn or *net.UnixConn. Of a name's several addresses the first that answers is taken (RFC 8305).
func (n *Node) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialer().DialContext(ctx, network, addr)
}

// DialPacket opens a connected *net.UDPConn, which is the one kind that learns of ICMP errors.
func (n *Node) DialPacket(ctx context.Context, network, addr string) (net.Conn, error) {
	return dialer().DialContext(ctx, network, addr)
}

// dialer leaves Multipath TCP out, as listen does: its sockets do not splice as TCP ones do.
func dialer() *net.Dialer {
	d := &net.Dialer{}
	d.SetMultipathTCP(false)
	return d
}

// beside opens one listener under b. SO_REUSEADDR is package net's default for streams.
//
// Linux calls a port busy when one socket has the wildcard and another an exact address or an interface, although it then
// finds the right one for every packet. SO_REUSEPORT lifts that, but it also lets any other program of the same user join
// in that asks for it, so it is set on the caller's own sockets for the moment of opening only.
func beside[L any](b node.Binding, open func(*net.ListenConfig) (L, error)) (L, error) {
	lc := &net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prepare(c, b) }}
	lc.SetMultipathTCP(false)
	for _, other := range b.Beside {
		share(other, true)
	}
	l, err := open(lc)
	for _, other := range b.Beside {
		share(other, false)
	}
	if c, ok := any(l).(syscall.Conn); ok && err == nil && len(b.Beside) > 0 {
		share(c, false)
	}
	return l, err
}

// share sets or clears SO_REUSEPORT. A socket that refuses it is busy for the next one, which is error enough.
func share(c syscall.Conn, on bool) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = reusePort(raw, on)
	}
}
