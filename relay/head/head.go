// Package head says what a head is: a protocol in which each client of a dynamic forward says where it wants to go. The kinds
// are below this directory; none of them imports another, nor the relay.
//
// A head reads what a client says and writes what the protocol answers, and knows nothing of policies, nodes and limits: all
// that it wants done it asks of its Env. What clients say is foreign bytes, so every parser here is bounded and fuzzed, and the
// relay sets the deadline by which a client must have said where it goes.
package head

import (
	"context"
	"errors"
	"net"
)

// A Head serves one client, from its first byte to the moment when bytes are all that is left to carry. It answers the client
// in its protocol in every case, refusals included; the error is for the log and the counters. It closes nothing that it was
// given. The client's deadlines have to work: a head ends its own reading by them, once the client is settled, and one that
// carries requests sets them for each. The ctx of Env's methods ends no later than Serve; what they opened lives on.
type Head interface {
	Serve(ctx context.Context, client net.Conn, env Env) (Outcome, error)
}

// A Prompt is a Head that waits for nothing but its client and its Env, and gives the same answers to the same words. So it can serve a
// client from the beginning, each time that this has said more, and nobody has to wait for the client.
type Prompt interface {
	Head
	Prompt()
}

// An Outcome is what is left to do when a Head has returned without an error. The zero Outcome is nothing: the client was
// served to its end, as by a head for HTTP, which looks at each request.
type Outcome struct {
	Target net.Conn // what to carry the client's bytes to, from now on both ways; the caller's to close
	Ahead  []byte   // what the client has sent beyond what the head needed; it goes to Target first
}

// An Env is what a Head has done for it on behalf of one client. Errors are those below, wrapped, or those of the system.
type Env interface {
	// NeedsLogin reports whether the client has to log in before anything else.
	NeedsLogin() bool
	// Login checks a name and a password; nil is right, and then that user's rights hold for what comes. It takes longer the
	// more often a source was wrong. After an error the client is answered and sent away.
	Login(ctx context.Context, user, password string) error
	// Dial connects to a host, an IP address or a name that the node looks up which dials, on behalf of the client and within
	// what it may. The network is "tcp". Conn has CloseWrite.
	Dial(ctx context.Context, network, host string, port uint16) (net.Conn, error)
	// Listen opens a port for one connection from a host (SOCKS BIND), within what the client may. The address of the
	// listener is the one that the client can tell its peer.
	Listen(ctx context.Context, host string, port uint16) (net.Listener, error)
	// ListenPacket opens a port on which the client alone sends datagrams, beside the address of this host that it called
	// (UDP ASSOCIATE). Relay it with Packets.
	ListenPacket(ctx context.Context) (net.PacketConn, error)
	// Packets opens what datagrams to targets leave from, and answers come in at. WriteTo takes a Destination.
	Packets(ctx context.Context) (PacketTarget, error)
	// Settled tells that the client has said where it goes: the deadline for that is lifted. Dial and the others do so, too.
	Settled()
	// Count adds bytes that the head has carried itself: in from the client, out to it.
	Count(in, out int)
}

// A PacketTarget sends datagrams to targets on behalf of one client, within what it may, and receives what they answer.
type PacketTarget interface {
	// Send sends one datagram. A target that the client may not reach, or that is not found, is an error; it costs that
	// datagram alone.
	Send(ctx context.Context, payload []byte, host string, port uint16) error
	// Receive waits for a datagram from a target that was sent to before, and says from where it is.
	Receive(buffer []byte) (n int, from net.Addr, err error)
	Close() error
}

// What Env answers for reasons that are not the system's. Match them with errors.Is.
var (
	ErrDenied   = errors.New("the policy does not permit this destination")
	ErrLogin    = errors.New("wrong name or password")
	ErrNotFound = errors.New("the name of the target is not known")
	ErrUnfit    = errors.New("the node that dials cannot do this")
)
