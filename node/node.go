// Package node says what a node is: a place that can listen and dial. This host is one; each other kind has a directory
// below this one, and none of them imports another.
//
// Only the interfaces and the facts about kinds belong here. What listens and dials, and how, belongs to the kinds; which
// node a forward uses is decided elsewhere.
package node

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"github.com/fairlead-net/fairlead/forward"
)

// A Node listens and dials streams. Networks are "tcp", "tcp4", "tcp6" and, where Caps.Unix says so, "unix"; addresses are
// as in package net, and names in them are resolved by the node. Connections have a CloseWrite method, so that one
// direction can end before the other.
//
// The ctx of Listen covers opening only; the listener lives until it is closed. Listeners and connections belong to the
// caller, who closes them.
type Node interface {
	Listen(ctx context.Context, network, addr string) (net.Listener, error)
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
}

// A PacketNode carries datagrams too. Networks are "udp", "udp4" and "udp6". A datagram is one Read and one Write.
type PacketNode interface {
	ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error)
	DialPacket(ctx context.Context, network, addr string) (net.Conn, error)
}

// A SocketNode dials with sockets of this machine's kernel, and can do so without waiting for the answer.
type SocketNode interface {
	// Connect starts a TCP connection, or connects a UDP socket, and returns the socket, which does not block and belongs to
	// the caller. Whether a TCP connection came about is told by the socket: it becomes writable (connect(2), EINPROGRESS).
	// Errors are those of system calls.
	Connect(to netip.AddrPort, o ConnectOptions) (fd int, err error)
}

// A SourceNode is a Node that can dial from addresses that are not its own. That answers to such an address find their way
// to it is the caller's business.
type SourceNode interface {
	// DialFrom is Dial or, for the networks "udp", "udp4" and "udp6", DialPacket, from the address from, and from its port
	// where that is free. The target has to be of the same family.
	DialFrom(ctx context.Context, from netip.AddrPort, network, addr string) (net.Conn, error)
}

// A Sharer is a Node of this machine where somebody else listens at some places and passes on those who are for others.
type Sharer interface {
	// SharedPort is the port of those places; 0: there are none.
	SharedPort() uint16
	// Shares reports whether a listener at an address of package net, over TCP, gets its clients by way of somebody else now. It is no
	// syscall.Conn then.
	Shares(addr string) bool
}

// A Namer is a Node that can listen for those clients alone who call one of several names by TLS or HTTP, on a port that others may
// share with them.
type Namer interface {
	// ListenNamed is Node.Listen for the clients of door, which has names and one port.
	ListenNamed(ctx context.Context, door forward.Door) (net.Listener, error)
}

// ConnectOptions are how a connection is made; the zero value is the ordinary way.
type ConnectOptions struct {
	Packets bool // UDP instead of TCP: the socket is connected at once, and nothing is sent
	// From is the address that the connection comes from, which need not be one of this machine, and the port, where that
	// is free. Zero leaves both to the system.
	From     netip.AddrPort
	FastOpen bool // the first bytes go with the SYN where the target is known to take them (RFC 7413)
	// HoldACK holds the last segment of the handshake back for the first bytes to go with, as long as TCP_DELACK_MAX (200 ms).
	// A caller who finds himself without any sets TCP_QUICKACK, and it goes at once.
	HoldACK bool
}

// A Binder is a Node that can open its listeners under conditions that an address does not express.
type Binder interface {
	// Bind returns the same node with every listener that it opens held to b. It is a PacketNode if the first one is.
	Bind(b Binding) Node
}

// A Binding is the conditions under which a listener is opened.
type Binding struct {
	// Interface takes in only what arrives there; "" is any interface.
	Interface string
	// Beside are the caller's own open listeners on the same port, for another address or another interface. Without
	// them such a port counts as busy, as one that somebody else holds does.
	Beside []syscall.Conn
}

// Caps is what a kind of node can do, so that a forward that asks for more is refused before anything is opened. The zero
// Caps is a node that carries TCP.
type Caps struct {
	Packets    bool // UDP: the node is a PacketNode
	Unix       bool // listens on and dials unix stream sockets
	Interfaces bool // Binding.Interface works: the node is a Binder
	Sources    bool // dials from addresses that are not its own: the node is a SourceNode
}
