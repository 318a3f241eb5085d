package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A Frozen is a Far whose session another process goes on with. It is plain data, for any encoding, beside the descriptors that its session
// speaks of.
type Frozen struct {
	Session *tunnel.Frozen
	Places  []FrozenPlace  // listened at here for the other end
	Asked   []FrozenAsking // listened at there for this one
}

// A FrozenPlace is one that the other end asked for.
type FrozenPlace struct {
	ID           uint64
	Asked, Bound forward.Door
	Picked       bool
}

// A FrozenAsking is one that the other end was asked for.
type FrozenAsking struct {
	ID      uint64
	Network string
	At      forward.Door
	Chose   uint16
}

// An Adopter says, for a stream that carries a socket, who it belongs to in this process; false is nobody, and the stream is reset.
type Adopter func(number uint64, c tunnel.Call) (node.BearOptions, bool)

// Quiet is called some time before Freeze: what the other end opens from now on has no answer, and is opened again in the other process.
func (f *Far) Quiet() {
	f.mu.Lock()
	f.quiet = true
	f.mu.Unlock()
	for _, a := range f.asked.all() {
		a.unqueue()
	}
}

func (f *Far) isQuiet() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.quiet
}

// unqueue takes out those that wait to be accepted.
func (a *asking) unqueue() {
	for {
		select {
		case <-a.queue:
		default:
			return
		}
	}
}

// Freeze ends the session in this process, for another one to go on with, and has none begin; nil without a session. Places of the other end's stay open:
// they are the other process's, too.
func (f *Far) Freeze() (*Frozen, error) {
	f.mu.Lock()
	s := f.session
	f.frozen = true
	f.mu.Unlock()
	if s == nil {
		return nil, nil
	}
	fr := &Frozen{Places: f.desk.freeze(s), Asked: f.asked.freeze()}
	var err error
	if fr.Session, err = s.Freeze(); err != nil {
		return nil, err
	}
	return fr, nil
}

func (d *desk) freeze(s *session) []FrozenPlace {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []FrozenPlace
	for _, p := range d.places {
		if p.in == s && p.name != "" {
			list = append(list, FrozenPlace{p.id, p.asked, p.bound, p.picked})
		}
	}
	d.places, d.frozen = nil, true
	return list
}

func (l *listeners) freeze() []FrozenAsking {
	var list []FrozenAsking
	for _, a := range l.all() {
		a.mu.Lock()
		list = append(list, FrozenAsking{a.id, a.network, a.at, a.chose})
		a.mu.Unlock()
	}
	return list
}

// thaw has listeners be asked for by the ids that the other end knows them by.
func (l *listeners) thaw(list []FrozenAsking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.thawed, l.early = list, map[uint64][]*tunnel.Arrival{}
	for _, a := range list {
		l.next = max(l.next, a.ID)
	}
}

// unclaimed is what nobody has asked for in this process, and who has come there.
func (l *listeners) unclaimed() (list []FrozenAsking, come []*tunnel.Arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list = l.thawed
	for _, early := range l.early {
		come = append(come, early...)
	}
	l.thawed, l.early = nil, nil
	return list, come
}

// disclaim has the other end close what nobody here has asked for again after a while.
func (f *Far) disclaim(ctx context.Context, s *session) {
	t := time.NewTimer(f.o.Linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.over:
	case <-ctx.Done():
		return
	}
	list, come := f.asked.unclaimed()
	for _, arrival := range come {
		arrival.Refuse(tunnel.Gone, "nobody listens there any more")
	}
	for _, a := range list {
		_, _ = s.Ask(ctx, askUnlisten, encode(UnlistenRequest{ID: a.ID}))
	}
}

// thawedLocked finds the listener that a was in the process before.
func (l *listeners) thawedLocked(a *asking) (FrozenAsking, bool) {
	for i, t := range l.thawed {
		if t.Network == a.network && t.At.Equal(a.at) {
			for _, arrival := range l.early[t.ID] {
				a.queue <- arrival // there is room: see tooEarly
			}
			delete(l.early, t.ID)
			l.thawed = append(l.thawed[:i:i], l.thawed[i+1:]...)
			return t, true
		}
	}
	return FrozenAsking{}, false
}

// tooEarly keeps who has come to a listener that the process before had, and that this one has yet to ask for.
func (l *listeners) tooEarly(arrival *tunnel.Arrival) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := slices.ContainsFunc(l.thawed, func(t FrozenAsking) bool { return t.ID == arrival.Listener })
	if !known || len(l.early[arrival.Listener]) >= acceptQueue {
		return false
	}
	l.early[arrival.Listener] = append(l.early[arrival.Listener], arrival)
	return true
}

// Thaw goes on with what another process has frozen. Streams that were dialled here are the Far's own; of others adopt says whose they are.
// Those that it wanted are returned.
func (f *Far) Thaw(ctx context.Context, fr *Frozen, o tunnel.Options, adopt Adopter) ([]tunnel.Numbered, error) {
	h := &handler{far: f}
	o.Handler, o.Log, o.Side, o.ID = h, f.log, fr.Session.Side, fr.Session.ID
	s := &session{over: make(chan struct{})}
	h.session = s
	f.asked.thaw(fr.Asked)
	own := f.own(fr)
	var all []tunnel.Numbered
	var err error
	s.Session, all, err = tunnel.Thaw(o, fr.Session, func(number uint64, c tunnel.Call) (node.BearOptions, bool) {
		return f.adopt(number, c, own, adopt)
	})
	if s.Session == nil {
		return nil, err
	}
	f.mu.Lock()
	f.session = s
	f.changedLocked()
	f.mu.Unlock()
	var theirs []tunnel.Numbered
	for _, b := range all {
		if t := own[b.Number()]; t != nil {
			t.begin(b.Kill)
		} else {
			theirs = append(theirs, b)
		}
	}
	for _, p := range fr.Places {
		f.desk.thaw(ctx, f, s, p)
	}
	if len(fr.Asked) > 0 {
		f.later(func(ctx context.Context) { f.disclaim(ctx, s) })
	}
	if !f.later(func(ctx context.Context) { f.live(ctx, s) }) {
		s.End(tunnel.Shutdown, node.ErrClosed.Error())
	}
	return theirs, err
}

// own are the streams that were dialled here for the other end.
func (f *Far) own(fr *Frozen) map[uint64]*trip {
	own := map[uint64]*trip{}
	for _, st := range fr.Session.Streams {
		if !st.Ours && st.Call.Kind == tunnel.Dial && st.FD >= 0 {
			own[st.Number] = &trip{call: st.Call, to: peerOf(st.FD)}
		}
	}
	return own
}

func (f *Far) adopt(number uint64, c tunnel.Call, own map[uint64]*trip, adopt Adopter) (node.BearOptions, bool) {
	pass, err := f.enter(c)
	if err != nil {
		return node.BearOptions{}, false
	}
	leave := sync.OnceFunc(pass.leave)
	if t := own[number]; t != nil {
		if f.o.Judge == nil || f.o.Judge.Still(c, t.to) != nil {
			leave()
			return node.BearOptions{}, false
		}
		f.trips.add(t)
		return node.BearOptions{From: pass.Out, To: pass.In, Ended: func(node.Borne) {
			f.trips.remove(t)
			leave()
		}}, true
	}
	if adopt == nil {
		leave()
		return node.BearOptions{}, false
	}
	o, ok := adopt(number, c)
	if !ok {
		leave()
		return o, false
	}
	return Pass{pass.Out, pass.In, leave}.over(o), true
}

// thaw has a place be listened at again.
func (d *desk) thaw(ctx context.Context, f *Far, s *session, fr FrozenPlace) {
	p := &place{far: f, asked: fr.Asked, bound: fr.Bound, picked: fr.Picked, id: fr.ID, in: s}
	if err := d.open(ctx, f, p); err != nil {
		f.log.Warn("a place is not listened at any more", keyNode, f.name(), keyListen, fr.Bound.String(), keyError, err)
		f.later(func(ctx context.Context) {
			_, _ = s.Ask(ctx, askClosed, encode(ClosedRequest{ID: fr.ID, Why: clean(fmt.Sprint(err))}))
		})
	}
}

// Discard closes the sockets of a session with which nobody goes on.
func Discard(fr *Frozen) {
	for _, fd := range fr.Session.Descriptors() {
		discard(fd)
	}
}
