package table

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A shelved forward is set aside rather than lost: it was stored, or is rolled back to, and its name or its traffic belongs
// to another one by now, or it can no longer be read. It shows as failed, claims nothing, and comes back by itself when
// what stands in its way is gone.
type shelved struct {
	f      *forward.Forward // no more than its name and origin when it cannot be read
	err    error
	since  time.Time
	broken bool // it cannot be read: only Put and Delete help
}

type shelfKey struct {
	name   string
	origin forward.Origin
}

func keyOf(f *forward.Forward) shelfKey { return shelfKey{f.Name, f.Origin} }

func (ch *change) setAside(f *forward.Forward, err error) {
	if ch.shelve == nil {
		ch.shelve = map[shelfKey]shelved{}
	}
	ch.shelve[keyOf(f)] = shelved{f: f, err: err, since: time.Now()}
}

// shelved finds what Delete may remove by this name, or nil. The caller holds writing.
func (t *Table) shelved(name string) *shelfKey {
	for k := range t.shelf {
		if k.name == name && k.origin != forward.OriginFile {
			return &k
		}
	}
	return nil
}

// takeFromShelfLocked makes entries of what has its name and traffic free now, and enters them into edits; leases are in
// nobody's way. The caller holds writing and mu.
func (t *Table) takeFromShelfLocked(now time.Time, edits map[string]*entry) {
	if len(t.shelf) == 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(t.shelf), func(a, b shelfKey) int {
		return strings.Compare(a.name+"\x00"+string(a.origin), b.name+"\x00"+string(b.origin))
	})
	for _, k := range keys {
		s := t.shelf[k]
		if s.broken || t.byName[k.name] != nil || t.claims.add(s.f) != nil {
			continue
		}
		delete(t.shelf, k)
		edits[k.name] = t.enterLocked(s.f, now, true)
		for _, name := range t.claims.leasesUnder(s.f) {
			if e := t.byName[name]; e != nil {
				t.log.Warn("the forward of a guest gives way", keyForward, name, keyOrigin, e.f.Origin, "to", k.name)
				t.claims.remove(e.f)
				edits[name] = nil
				t.dropLocked(e)
			}
		}
		t.log.Info("forward no longer set aside", keyForward, k.name, keyOrigin, k.origin)
	}
}

func notFound(what, name string) error { return fmt.Errorf("%s %q: %w", what, name, ErrNotFound) }
