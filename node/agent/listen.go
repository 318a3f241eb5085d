package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

const (
	acceptQueue = 512             // streams and flows that wait to be accepted; more are refused
	closeWait   = 2 * time.Second // for the other end to say that it has closed
)

// listeners are what this end has asked the other to listen for.
type listeners struct {
	mu    sync.Mutex
	next  uint64
	byID  map[uint64]*asking
	ended bool

	thawed []FrozenAsking               // that nobody has asked for in this process
	early  map[uint64][]*tunnel.Arrival // who has come to these, by their ids
}

// An asking is a place at which the other end listens for us, in each session anew.
type asking struct {
	far     *Far
	id      uint64
	network string
	at      forward.Door // as asked
	host    string       // of at, as asked

	queue  chan *tunnel.Arrival
	closed chan struct{}
	tended chan struct{} // closed when nobody tends it any more
	again  chan struct{} // ask again at once; capacity 1
	greet  atomic.Pointer[func(node.Arrival) bool]

	mu      sync.Mutex
	session *session // in which the other end listens; nil: it does not
	state   node.State
	bound   netip.AddrPort
	chose   uint16 // the port that the other end picked, if it was asked to
	why     error  // of the end
	shutd   bool
	no      error // the last answer, if that was a no
	noes    int   // in a row
	ever    bool  // the other end has listened
}

// ask begins to listen. It does not wait.
func (f *Far) ask(ctx context.Context, network, addr string) (*asking, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.LookupPort(network, text)
	if err != nil {
		return nil, err
	}
	if host == "*" {
		host = ""
	}
	at, err := listenOf(network, host, uint16(port))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.name(), node.ErrUnfit, err)
	}
	return f.askFor(network, host, forward.Door{Listen: at})
}

// askFor begins to listen at a door. host is its address as it was asked for.
func (f *Far) askFor(network, host string, at forward.Door) (*asking, error) {
	port := firstPort(at)
	a := &asking{
		far: f, network: network, at: at, host: host, queue: make(chan *tunnel.Arrival, acceptQueue), closed: make(chan struct{}),
		tended: make(chan struct{}), again: make(chan struct{}, 1), state: node.State{Why: f.name() + " has not answered yet", Since: time.Now()},
		bound: netip.AddrPortFrom(shown(at.Addr), port),
	}
	if err := f.asked.add(a); err != nil {
		return nil, fmt.Errorf("%s: %w", f.name(), err)
	}
	if !f.later(a.tend) {
		a.shut(node.ErrClosed)
		f.asked.remove(a)
		return nil, fmt.Errorf("%s: %w", f.name(), node.ErrClosed)
	}
	return a, nil
}

// shown is an address of a listener for people: every address is ::.
func shown(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return netip.IPv6Unspecified()
	}
	return a
}

func (l *listeners) add(a *asking) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return node.ErrClosed
	}
	for _, other := range l.byID {
		if other.holds(a.at) {
			return fmt.Errorf("%s: %w", a.at, syscall.EADDRINUSE)
		}
	}
	if t, ok := l.thawedLocked(a); ok {
		a.id, a.chose = t.ID, t.Chose
	} else {
		l.next++
		a.id = l.next
	}
	l.byID[a.id] = a
	return nil
}

// holds reports whether a is the one that listens at a place.
func (a *asking) holds(at forward.Door) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	port := firstPort(at)
	return !a.shutd && port != 0 && port == a.bound.Port() && a.at.Networks == at.Networks && a.at.Addr == at.Addr && a.at.SameHosts(at)
}

func (l *listeners) remove(a *asking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, a.id)
}

func (l *listeners) find(id uint64) *asking {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

func (l *listeners) all() []*asking {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*asking, 0, len(l.byID))
	for _, a := range l.byID {
		list = append(list, a)
	}
	return list
}

// end closes all, for good.
func (l *listeners) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	for _, a := range l.all() {
		a.shut(node.ErrClosed)
	}
}

// retry has those that were refused ask again.
func (l *listeners) retry() {
	for _, a := range l.all() {
		a.askAgain()
	}
}

func (a *asking) askAgain() {
	select {
	case a.again <- struct{}{}:
	default:
	}
}

// arrived gives what a client has come for to the one who accepts it.
func (l *listeners) arrived(arrival *tunnel.Arrival) {
	a := l.find(arrival.Listener)
	if a == nil && l.tooEarly(arrival) {
		return
	}
	if a == nil || isFlow(arrival.Network) != (a.at.Networks == forward.UDP) {
		arrival.Refuse(tunnel.Refused, "nobody listens")
		return
	}
	if a.greets(arrival) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shutd {
		arrival.Refuse(tunnel.Refused, "nobody listens any more")
		return
	}
	select {
	case a.queue <- arrival:
	default:
		arrival.Refuse(tunnel.TooMany, "too many wait to be accepted")
	}
}

// closed is that the other end has closed a listener.
func (l *listeners) closed(s *session, c ClosedRequest) {
	a := l.find(c.ID)
	if a == nil {
		return
	}
	a.mu.Lock()
	mine := a.session == s
	a.mu.Unlock()
	if mine {
		a.down(c.Why)
		a.askAgain()
	}
}

// State says whether the other end listens.
func (a *asking) State() node.State {
	far := a.far.State()
	if !far.Up {
		return far // the listener learns of it a moment later
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	state := a.state
	if state.Up {
		state.Why = far.Why
	}
	return state
}

func (a *asking) up(s *session, addr netip.Addr, port uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shutd {
		return
	}
	a.session, a.state = s, node.State{Up: true, Since: time.Now()}
	a.no, a.noes, a.ever = nil, 0, true
	a.bound = netip.AddrPortFrom(shown(addr), port)
	if a.at.Ports.Ranges[0].First == 0 {
		a.chose = port
	}
	a.far.log.Log(context.Background(), a.far.NewsLevel(), "the other end listens", keyNode, a.far.name(), keyListen, a.at.Networks.String()+"/"+net.JoinHostPort(a.host, strconv.Itoa(int(port))))
}

func (a *asking) down(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.session = nil; !a.shutd {
		a.state = node.State{Why: why, Since: time.Now()}
	}
}

// refused notes a no.
func (a *asking) refused(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.no = err
	a.noes++
}

// Refused is how often in a row the other end has said that it does not listen, and what it said last.
func (a *asking) Refused() (times int, last error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.noes, a.no
}

// Ever reports whether the other end has listened, be it that it does so no longer.
func (a *asking) Ever() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ever
}

// where is the address that is bound.
func (a *asking) where() netip.AddrPort {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.bound
}

func (a *asking) end() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.why
}

// shut ends it here; false if it had been.
func (a *asking) shut(why error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.shutd {
		return false
	}
	a.shutd, a.why = true, why
	a.state = node.State{Why: "closed", Since: time.Now()}
	close(a.closed)
	return true
}

// close has the other end close, and waits a moment for that.
func (a *asking) close() error {
	if !a.shut(net.ErrClosed) {
		return net.ErrClosed
	}
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-a.tended:
	case <-t.C:
	}
	return nil
}

// Keys of log attributes.
const (
	keyNode   = "node"
	keyListen = "listen"
	keyTo     = "to"
	keyError  = "err"
)
