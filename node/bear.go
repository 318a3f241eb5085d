package node

import (
	"net"
	"net/netip"
	"time"
)

// A Bearer is a connection of a node's that moves bytes between itself and a socket of this machine by itself, with less ado
// than somebody who reads one and writes the other.
type Bearer interface {
	net.Conn
	// Bear takes over the socket fd, which must not block and then belongs to the connection, as the connection itself does
	// from then on. It returns at once; false is that it cannot, and that both are the caller's as before. The end of one
	// direction is passed on alone, and the death of one side to the other as a reset.
	Bear(fd int, o BearOptions) (Borne, bool)
}

// A Leader is a Node that connects on behalf of a client and bears the client's socket, without anybody waiting for it.
type Leader interface {
	// Lead takes over the socket fd, connects as DialFor does, and bears the socket from then on. It returns at once; false is that
	// it cannot now, and the socket is the caller's as before. Bytes that the client sends meanwhile wait in the socket. With First,
	// network and addr are not looked at.
	Lead(fd int, client netip.AddrPort, network, addr string, o LeadOptions) (Borne, bool)
}

// A Doorway is a Node that leads to one place, whatever address is dialled. Of several addresses of a target the first will do.
type Doorway interface {
	Node
	OneDoor()
}

// LeadOptions are how a Leader leads. One of Connected and Failed is called first, unless Kill comes before or the client leaves; Ended is
// the last in any case. None of them may wait for anything.
type LeadOptions struct {
	BearOptions
	Timeout   time.Duration // to connect
	Connected func()
	Failed    func(error) // as DialFor would; the client is reset, or with First the socket is the caller's again
	First     *First      // nil: it is known where the client goes
	// Left may be called instead of all others when the connection has ended before the far end answered, and DialFor would wait for the next
	// one. The socket is the caller's again. nil is that Failed says so. With First it is First's.
	Left func()
}

// First is how a client is asked where it goes. Its functions are not to wait for anything.
type First struct {
	// Ask is called when the socket can be read, which it does to the end, until it knows the address, which is TCP.
	Ask func() (addr string, next Next)
	// Left is called instead of all others when the node does not go on: Ask wanted to leave, or the connection has ended before the
	// far end answered. The socket is the caller's again.
	Left     func()
	Patience time.Duration // with the client, who is reset then
}

// Next is what Ask wants to be done.
type Next uint8

// What comes next with a client who was asked.
const (
	AskAgain Next = iota // when it has said more
	Asked
	Leave
)

// A Greeter is a listener of a node's that shows what arrives before Accept does.
type Greeter interface {
	net.Listener
	// Greet has greet called for every Arrival from now on. It must not wait for anything; false leaves the arrival to Accept.
	Greet(greet func(Arrival) bool)
}

// An Arrival is a connection that a Greeter has yet to accept. Who greets it calls Meet or Refuse, once.
type Arrival interface {
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
	// Meet takes over the socket fd, whose connect is under way, accepts the connection when that has succeeded, and bears the
	// socket from then on. It returns at once.
	Meet(fd int, o MeetOptions) Borne
	Refuse()
}

// MeetOptions are how an Arrival is met. Ended is called last in any case, and none of them may wait for anything.
type MeetOptions struct {
	BearOptions
	Timeout   time.Duration // to connect
	Connected func()
	// Failed says why the socket, which is closed, did not connect. It returns the next to try and how long that may take, or a
	// negative one: the arrival is refused.
	Failed func(error) (fd int, timeout time.Duration)
}

// BearOptions are how a Bearer carries a socket.
type BearOptions struct {
	Idle     time.Duration // without a byte either way for so long it is ended; 0 is never
	From, To Limit         // what is held to: bytes from the socket, bytes to it; nil is none
	Ended    func(Borne)   // called once, when everything has been closed; not nil, and not to wait for anything
}

// A Limit is what one direction is held to. It is called from anywhere.
type Limit interface {
	// Slice is how many bytes to move in one turn; 0 is no limit.
	Slice() int
	// Pay takes n bytes into account that are about to pass, and returns how long it is until their turn.
	Pay(n int64) time.Duration
}

// Borne is a socket that a Bearer carries.
type Borne interface {
	Moved() (from, to uint64) // bytes read from the socket, and written to it
	Kill()                    // ends it abruptly; Ended follows
}

// A Lasting socket is borne on by another process when this one ends in its favour. There it is known again by its ticket.
type Lasting interface {
	Borne
	Ticket() string
}
