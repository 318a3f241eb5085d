package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// A Remote is a Node that is reached over a connection, which comes and goes.
//
// Run keeps the connection up until ctx ends, and then closes it with all that depends on it. Dial waits for the connection
// as long as its context allows. Listen does not wait: what it returns listens whenever there is a connection, and is Stated.
type Remote interface {
	Node
	Stated
	Run(ctx context.Context) error
}

// A Stated knows whether it works at the moment.
type Stated interface{ State() State }

// A State is how something is doing that comes and goes.
type State struct {
	Up    bool
	Why   string    // in plain words, why it is not up: "bastion.example.com:22: connection refused; next try in 8s"; or what is strange although it is
	Since time.Time // of the state
}

// An Introducer is a Node that can tell the far end for whom it dials: SSH has a field for that (RFC 4254, section 7.2).
type Introducer interface {
	// DialFor is Dial for a client, who is zero when he has no address.
	DialFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error)
}

// A PacketIntroducer is a PacketNode that can do the same.
type PacketIntroducer interface {
	// DialPacketFor is DialPacket for a client, who is zero when he has no address.
	DialPacketFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error)
}

// What a node may answer for reasons that are not the system's. Match them with errors.Is.
var (
	ErrAway    = errors.New("the node is away")               // no connection came up in time
	ErrRefused = errors.New("the node refuses")               // it does not permit this
	ErrClosed  = errors.New("the node was closed")            // Run has ended
	ErrFar     = errors.New("the node could not connect")     // it tried, and says that the target cannot be reached
	ErrUnfit   = errors.New("the node cannot do this at all") // a network that it does not know, or the like
)
