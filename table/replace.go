package table

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

// A Change is what a Replace did, by names in order.
type Change struct {
	Added, Changed, Removed []string
	Kept                    int  // forwards that were not touched, nor any of their sessions
	Settings                bool // nodes, users or the SSH server are others than before
}

// ReplaceFile makes cfg all that the file says, its settings included, and returns when the carriers have answered. A forward
// that asks for the same as before is not touched. Everything is checked before anything is changed; the errors are those of
// Put, joined. While an apply waits to be confirmed it is refused with a *PendingError.
func (t *Table) ReplaceFile(ctx context.Context, cfg *config.Config) (Change, error) {
	unlock, err := t.lock(ctx)
	if err != nil {
		return Change{}, err
	}
	c, done, err := t.replaceFile(cfg)
	unlock()
	if err != nil {
		return Change{}, err
	}
	return done, t.await(ctx, c)
}

// replaceFile is ReplaceFile without the waiting. The caller holds writing.
func (t *Table) replaceFile(cfg *config.Config) (*cycle, Change, error) {
	if t.pending != nil {
		return nil, Change{}, &PendingError{Until: t.pending.until}
	}
	keep, err := t.settleApply()
	if err != nil {
		return nil, Change{}, err
	}
	ch, done, err := t.diff(forward.OriginFile, cfg.Forwards, false)
	if err != nil {
		return nil, Change{}, err
	}
	ch.keep = keep
	done.Settings = !t.settings.Equal(cfg.Settings)
	ch.then = func() {
		t.settleLocked(cfg.Settings)
		t.fileCameLocked()
	}
	c, err := t.commit(ch)
	return c, done, err
}

// settleLocked makes s hold, before the forwards that rely on it reach their carriers.
func (t *Table) settleLocked(s config.Settings) {
	if !t.settings.Equal(s) {
		t.settings = s
		t.settle(s)
		t.relook = true // at the host, which the settings may make a router
	}
}

// Settings is what holds now besides the forwards.
func (t *Table) Settings() config.Settings {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.settings
}

// diff finds what leads from the forwards that origin has to want. With force, one whose name is taken is set aside. The
// caller holds writing.
func (t *Table) diff(origin forward.Origin, want []*forward.Forward, force bool) (change, Change, error) {
	ch := change{force: force}
	var done Change
	var errs []error
	names := make(map[string]bool, len(want))
	for _, f := range want {
		if len(errs) == manyErrors {
			break
		}
		e := t.byName[f.Name]
		switch err := f.Validate(); {
		case err != nil:
			errs = append(errs, fmt.Errorf("forward %q: %w", f.Name, err))
		case f.Origin != origin:
			errs = append(errs, fmt.Errorf("forward %q is of origin %q, not %q", f.Name, f.Origin, origin))
		case names[f.Name]:
			errs = append(errs, fmt.Errorf("there are two forwards %q", f.Name))
		case e == nil:
			done.Added = append(done.Added, f.Name)
			ch.put = append(ch.put, f)
		case e.f.Origin != origin && force:
			ch.setAside(f, &ConflictError{Name: f.Name, Owner: e.f.Origin})
		case e.f.Origin != origin:
			errs = append(errs, &ConflictError{Name: f.Name, Owner: e.f.Origin})
		case e.f.Equal(f):
			done.Kept++
		default:
			done.Changed = append(done.Changed, f.Name)
			ch.put = append(ch.put, f)
		}
		names[f.Name] = true
	}
	if len(errs) > 0 {
		return change{}, Change{}, errors.Join(errs...)
	}
	for _, e := range t.all() {
		if e.f.Origin == origin && !names[e.f.Name] {
			done.Removed = append(done.Removed, e.f.Name)
			ch.drop = append(ch.drop, e)
		}
	}
	for k := range t.shelf {
		if k.origin == origin {
			ch.unshelve = append(ch.unshelve, k)
		}
	}
	slices.Sort(done.Added)
	slices.Sort(done.Changed)
	return ch, done, nil
}

// ofOrigin is the forwards that origin has, sorted by name, and those of its that are set aside. The caller holds writing.
func (t *Table) ofOrigin(origin forward.Origin) []*forward.Forward {
	var list []*forward.Forward
	for _, e := range t.all() {
		if e.f.Origin == origin {
			list = append(list, e.f)
		}
	}
	for k, s := range t.shelf {
		if k.origin == origin && !s.broken {
			list = append(list, s.f)
		}
	}
	return list
}
