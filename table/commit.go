package table

import (
	"errors"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// A change is one step of the desired set. It happens as a whole or not at all.
type change struct {
	put      []*forward.Forward // each takes the place of the entry of its name
	drop     []*entry
	unshelve []shelfKey                    // to be forgotten
	shelve   map[shelfKey]shelved          // to be set aside
	keep     func(tx store.Tx) error       // written in the same transaction; may be nil
	stored   bool                          // put is in the store already
	force    bool                          // what ties is set aside rather than refused, and a store that fails is no reason to stop
	refuse   func(*forward.Forward, error) // told of what ties, which is no reason to refuse the rest; nil: it is
	then     func()                        // run when the change is in, under mu; may be nil

	freed []*forward.Forward // whose claims were taken back, to undo it
}

// manyEdits is how many changes of entries are gathered before they are sorted in.
const manyEdits = 4096

// manyErrors is how many ties one refusal names.
const manyErrors = 20

// commit carries ch out and asks for a cycle. The caller holds writing and has checked that all names are of one origin.
func (t *Table) commit(ch change) (*cycle, error) {
	if err := t.claim(&ch); err != nil {
		return nil, err
	}
	if err := t.keep(ch); err != nil {
		if !ch.force {
			t.unclaim(ch)
			return nil, err
		}
		t.log.Error("the state file cannot be written", keyErr, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.swapLocked(ch)
	if ch.then != nil {
		ch.then()
	}
	return t.joinLocked(), nil
}

// claim moves the claims from what ch takes away to what it brings. Without force it does so for all of it or for nothing.
func (t *Table) claim(ch *change) error {
	ch.put = slices.DeleteFunc(slices.Clone(ch.put), func(f *forward.Forward) bool {
		e := t.byName[f.Name]
		return e != nil && e.f == f
	})
	for _, e := range ch.drop {
		ch.freed = append(ch.freed, e.f)
	}
	for _, f := range ch.put {
		if e := t.byName[f.Name]; e != nil {
			ch.freed = append(ch.freed, e.f)
		}
	}
	for _, f := range ch.freed {
		t.claims.remove(f)
	}
	var errs []error
	var added, tied []*forward.Forward
	for _, f := range ch.put {
		err := t.claimOne(ch, f)
		switch {
		case err == nil:
			added = append(added, f)
		case ch.refuse != nil:
			t.stay(ch, f)
			ch.refuse(f, err)
		case ch.force:
			ch.setAside(f, err)
			tied = append(tied, f)
		case len(errs) < manyErrors:
			errs = append(errs, err)
		}
	}
	ch.put = added
	if len(errs) > 0 {
		t.unclaim(*ch)
		return errors.Join(errs...)
	}
	for _, f := range tied { // its former self has lost its claims above
		if e := t.byName[f.Name]; e != nil && !slices.Contains(ch.drop, e) {
			ch.drop = append(ch.drop, e)
		}
	}
	return nil
}

// claimOne enters the claims of f. What leases have of them they lose, unless f is one, too.
func (t *Table) claimOne(ch *change, f *forward.Forward) error {
	if err := t.inTheWay(f); err != nil {
		return err
	}
	err := t.claims.add(f)
	for err != nil && t.makeWay(ch, f, err) {
		err = t.claims.add(f)
	}
	if err == nil {
		for _, name := range t.claims.leasesUnder(f) {
			if e := t.byName[name]; e != nil && !slices.Contains(ch.drop, e) {
				t.giveWay(ch, e, f)
			}
		}
	}
	return err
}

// stay leaves the former self of f, which was refused, where it is.
func (t *Table) stay(ch *change, f *forward.Forward) {
	e := t.byName[f.Name]
	if e == nil || slices.Contains(ch.drop, e) {
		return
	}
	if t.claims.add(e.f) != nil { // another of this change has its place by now
		ch.drop = append(ch.drop, e)
	}
}

// makeWay has a forward that a guest asked for give way to one of the operator's, and reports whether it was what was in the
// way. Its owner is told by his client that the port is gone when that asks again.
func (t *Table) makeWay(ch *change, f *forward.Forward, err error) bool {
	var tie *forward.TieError
	if !errors.As(err, &tie) {
		return false
	}
	e := t.byName[tie.Other]
	if e == nil || !e.f.Origin.Guest() || f.Origin.Guest() {
		return false
	}
	t.giveWay(ch, e, f)
	return true
}

func (t *Table) giveWay(ch *change, e *entry, to *forward.Forward) {
	t.log.Warn("the forward of a guest gives way", keyForward, e.f.Name, keyOrigin, e.f.Origin, "to", to.Name)
	t.claims.remove(e.f)
	ch.freed, ch.drop = append(ch.freed, e.f), append(ch.drop, e)
}

// unclaim undoes claim.
func (t *Table) unclaim(ch change) {
	for _, f := range ch.put {
		t.claims.remove(f)
	}
	for _, f := range ch.freed {
		if err := t.claims.add(f); err != nil { // it was in a moment ago, among the same others
			t.log.Error("a claim cannot be restored", keyForward, f.Name, keyErr, err)
		}
	}
}

// swapLocked puts ch into the entries. The caller holds writing and mu.
func (t *Table) swapLocked(ch change) {
	now := time.Now()
	edits := t.edits
	for _, e := range ch.drop {
		edits[e.f.Name] = nil
		t.dropLocked(e)
	}
	for _, f := range ch.put {
		edits[f.Name] = t.enterLocked(f, now, ch.stored)
		delete(t.shelf, keyOf(f))
	}
	for _, k := range ch.unshelve {
		delete(t.shelf, k)
		if t.byName[k.name] == nil {
			t.counters.drop(k.name)
		}
	}
	for k, s := range ch.shelve {
		t.shelf[k] = s
		t.counters.keep(k.name)
		t.log.Warn("forward set aside", keyForward, k.name, keyOrigin, k.origin, keyErr, s.err)
	}
	if len(ch.freed)+len(ch.unshelve) > 0 {
		t.takeFromShelfLocked(now, edits)
	}
	if len(edits) > manyEdits {
		t.entriesLocked()
	}
}

// entriesLocked is the entries sorted by name, in a slice that is never changed. They are sorted when somebody wants to see them
// all: thousands of leases come and go before that. The caller holds mu, not to read alone.
func (t *Table) entriesLocked() []*entry {
	if len(t.edits) > 0 {
		t.sorted = splice(t.sorted, t.edits)
		t.edits = map[string]*entry{}
	}
	return t.sorted
}

func (t *Table) dropLocked(e *entry) {
	delete(t.byName, e.f.Name)
	t.lists.swap(e.sent, nil)
	t.forgetLocked(e)
	t.counters.drop(e.f.Name)
	if e.f.Origin.IsLease() {
		t.noteLocked(nil, e.f)
	} else {
		t.operators = nil
	}
}

// enterLocked makes an entry of f, in the place of the one of that name. stored says that the store has it.
func (t *Table) enterLocked(f *forward.Forward, now time.Time, stored bool) *entry {
	before := t.byName[f.Name]
	var former *forward.Forward
	if before != nil {
		former = before.f
		t.forgetLocked(before)
	}
	switch {
	case !f.Origin.IsLease():
		t.operators = nil
	case stored:
		t.lease(f, former)
	default:
		t.noteLocked(f, former)
	}
	e := newEntry(f, before, now)
	t.byName[f.Name] = e
	t.touched[e] = true
	if e.clocked {
		t.clocked[e] = true
	}
	t.expiries.set(e)
	t.counters.keep(f.Name)
	return e
}

// forgetLocked takes e out of whatever would have it looked at.
func (t *Table) forgetLocked(e *entry) {
	delete(t.touched, e)
	delete(t.clocked, e)
	delete(t.failing, e)
	t.expiries.remove(e)
}
