package relay

import (
	"errors"
	"net/netip"
	"sync"

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
	at    string // the target, as people see it
	burden
}

// A burden is what a node carries for a session, or is about to.
type burden struct {
	mu     sync.Mutex
	borne  node.Borne // nil until it is known
	killed bool
}

func (b *burden) is(borne node.Borne) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.borne = borne; b.killed {
		borne.Kill()
	}
}

func (b *burden) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.killed = true
	if b.borne != nil {
		b.borne.Kill()
	}
}

func (b *burden) wasKilled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.killed
}

// moved is how many bytes came from the socket and went to it.
func (b *burden) moved() (from, to uint64) {
	b.mu.Lock()
	borne := b.borne
	b.mu.Unlock()
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
	l := &led{session: g.newSession(client, local), relay: r}
	to := addresses(f.To[0], f.TargetPort(f.To[0], l.place.port), &l.session)[0]
	l.at = to.String()
	switch err := g.enter(fd, t, l, f); err {
	case nil:
	case errFull:
		return nil
	default:
		return err
	}
	borne, ok := leader.Lead(fd, client, to.network, to.addr, node.LeadOptions{
		BearOptions: node.BearOptions{Idle: f.IdleTimeout, From: limitOf(&l.upload), To: limitOf(&l.download), Ended: l.ended},
		Timeout:     dialTime(f, true), Connected: l.connected, Failed: l.failed,
	})
	if !ok {
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
	if len(f.To) != 1 || f.SendProxy != 0 || f.Helper != forward.HelperNone || len(f.Wake.MACs) > 0 ||
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

func (l *led) connected() { l.task.reached(&l.session, &l.f.To[0]) }

func (l *led) failed(err error) {
	l.relay.noteDial(l.task, &DialError{Target: l.at, Err: err})
}

func (l *led) ended(moved node.Borne) {
	l.is(moved)
	l.letGo(l)
}

// letGo gives back what was taken for the session.
func (l *led) letGo(whole live) {
	l.task.leave(whole)
	l.relay.held.Add(-2)
	l.relay.wg.Done()
}

func (l *led) where() string { return l.at }

func (l *led) bytes() (in, out uint64) { return l.moved() }
