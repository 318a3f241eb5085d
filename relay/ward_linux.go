package relay

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// A ward is a stream of an earlier process that a node carried there, and carries again. The node comes with its socket, and the
// forward that it belongs to comes with an Apply; which of the two is there first does not matter:
//
//	handed ─► adopted by its node ─► bound to its forward ─► ended
type ward struct {
	session
	burden
	relay    *Relay
	left     HandedBorne
	from, to lateLimit
	before   [2]uint64 // what had moved when it was bound; from the client, from the target

	life             sync.Mutex
	adopted          bool
	bound, over, own bool // own: what is held for it was given back
}

// wards are those that this process was left, by their tickets.
type wards struct {
	mu  sync.Mutex
	all map[string]*ward
}

func newWards(h *Handover) *wards {
	w := &wards{all: map[string]*ward{}}
	if h != nil {
		for _, b := range h.Borne {
			one := &ward{left: b}
			one.session.known(&b.HandedStream)
			w.all[b.Ticket] = one
		}
	}
	return w
}

// find is the ward of a ticket, or nil.
func (w *wards) find(ticket string) *ward {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[ticket]
}

// list is all that wait.
func (w *wards) list() []*ward {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*ward, 0, len(w.all))
	for _, one := range w.all {
		all = append(all, one)
	}
	return all
}

func (w *wards) forget(one *ward) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one.left.Ticket)
}

// passOn is what is known of those that wait.
func (w *wards) passOn() []HandedBorne {
	var list []HandedBorne
	for _, one := range w.list() {
		list = append(list, one.left)
		w.forget(one)
	}
	return list
}

// Adopt says how a node is to carry the socket that an earlier process has left under a ticket; false: it is nobody's any more. It
// waits for nothing. Adopted follows.
func (r *Relay) Adopt(ticket string) (node.BearOptions, bool) {
	w := r.inherited.wards.find(ticket)
	if w == nil {
		return node.BearOptions{}, false
	}
	w.life.Lock()
	defer w.life.Unlock()
	if w.adopted {
		return node.BearOptions{}, false
	}
	w.adopted, w.relay = true, r
	return node.BearOptions{Idle: w.left.Idle, From: &w.from, To: &w.to, Ended: w.ended}, true
}

// Adopted is told what nodes carry now for which Adopt was asked before.
func (r *Relay) Adopted(list []node.Lasting) {
	for _, b := range list {
		if w := r.inherited.wards.find(b.Ticket()); w != nil {
			w.is(b)
		}
	}
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	if !r.ended {
		r.bindWards(r.inherited.rest == nil)
	}
}

// bindWards gives those that were adopted to the forwards that they belong to. When these are all there are, other wards end. The caller
// holds applyMu.
func (r *Relay) bindWards(all bool) {
	for _, w := range r.inherited.wards.list() {
		t := r.tasks[w.left.Forward]
		if t == nil && !all {
			continue
		}
		switch w.bind(t) {
		case wardWaits:
			if all {
				w.kill() // whoever adopts it yet
				r.inherited.wards.forget(w)
			}
		case wardBound:
			r.inherited.wards.forget(w)
		case wardUnwanted:
			r.inherited.wards.forget(w)
			w.kill()
		}
	}
}

type wardState uint8

const (
	wardWaits    wardState = iota // for its node
	wardBound                     // or over
	wardUnwanted                  // no forward carries it any more
)

// bind has a ward be a session of t, which is nil where there is no such forward.
func (w *ward) bind(t *task) wardState {
	w.life.Lock()
	defer w.life.Unlock()
	switch {
	case w.over:
		return wardBound
	case !w.isKnown():
		return wardWaits
	case t == nil || !t.running || !w.covered(t.f):
		return wardUnwanted
	}
	w.before[0], w.before[1] = w.sides()
	w.earlier = [2]uint64{w.left.Earlier[0] + w.before[0], w.left.Earlier[1] + w.before[1]}
	if t.enter(w, t.f) != nil {
		return wardUnwanted
	}
	w.relay.held.Add(2)
	w.relay.wg.Add(1)
	w.bound = true
	t.resumed(w, targetNamed(t.f, w.left.Target))
	up, down := &w.upload, &w.download
	if w.left.AtTarget {
		up, down = down, up
	}
	w.from.Store(up)
	w.to.Store(down)
	return wardBound
}

// ended lets go of what is held for the ward.
func (w *ward) ended(moved node.Borne) {
	w.is(moved) // it may end before Adopted is called
	w.life.Lock()
	w.over = true
	last := w.bound && !w.own
	w.own = true
	w.life.Unlock()
	if last {
		w.letGo()
	}
}

func (w *ward) letGo() {
	w.task.leave(w)
	w.relay.held.Add(-2)
	w.relay.wg.Done()
}

// freeze writes the ward down for the next process. Its node has frozen it.
func (w *ward) freeze(h *Handover) {
	w.life.Lock()
	mine := !w.own
	w.own = true
	w.life.Unlock()
	if mine {
		known := w.written(w.left.Where)
		known.Earlier = w.left.Earlier // all else is in what the node has counted
		h.Borne = append(h.Borne, HandedBorne{HandedStream: known, Ticket: w.left.Ticket, AtTarget: w.left.AtTarget, Idle: w.f.IdleTimeout})
		w.letGo()
	}
}

func (w *ward) where() string { return w.left.Where }

// sides is how much has moved since the stream began: from the client, from the target.
func (w *ward) sides() (in, out uint64) {
	from, to := w.moved()
	if w.left.AtTarget {
		return to, from
	}
	return from, to
}

func (w *ward) bytes() (in, out uint64) {
	in, out = w.sides()
	return in - w.before[0], out - w.before[1]
}

// freeze writes a stream down that a node carried and has frozen. One that is the node's alone ends.
func (b *borne) freeze(h *Handover) {
	s := b.stream
	if h.addBorne(&s.session, b.now(), &b.over, s.where(), !b.client) {
		b.letGo()
	}
}

// addBorne writes down a session that a node carried and has frozen; false: it is over, or the node's alone.
func (h *Handover) addBorne(s *session, b node.Borne, over *atomic.Bool, where string, atTarget bool) bool {
	lasting, ok := b.(node.Lasting)
	if !ok || !over.CompareAndSwap(false, true) {
		return false
	}
	known := s.written(where)
	known.Earlier = [2]uint64{s.earlier[0] + s.in.Load(), s.earlier[1] + s.out.Load()}
	h.Borne = append(h.Borne, HandedBorne{HandedStream: known, Ticket: lasting.Ticket(), AtTarget: atTarget, Idle: s.f.IdleTimeout})
	return true
}

// A lateLimit is the limit of a session that has yet to enter.
type lateLimit struct{ atomic.Pointer[limit] }

// Slice is that of the limit.
func (l *lateLimit) Slice() int {
	if now := l.Load(); now != nil {
		return now.Slice()
	}
	return 0
}

// Pay is that of the limit.
func (l *lateLimit) Pay(n int64) time.Duration {
	if now := l.Load(); now != nil {
		return now.Pay(n)
	}
	return 0
}
