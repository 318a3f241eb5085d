package tunnel

import (
	"log/slog"
	"net/netip"
	"time"
)

// Side says which end of a session this is.
type Side uint8

// The sides. The agent draws the id of the session and opens the first lane of each link.
const (
	Agent Side = iota
	Hub
)

// An ID names a session. The agent draws it.
type ID [16]byte

// Options is what a Session is made of.
type Options struct {
	Side    Side
	ID      ID
	Resume  time.Duration // how long it is kept without a link; 0: five minutes
	Window  int           // the most bytes of one stream and direction that may be on their way; 0: 4 MiB
	Streams int           // the most streams and flows that the other end may have open; 0: 65536
	Memory  int           // the most bytes of streams that are kept each way; 0: 64 MiB. Each stream may have 4 KiB besides, and all flows a quarter
	Handler Handler
	Log     *slog.Logger // nil: none
}

// A Handler decides about what the other end wants. Its methods are called one after the other and must not wait: what takes
// time is done by a goroutine of its own.
type Handler interface {
	// Opened is called for each stream and flow that the other end opens. The handler calls Accept, Meet or Refuse once.
	Opened(a *Arrival)
	// Asked is called for each request. reply is called once, from anywhere. A request may come twice, after a link was lost
	// before the reply arrived; the session sees to it that the handler gets it once.
	Asked(name string, payload []byte, reply func(payload []byte, err error))
}

// A Call is what somebody opens a stream or a flow for.
type Call struct {
	Kind     Kind
	Network  string         // "tcp", "tcp4", "tcp6", "unix", "udp", "udp4", "udp6"; the UDPs are flows
	Address  string         // for Dial: host:port or a path, resolved by the end that dials
	Listener uint64         // for Arrived: which, as the request said that opened it
	Client   netip.AddrPort // for whom; zero: unknown
	Local    netip.AddrPort // the address of the listener that the client called; zero: unknown
	Agent    string         // for Dial from an agent: which agent the hub is to have dial; "": the hub itself
}

// Kind is what a Call is for.
type Kind uint8

// The kinds of calls.
const (
	Dial    Kind = 1 + iota // connect to the address
	Arrived                 // a client has come to a listener that the other end asked for
)

// A Code says why something was not done: see docs/protocol.md.
type Code uint64

// The codes.
const (
	Done Code = iota
	Version
	Unknown
	Secret
	Gone
	Revoked
	Replaced
	Refused
	Unreachable
	Busy
	TooMany
	Unfit
	Protocol
	Shutdown
	Timeout
)

// An Error is what the other end answered. errors.Is knows it as node.ErrRefused, node.ErrFar and so on, by its code.
type Error struct {
	Code Code
	Text string
}
