package tunnel

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"
)

// A Link is one connection between a hub and an agent, encrypted, and authenticated: each end has proven that it has the private
// key of the other's Peer. It may be used from anywhere.
type Link interface {
	Transport() string      // "quic", "tls" or "wss"
	Peer() Key              // of the other end
	Remote() netip.AddrPort // whom the packets come from: the other end, or the last proxy before it

	// Open begins another lane. The first one of a link is opened by the agent. ErrOneLane where the transport has but that.
	Open(ctx context.Context) (Lane, error)
	// Accept waits for a lane that the other end has begun.
	Accept(ctx context.Context) (Lane, error)

	// Datagram sends p, which does not begin with a zero and may be lost. It does not wait, and does not keep p. A *TooLargeError says what would fit now;
	// errors.ErrUnsupported that the transport has none.
	Datagram(p []byte) error
	// Datagrams calls got for each datagram that comes, until the link ends. got must not keep what it is given.
	Datagrams(got func(p []byte)) error

	RTT() time.Duration    // of the transport, smoothed; 0: it does not know
	Done() <-chan struct{} // closed when the link has ended
	Err() error            // why, once it has
	Close() error          // ends it, with all lanes
}

// A Sider is a Link that may have lanes beside it, over connections of their own, each for one end to write. They are for streams that send a
// lot, and are no part of the link: one that dies takes nothing along.
type Sider interface {
	Link
	// Side makes one for this end to write. The hub's end calls ask, and waits until the agent has brought it.
	Side(ctx context.Context, ask func()) (Lane, error)
	// Bring makes one for the other end to write; the agent's.
	Bring(ctx context.Context) error
	// NotBrought is that the agent has answered that it brings none; the hub's. Who has waited longest waits no more.
	NotBrought()
	// Detour is the connection that the first lane can go on over, both ways: the agent makes it, and the hub waits for it. ErrOneLane where it would be no
	// better than the link.
	Detour(ctx context.Context) (Lane, error)
	// Sides has got called for each one that is for this end to read.
	Sides(got func(Lane))
}

// A Lane is an ordered, reliable stream of bytes of a link: a TCP connection, or a stream of QUIC. One goroutine reads and one
// writes. What is written may wait until Flush. A lane of which a deadline has passed (os.ErrDeadlineExceeded) may be of no more use.
type Lane interface {
	io.Reader
	io.Writer
	Flush() error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error // both directions, at once
}

// An Awaiter is a Lane that says when Read has something to say, so that nobody needs to hold a buffer meanwhile.
type Awaiter interface{ Await() }

// ErrOneLane is that a transport has one lane, which is there already.
var ErrOneLane = errors.New("this transport has one lane")

// A TooLargeError is that a datagram does not fit into a packet of the path.
type TooLargeError struct{ Max int } // what does, in bytes

func (e *TooLargeError) Error() string { return "the datagram is too large for the path" }
