package relay

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/relay/engine"
)

// errNotLed is that a client has to be served in the ordinary way.
var errNotLed = errors.New("the node does not lead this client by itself")

// A led is a stream that the node carries which dials, from accept to end.
type led struct {
	session
	relay *Relay
	gate  *gate
	fd    int    // the client's, which is the node's as long as that leads
	at    string // the target, as people see it
	burden
	opening atomic.Bool // counted as one who waits for the node
	over    atomic.Bool // what is held for it was given back
}

// A burden is what a node carries for a session, or is about to.
type burden struct {
	mu     sync.Mutex
	borne  node.Borne // nil until it is known
	killed bool
}

func (b *burden) is(borne node.Borne) {
	b.mu.Lock()
	b.borne = borne
	killed := b.killed
	b.mu.Unlock()
	if killed {
		borne.Kill() // which may call what has ended
	}
}

func (b *burden) kill() {
	b.mu.Lock()
	b.killed = true
	borne := b.borne
	b.mu.Unlock()
	if borne != nil {
		borne.Kill()
	}
}

func (b *burden) wasKilled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.killed
}

// now is what is carried, nil until it is known.
func (b *burden) now() node.Borne {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.borne
}

func (b *burden) isKnown() bool { return b.now() != nil }

// moved is how many bytes came from the socket and went to it.
func (b *burden) moved() (from, to uint64) {
	borne := b.now()
	if borne == nil {
		return 0, 0
	}
	return borne.Moved()
}

// lead has the node that dials for f connect the client and carry it, where it can: to a single target, to which nothing has to
// be said first, or to where a prompt head lets it go. It returns nil when the client is seen to, one way or the other, errChanged when the forward is another by now,
// and errNotLed.
func (g *gate) lead(fd int, client netip.AddrPort, local netip.Addr, t *task, f *forward.Forward) error {
	r := g.relay
	leader := r.leader(f, client.Addr())
	if leader == nil {
		return errNotLed
	}
	if f.Dynamic() != forward.HeadNone {
		return g.ask(fd, client, local, t, f, leader)
	}
	l := &led{session: g.newSession(client, local), relay: r, gate: g, fd: fd}
	to := addresses(f.To[0], f.TargetPort(f.To[0], l.place.port), &l.session)[0]
	l.at = to.String()
	switch err := g.enter(fd, t, l, f); err {
	case nil:
	case errFull:
		return nil
	default:
		return err
	}
	l.opening.Store(true)
	r.leading.Add(1)
	borne, ok := leader.Lead(fd, client, to.network, to.addr, node.LeadOptions{
		BearOptions: node.BearOptions{Idle: f.IdleTimeout, From: limitOf(&l.upload), To: limitOf(&l.download), Ended: l.ended},
		Timeout:     dialTime(f, true), Connected: l.connected, Failed: l.failed, Left: l.left,
	})
	if !ok {
		l.settled()
		l.letGo(l)
		return errNotLed
	}
	l.is(borne)
	return nil
}

// enter takes in a session that a node leads, or turns its client away if that is one too many.
func (g *gate) enter(fd int, t *task, l live, f *forward.Forward) error {
	err := t.enter(l, f)
	switch err {
	case nil:
		g.relay.held.Add(2)
		g.relay.wg.Add(1)
	case errFull:
		t.refuse()
		engine.Reset(fd)
	}
	return err
}

// leader is the node that dials for f, if it can lead clients of f by itself.
func (r *Relay) leader(f *forward.Forward, client netip.Addr) node.Leader {
	if f.ByName() || len(f.To) != 1 || f.SendProxy != 0 || f.Helper != forward.HelperNone || len(f.Wake.MACs) > 0 ||
		f.Source == forward.SourceKeep || f.Check.Kind != forward.CheckNone || len(f.AcceptProxy) > 0 && trusts(f.AcceptProxy, client) {
		return nil
	}
	n, err := r.nodes(f.DialsFrom())
	if err != nil {
		return nil
	}
	if _, remote := n.(node.Remote); remote && f.To[0].IsLocal() {
		return nil // it has two loopback addresses to try; a client of the SSH server knows its own listeners by their ports
	}
	leader, _ := n.(node.Leader)
	return leader
}

func (l *led) connected() {
	l.task.reached(&l.session, &l.f.To[0])
	l.settled()
}

func (l *led) failed(err error) {
	l.relay.noteDial(l.task, &DialError{Target: l.at, Err: err})
}

func (l *led) ended(moved node.Borne) {
	l.is(moved)
	l.settled()
	if l.over.CompareAndSwap(false, true) {
		l.letGo(l)
	}
}

// settled is that the node waits for no answer any more.
func (l *led) settled() {
	if l.opening.CompareAndSwap(true, false) {
		l.relay.leading.Add(-1)
	}
}

// left has the client wait in a goroutine until the node has somebody to ask again, or in the next process.
func (l *led) left() {
	l.relay.wg.Add(1)
	defer l.relay.wg.Done()
	l.over.Store(true)
	l.letGo(l)
	defer l.settled()
	switch {
	case l.wasKilled():
		engine.Reset(l.fd)
	case l.relay.unanswered.add(HandedClient{Place: l.place.handed(), Client: l.client, FD: l.fd}):
	default:
		l.gate.slow(l.fd, nil)
	}
}

// freeze writes the session down for the next process. Its node has frozen it; one that is the node's alone ends.
func (l *led) freeze(h *Handover) {
	if l.target != nil && h.addBorne(&l.session, l.now(), &l.over, l.where(), false) {
		l.letGo(l)
	}
}

// letGo gives back what was taken for the session.
func (l *led) letGo(whole live) {
	l.task.leave(whole)
	l.relay.held.Add(-2)
	l.relay.wg.Done()
}

func (l *led) where() string { return l.at }

func (l *led) bytes() (in, out uint64) { return l.moved() }
