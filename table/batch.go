package table

import (
	"context"
	"fmt"

	"github.com/fairlead-net/fairlead/forward"
)

// A Batch is what became of the leases that were put together.
type Batch struct {
	table *Table
	put   []*forward.Forward
	errs  []error // those that were refused
	cycle *cycle  // nil: there is nothing to wait for
}

// Batch puts leases and drops others, in one step and one cycle of the carriers however many they are. Each is refused on its
// own: with a *ConflictError when its name is another's, with an error that wraps a *forward.TieError when its traffic is, and
// then what had its name stays as it was. What is dropped makes room for what is put; what is not there any more, or is another
// by now, need not be dropped, nor need what is put. A put that differs from what is there in no more than who asked, and until when, costs the carriers
// nothing. An error is everybody's, and then nothing was changed.
//
// Batch does not wait: Wait does.
func (t *Table) Batch(ctx context.Context, put, drop []*forward.Forward) (*Batch, error) {
	unlock, err := t.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	b := &Batch{table: t, put: put, errs: make([]error, len(put))}
	at := make(map[*forward.Forward]int, len(put))
	ch := change{refuse: func(f *forward.Forward, err error) { b.errs[at[f]] = err }}
	names := make(map[string]bool, len(put))
	for i, f := range put {
		if names[f.Name] {
			b.errs[i] = fmt.Errorf("%q is put twice", f.Name)
			continue
		}
		at[f], names[f.Name] = i, true
	}
	for _, f := range drop {
		if e := t.byName[f.Name]; e != nil && e.f == f && f.Origin.IsLease() && !names[f.Name] {
			ch.drop = append(ch.drop, e)
		}
	}
	var renewed []*forward.Forward
	for i, f := range put {
		switch e := t.byName[f.Name]; {
		case b.errs[i] != nil:
		case !f.Origin.IsLease():
			b.errs[i] = fmt.Errorf("%q is no lease", f.Name)
		case e != nil && !e.f.Origin.IsLease():
			b.errs[i] = &ConflictError{Name: f.Name, Owner: e.f.Origin}
		case e != nil && sameTraffic(e.f, f):
			renewed = append(renewed, f)
		default:
			if b.errs[i] = f.Validate(); b.errs[i] == nil {
				ch.put = append(ch.put, f)
			}
		}
	}
	if len(ch.put)+len(ch.drop) > 0 {
		if b.cycle, err = t.commit(ch); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range renewed {
		if !t.renewLocked(f) && b.cycle == nil {
			b.cycle = t.joinLocked()
		}
	}
	return b, nil
}

// sameTraffic reports whether f and g differ in no more than until when they hold, and what is known of who asked.
func sameTraffic(f, g *forward.Forward) bool {
	like := *f
	like.Expires, like.Lease = g.Expires, g.Lease
	return like.Equal(g)
}

// renewLocked puts f in the place of the same lease with another end, and reports whether the carriers have answered for that:
// they are not told, and go on with the forward that they have.
func (t *Table) renewLocked(f *forward.Forward) bool {
	e := t.byName[f.Name]
	if e == nil { // it gave way to another of this batch
		return true
	}
	before := e.f
	e.f = f
	t.expiries.set(e)
	t.noteLocked(f, before)
	if f.Expires.Before(before.Expires) {
		nudge(t.kick)
	}
	return e.state != forward.StateWaiting || e.shut == closed
}

// Wait returns when the carriers have answered for b, with an error for each forward that is not as it was put: refused, or
// failed. The second error says that it is not known.
func (b *Batch) Wait(ctx context.Context) ([]error, error) {
	if err := b.table.await(ctx, b.cycle); err != nil {
		return b.errs, err
	}
	b.table.mu.RLock()
	defer b.table.mu.RUnlock()
	for i, f := range b.put {
		if b.errs[i] != nil {
			continue
		}
		switch e := b.table.byName[f.Name]; {
		case e == nil:
			b.errs[i] = notFound("forward", f.Name)
		case e.state == forward.StateFailed:
			b.errs[i] = e.err
		}
	}
	return b.errs, nil
}

// Errs is what was refused so far: a nil for each forward that is in the table.
func (b *Batch) Errs() []error { return b.errs }
