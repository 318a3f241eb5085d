package portmap

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A Protocol is how a client speaks. It is the second half of the origin of its leases ("lease:pcp").
type Protocol string

// The protocols.
const (
	UPnP   Protocol = "upnp"
	NATPMP Protocol = "natpmp"
	PCP    Protocol = "pcp"
)

// A Key names a mapping for ever, whatever its external port: one transport of one internal port of one host.
type Key struct {
	Network  forward.Networks // TCP or UDP
	Internal netip.AddrPort   // IPv6: the mapping is a pinhole, and External is the same
}

// A Request is a mapping that a client asks for, whatever the protocol.
type Request struct {
	Protocol Protocol
	Key
	Client    netip.Addr     // who asks: the source of the packet or connection, not what it says
	Interface string         // by which it came in
	External  uint16         // the port that it would like; 0: any
	Exact     bool           // that port or none (PREFER_FAILURE, AddPortMapping)
	Lifetime  time.Duration  // as asked for; 0 means the longest there is. What ends a mapping is an Unmap
	Nonce     [12]byte       // of PCP; zero for the others
	From      []netip.Prefix // who may come in: PCP's FILTER, UPnP's RemoteHost; none is everybody
	Describe  string         // what the client says that it is for; any bytes
	Disabled  bool           // kept, shown, and leads nowhere (UPnP's NewEnabled = 0)
}

// A Mapping is a lease as it stands.
type Mapping struct {
	Request
	Name    string         // of the forward
	Public  netip.AddrPort // where clients come in; an unspecified address while none is known
	Expires time.Time      // zero: never
	Asking  bool           // it leads nowhere until somebody approves it
}

// An Alteration is what befell a mapping without its client: it ended, or it is reached elsewhere.
type Alteration struct {
	Mapping
	Gone bool
}

// A Result is the outcome of one Request.
type Result struct {
	Mapping
	Err error // one of those below, perhaps wrapped; nil: granted
}

// Why a mapping is refused. Each protocol has codes of its own for them.
var (
	ErrDenied     = errors.New("not allowed")                      // by the operator's lists, or it is somebody else's
	ErrConflict   = errors.New("the external port is taken")       // of an Exact request
	ErrQuota      = errors.New("the client has too many mappings") //
	ErrFull       = errors.New("no more mappings can be made")     // all ports are taken, or the table is full
	ErrNoExternal = errors.New("there is no external address")     //
	ErrNonce      = errors.New("the mapping has another nonce")    // of a third party
	ErrNotFound   = errors.New("there is no such mapping")         //
	ErrFailed     = errors.New("the mapping could not be made")    // the carrier refused it
)

// A Desk is where mappings are asked for. Its methods may be called from anywhere. Those that only look do not wait for a change that is
// under way.
type Desk interface {
	// Map makes or renews mappings, in one change of the system for all of them, and returns when they are in force: a Result for
	// each request, in its place.
	Map(ctx context.Context, requests []Request) []Result
	// Unmap ends the mapping of key, asked for by client. One that is not there is no error: that is what was wished for.
	Unmap(ctx context.Context, client netip.Addr, key Key) error
	// UnmapAt ends the mapping that an external port leads to: of several that a client of UPnP has for one internal port, one.
	UnmapAt(ctx context.Context, client netip.Addr, network forward.Networks, external uint16) error
	// UnmapAll ends every mapping of a host's transport that was made by the protocol (RFC 6886, section 3.4).
	UnmapAll(ctx context.Context, client netip.Addr, network forward.Networks, p Protocol) error
	// At is the mapping that an external port leads to, ByKey that of an internal one.
	At(network forward.Networks, external uint16) (Mapping, bool)
	ByKey(key Key) (Mapping, bool)
	// Of is the mappings of a client in a fixed order; all of them for an invalid address.
	Of(client netip.Addr) []Mapping
	// External is the address that IPv4 mappings are reached at, invalid while there is none, and whether it is one that the
	// internet reaches: not private, CGNAT's or reserved.
	External() (addr netip.Addr, public bool)
	// Epoch is the seconds since mappings were last lost, the external address became another one (RFC 6887, section 8.5), or the
	// program first started with none.
	Epoch() uint32
	// Altered is what befell mappings of PCP that their clients did not ask for, since it was asked for last, and a channel that has
	// something when there is more. It is for one who asks.
	Altered() ([]Alteration, <-chan struct{})
	// Changed is closed when the external address is another, or the mappings were lost; then there is a new one.
	Changed() <-chan struct{}
}
