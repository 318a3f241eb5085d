package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

const (
	placeTime   = 30 * time.Second // for opening or closing a listener
	maxErrands  = 256              // requests that wait; more are refused
	errandsText = "too many requests at once"
)

// A desk has places opened that the other end wants to be listened at.
type desk struct {
	mu      sync.Mutex
	places  []*place
	errands []errand
	busy    bool          // somebody is doing them
	changed chan struct{} // closed when a place was asked for anew; nil: nobody waits
	until   time.Time     // then places that no session has asked for again are closed
	waits   bool          // somebody waits for that
	frozen  bool          // places are another process's by now
}

// An errand is a request, which may take its time. They are done one after the other.
type errand struct {
	session *session
	name    string
	payload []byte
	reply   func([]byte, error)
}

func (d *desk) asked(f *Far, s *session, name string, payload []byte, reply func([]byte, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.errands) >= maxErrands {
		reply(nil, &tunnel.Error{Code: tunnel.TooMany, Text: errandsText})
		return
	}
	d.errands = append(d.errands, errand{s, name, slices.Clone(payload), reply})
	if !d.busy {
		d.busy = f.later(func(ctx context.Context) { d.work(ctx, f) })
	}
}

func (d *desk) work(ctx context.Context, f *Far) {
	for {
		d.mu.Lock()
		if len(d.errands) == 0 {
			d.busy = false
			d.mu.Unlock()
			return
		}
		e := d.errands[0]
		d.errands = slices.Delete(d.errands, 0, 1)
		d.mu.Unlock()
		payload, err := d.do(ctx, f, e)
		e.reply(payload, answer(err))
	}
}

func (d *desk) do(ctx context.Context, f *Far, e errand) ([]byte, error) {
	if f.current() != e.session {
		return nil, &tunnel.Error{Code: tunnel.Gone, Text: "the session has ended"}
	}
	if f.o.Landlord == nil || f.o.Forwards == nil {
		return nil, fmt.Errorf("%w: nothing is listened for here", node.ErrUnfit)
	}
	ctx, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	if e.name == askUnlisten {
		u, err := parseUnlisten(e.payload)
		if err != nil {
			return nil, err
		}
		return nil, d.withdraw(ctx, f, e.session, u.ID)
	}
	var r ListenRequest
	var at forward.Door
	var err error
	if e.name == askServe {
		var serve ServeRequest
		serve, at, err = parseServe(e.payload)
		r = serve.ListenRequest
	} else {
		r, at, err = parseListen(e.payload)
	}
	if err != nil {
		return nil, err
	}
	p, err := d.have(ctx, f, e.session, r, at)
	if err != nil {
		return nil, err
	}
	bound := p.at()
	reply := ListenReply{Port: firstPort(bound)}
	if bound.Addr.IsValid() {
		reply.Address = bound.Addr.String()
	}
	return encode(reply), nil
}

// have is the place for a request: one that was asked for before, or a new one.
func (d *desk) have(ctx context.Context, f *Far, s *session, r ListenRequest, at forward.Door) (*place, error) {
	p, err := d.before(f, s, r, at)
	if p != nil || err != nil {
		return p, err
	}
	d.mu.Lock()
	have := len(d.places)
	d.mu.Unlock()
	tries, err := f.o.Landlord.Places(at, r.Prefer, have)
	if err != nil {
		return nil, err
	}
	picked := firstPort(at) == 0
	for _, try := range tries {
		p := &place{far: f, asked: at, bound: try, id: r.ID, in: s, picked: picked}
		if err = d.open(ctx, f, p); err == nil {
			return p, nil
		}
		if ctx.Err() != nil || f.current() != s || errors.Is(err, node.ErrRefused) && !picked {
			break
		}
	}
	if err == nil {
		err = fmt.Errorf("there is no port to be had: %w", errMost)
	}
	return nil, err
}

// open has one place listened at.
func (d *desk) open(ctx context.Context, f *Far, p *place) error {
	if err := f.o.Landlord.Permit(p.bound); err != nil {
		return fmt.Errorf("%w: %w", node.ErrRefused, err)
	}
	// To put the same again would take it from the one that has it. Clients may come before Put returns.
	d.mu.Lock()
	if d.frozen {
		d.mu.Unlock()
		return &tunnel.Error{Code: tunnel.Shutdown}
	}
	if slices.ContainsFunc(d.places, func(other *place) bool {
		return other.bound.Listen.Equal(p.bound.Listen) && firstPort(p.bound) != 0 && other.bound.SameHosts(p.bound)
	}) {
		d.mu.Unlock()
		return &tunnel.Error{Code: tunnel.Busy, Text: fmt.Sprintf("it listens at %s already", p.bound)}
	}
	d.places = append(d.places, p)
	d.mu.Unlock()
	listening, err := f.o.Landlord.Let(p.bound, p.picked)
	if err != nil {
		d.take(func(other *place) bool { return other == p })
		return &tunnel.Error{Code: tunnel.Busy, Text: clean(err.Error())}
	}
	name, bound, err := f.o.Forwards.Put(ctx, f.key(), p.bound, p)
	listening(err == nil)
	if err != nil {
		d.take(func(other *place) bool { return other == p })
		if ctx.Err() != nil {
			return err
		}
		return &tunnel.Error{Code: tunnel.Busy, Text: clean(err.Error())}
	}
	if err := d.opened(f, p, name, bound); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), placeTime)
		defer cancel()
		return errors.Join(err, f.o.Forwards.Delete(ctx, name, p))
	}
	f.log.Log(ctx, f.NewsLevel(), "listens for the other end", keyNode, f.name(), keyListen, bound.String())
	return nil
}

// opened is that somebody listens at a place. Meanwhile it may have been given up, or what the other end may have changed: then the error
// says so, and the place is not the desk's.
func (d *desk) opened(f *Far, p *place, name string, bound forward.Door) error {
	err := f.o.Landlord.Permit(bound)
	if err != nil {
		f.o.Landlord.Free(bound)
		err = fmt.Errorf("%w: %w", node.ErrRefused, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := slices.Index(d.places, p)
	if err == nil && (at < 0 || f.current() != p.in) { // whose end may have been looked at before there was the place
		err = &tunnel.Error{Code: tunnel.Gone, Text: "it was given up while it was opened"}
	}
	switch {
	case err == nil:
		p.name, p.bound = name, bound
	case at >= 0:
		d.places = slices.Delete(d.places, at, at+1)
		d.wakeLocked()
	}
	return err
}

// before finds the place that a request is for: in this session, or left by one that has ended.
func (d *desk) before(f *Far, s *session, r ListenRequest, at forward.Door) (*place, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var left *place
	port := firstPort(at)
	for _, p := range d.places {
		same := p.asked.Equal(at)
		alike := p.asked.Networks == at.Networks && p.asked.Addr == at.Addr && p.asked.SameSite(at) && (port == firstPort(p.bound) || port == 0 && r.Prefer == firstPort(p.bound))
		switch {
		case p.in == s && p.id == r.ID:
			if same {
				return p, nil
			}
			return nil, &tunnel.Error{Code: tunnel.Busy, Text: fmt.Sprintf("the listener %d is at %s", r.ID, p.asked)}
		case p.in == s && port != 0 && (same || alike):
			return nil, &tunnel.Error{Code: tunnel.Busy, Text: fmt.Sprintf("it listens at %s already", at)}
		case p.in == s:
		case alike, same && left == nil && (port != 0 || r.Prefer == 0):
			left = p
		}
	}
	if left == nil {
		return nil, nil
	}
	if err := f.o.Landlord.Permit(left.bound); err != nil {
		return nil, fmt.Errorf("%w: %w", node.ErrRefused, err)
	}
	left.id, left.in, left.asked = r.ID, s, at
	d.wakeLocked()
	return left, nil
}

func firstPort(l forward.Door) uint16 {
	if len(l.Ports.Ranges) == 0 {
		return 0
	}
	return l.Ports.Ranges[0].First
}

func (d *desk) wakeLocked() {
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// withdraw closes what is not wanted any more.
func (d *desk) withdraw(ctx context.Context, f *Far, s *session, id uint64) error {
	for _, p := range d.take(func(p *place) bool { return p.in == s && p.id == id }) {
		f.o.Landlord.Free(p.at())
		return f.o.Forwards.Delete(ctx, p.name, p)
	}
	return nil // it is not there, which is what was asked for
}

// take removes places from the desk.
func (d *desk) take(which func(*place) bool) []*place {
	d.mu.Lock()
	defer d.mu.Unlock()
	var taken []*place
	d.places = slices.DeleteFunc(d.places, func(p *place) bool {
		if which(p) {
			taken = append(taken, p)
			return true
		}
		return false
	})
	if len(taken) > 0 {
		d.wakeLocked()
	}
	return taken
}

// orphaned is that a session has ended or begun: places are kept for a while, to be asked for again. However often that is, one goroutine waits.
func (d *desk) orphaned(f *Far) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(f.o.Linger)
	if len(d.places) > 0 && !d.waits {
		d.waits = f.later(func(ctx context.Context) { d.linger(ctx, f) })
	}
}

// linger closes what was not asked for again.
func (d *desk) linger(ctx context.Context, f *Far) {
	for {
		d.mu.Lock()
		until := d.until
		left := time.Until(until)
		d.waits = left > 0
		d.mu.Unlock()
		if left <= 0 {
			now := f.current()
			d.close(ctx, f, d.take(func(p *place) bool { return d.until.Equal(until) && p.in != now }))
			return
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// end closes all.
func (d *desk) end(ctx context.Context, f *Far) {
	d.mu.Lock()
	for _, e := range d.errands {
		e.reply(nil, &tunnel.Error{Code: tunnel.Shutdown})
	}
	d.errands = nil
	d.mu.Unlock()
	d.close(ctx, f, d.take(func(*place) bool { return true }))
}

func (d *desk) close(ctx context.Context, f *Far, places []*place) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), placeTime)
	defer cancel()
	for _, p := range places {
		d.mu.Lock()
		name := p.name
		d.mu.Unlock()
		if name == "" {
			continue // who opens it finds that it was given up
		}
		if err := f.o.Forwards.Delete(ctx, name, p); err != nil {
			f.log.Warn("a listener was not closed", keyNode, f.name(), keyListen, p.at().String(), keyError, err)
		}
	}
}

// revise closes what the landlord no longer permits, and tells the other end.
func (d *desk) revise(ctx context.Context, f *Far) {
	type closed struct {
		in  *session
		say ClosedRequest
	}
	var said []closed
	taken := d.take(func(p *place) bool {
		err := f.o.Landlord.Permit(p.bound)
		if err != nil {
			said = append(said, closed{p.in, ClosedRequest{ID: p.id, Why: err.Error()}})
		}
		return err != nil
	})
	for _, p := range taken {
		f.o.Landlord.Free(p.at())
	}
	d.close(ctx, f, taken)
	for _, c := range said {
		if c.in == f.current() {
			f.later(func(ctx context.Context) { _, _ = c.in.Ask(ctx, askClosed, encode(c.say)) })
		}
	}
}

// count is how many places there are.
func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.places)
}

// list is where they are.
func (d *desk) list() []forward.Door {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]forward.Door, len(d.places))
	for i, p := range d.places {
		list[i] = p.bound
	}
	return list
}
