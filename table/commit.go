package table

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// A change is one step of the desired set. It happens as a whole or not at all.
type change struct {
	put      []*forward.Forward // each takes the place of the entry of its name
	drop     []*entry
	unshelve []shelfKey              // to be forgotten
	shelve   map[shelfKey]shelved    // to be set aside
	keep     func(tx store.Tx) error // written in the same transaction; may be nil
	stored   bool                    // put is in the store already
	force    bool                    // what ties is set aside rather than refused, and a store that fails is no reason to stop
	then     func()                  // run when the change is in, under mu; may be nil

	freed []*forward.Forward // whose claims were taken back, to undo it
}

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
		err := t.claims.add(f)
		switch {
		case err == nil:
			added = append(added, f)
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
	gone := make(map[*entry]bool, len(ch.drop)+len(ch.put))
	for _, e := range ch.drop {
		gone[e] = true
		delete(t.byName, e.f.Name)
		t.counters.drop(e.f.Name)
	}
	fresh := make([]*entry, len(ch.put))
	for i, f := range ch.put {
		before := t.byName[f.Name]
		if before != nil {
			gone[before] = true
		}
		fresh[i] = newEntry(f, before, now)
		t.byName[f.Name] = fresh[i]
		t.counters.keep(f.Name)
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
	if len(gone)+len(ch.unshelve) > 0 {
		fresh = append(fresh, t.takeFromShelfLocked(now)...)
	}
	slices.SortFunc(fresh, func(a, b *entry) int { return strings.Compare(a.f.Name, b.f.Name) })
	t.entries = merge(t.entries, fresh, gone)
}

// merge returns old without gone and with fresh; both are sorted by name. It copies in runs, so that one among many costs
// little more than the copy.
func merge(old, fresh []*entry, gone map[*entry]bool) []*entry {
	out := make([]*entry, 0, len(old)+len(fresh))
	byName := func(e *entry, name string) int { return cmp.Compare(e.f.Name, name) }
	cuts := make([]int, 0, len(gone)) // places in old that are left out
	for e := range gone {
		if at, found := slices.BinarySearchFunc(old, e.f.Name, byName); found {
			cuts = append(cuts, at)
		}
	}
	slices.Sort(cuts)
	from := 0
	copyTo := func(to int) {
		for len(cuts) > 0 && cuts[0] < to {
			out = append(out, old[from:cuts[0]]...)
			from, cuts = cuts[0]+1, cuts[1:]
		}
		out = append(out, old[from:max(from, to)]...)
		from = max(from, to)
	}
	for _, e := range fresh {
		at, _ := slices.BinarySearchFunc(old, e.f.Name, byName)
		copyTo(at)
		out = append(out, e)
	}
	copyTo(len(old))
	return out
}
