package relay

import (
	"fmt"
	"iter"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/engine"
)

// HandoverFormat is the version of Handover: a process takes what one of the same version leaves.
const HandoverFormat = 3

// A Handover is what a relay leaves to the process that comes after it, beside descriptors that stay open: listening
// sockets with the clients in their queues, and sessions with what is on its way. It is plain data, for any encoding.
type Handover struct {
	Listeners []HandedListener
	Sessions  []HandedSession
	Borne     []HandedBorne
	Clients   []HandedClient
	Flows     []HandedFlow
	NextID    uint64
}

// A HandedListener is a listening socket.
type HandedListener struct {
	Place HandedPlace
	FD    int
}

// A HandedPlace is where a socket listens.
type HandedPlace struct {
	Node      string
	Network   forward.Networks
	Addr      netip.Addr
	Port      uint16
	Interface string
	Path      string
	Picker    string // of a place on another node that picks the port: the forward
	Names     string // of one that tells clients apart by name: those, with commas between them
	TLS       forward.TLS
	Redirect  bool
}

// A HandedStream is what is known of a stream, whoever moves its bytes.
type HandedStream struct {
	ID      uint64
	Forward string
	Place   HandedPlace
	Client  netip.AddrPort // as shown
	Peer    netip.Addr     // as admitted
	Local   netip.Addr
	Since   int64 // Unix time, nanoseconds
	Target  string
	Kept    bool      // began with source = "keep"
	Where   string    // the address that was dialled
	Host    string    // whom the client called by name, where that mattered
	Earlier [2]uint64 // bytes of earlier processes, by the side where they began
}

// A HandedSession is a stream with both its connections.
type HandedSession struct {
	HandedStream
	FD     [2]int  // client, target
	Unix   [2]bool // sockets that are not TCP
	Frozen engine.Frozen
}

// A HandedBorne is a stream that a node carries. Its socket is among what the node has left, by a ticket: see Relay.Adopt.
type HandedBorne struct {
	HandedStream
	Ticket   string
	AtTarget bool // the socket is the target's; else the client's
	Idle     time.Duration
}

// A HandedClient is one that was taken in and has no target yet.
type HandedClient struct {
	Place  HandedPlace
	Client netip.AddrPort
	FD     int
	Said   []byte // read already, to find out whom the client calls
}

// A HandedFlow is a UDP flow with its connected socket.
type HandedFlow struct {
	Place    HandedPlace
	Peer     netip.AddrPort // whom datagrams come from
	Local    netip.Addr     // and where they come to
	From     []byte         // the peer as the kernel writes it
	Target   string
	Where    string    // the address that was dialled
	Answered bool      // by the target
	Earlier  [2]uint64 // bytes so far: from the client, from the target
	FD       int
}

// leaveTime is how long Run waits, when it leaves, for clients that are just being dialled for: their state is in
// goroutines and cannot be handed over. After dialTimeAtEnd those of whom no more was read than whom they call are handed over
// as clients who have just come: their target, or the node that dials it, is away.
const (
	leaveTime     = 5 * time.Second
	dialTimeAtEnd = time.Second
)

// Descriptors is every descriptor that h speaks of.
func (h *Handover) Descriptors() []int {
	var fds []int
	for fd := range h.descriptors() {
		fds = append(fds, *fd)
	}
	return fds
}

// Renumber has h speak of other descriptors, given in the order of Descriptors: the same sockets by the numbers that they
// have in another process.
func (h *Handover) Renumber(fds []int) error {
	if want := len(h.Descriptors()); want != len(fds) {
		return fmt.Errorf("there are %d descriptors, and %d are spoken of", len(fds), want)
	}
	for fd := range h.descriptors() {
		*fd, fds = fds[0], fds[1:]
	}
	return nil
}

func (h *Handover) descriptors() iter.Seq[*int] {
	return func(yield func(*int) bool) {
		for i := range h.Listeners {
			if !yield(&h.Listeners[i].FD) {
				return
			}
		}
		for i := range h.Sessions {
			if s := &h.Sessions[i]; !yield(&s.FD[0]) || !yield(&s.FD[1]) {
				return
			}
		}
		for i := range h.Clients {
			if !yield(&h.Clients[i].FD) {
				return
			}
		}
		for i := range h.Flows {
			if !yield(&h.Flows[i].FD) {
				return
			}
		}
	}
}

func (p place) handed() HandedPlace {
	return HandedPlace{p.node, p.network, p.addr, p.port, p.iface, p.path, p.picker, p.called.hosts, p.called.tls, p.called.redirect}
}

func (h HandedPlace) place() place {
	return place{node: h.Node, network: h.Network, addr: h.Addr, port: h.Port, iface: h.Interface, path: h.Path, picker: h.Picker, called: called{h.Names, h.TLS, h.Redirect}}
}

// unanswered are clients whom nodes have given back while the relay leaves: the far end had not answered yet.
type unanswered struct {
	mu   sync.Mutex
	open bool
	list []HandedClient
}

func (u *unanswered) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open = true
}

// add takes a client, and false when the relay does not leave.
func (u *unanswered) add(c HandedClient) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open {
		u.list = append(u.list, c)
	}
	return u.open
}

// end is all that have come.
func (u *unanswered) end() []HandedClient {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open = false
	return u.list
}

// Leave has Run, when its ctx ends, leave everything open for the next process rather than close it. Left then says what.
func (r *Relay) Leave() { r.leaving.Store(true) }

// Left is what Run has left after Leave, nil when it has not ended yet or this system cannot hand anything over.
func (r *Relay) Left() *Handover { return r.left.Load() }
