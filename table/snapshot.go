package table

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

// A Status is how one forward is doing.
type Status struct {
	Forward *forward.Forward // as it was asked for
	Carried forward.Carry    // CarryAuto: it has no carrier now
	Why     string           // the reason for the carrier, or against all of them
	Detail  string           // why it is not up, or what is good to know of one that is; or ""
	State   forward.State
	Stats   forward.Stats
	Since   time.Time // it is in this state
}

// Len is how many forwards there are, off and failed ones included. It asks no carrier.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byName)
}

// Forwards is what is in the table, sorted by name; nobody is asked how it is doing. What was set aside is not among it.
func (t *Table) Forwards() []*forward.Forward {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := t.entriesLocked()
	list := make([]*forward.Forward, len(entries))
	for i, e := range entries {
		list[i] = e.f
	}
	return list
}

// all is the entries sorted by name. The caller holds writing, so that they stay the ones that there are.
func (t *Table) all() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entriesLocked()
}

// Carried is what the carriers are to carry now, each with its Carry decided, and the facts that this was decided by. A forward
// that has not changed is the same pointer as before.
func (t *Table) Carried() ([]*forward.Forward, kernel.Facts) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*forward.Forward, 0, t.lists.carried+t.lists.relay.Len())
	for f := range t.lists.kernel.All() {
		if f.Carry == forward.CarryKernel {
			list = append(list, f)
		}
	}
	return slices.AppendSeq(list, t.lists.relay.All()), t.facts
}

// Snapshot is how every forward is doing now, sorted by name. It reads the counters of the carriers. What is set aside
// because its name is taken follows the owner of the name.
func (t *Table) Snapshot() []Status {
	t.mu.RLock()
	count := t.phase == running // before, the counters of the last run are not known; after, the last words are read already
	t.mu.RUnlock()
	if count {
		t.counters.read(t.kernel, t.relay)
	}
	opens := whenOpens(time.Now())
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := t.entriesLocked()
	list := make([]Status, 0, len(entries)+len(t.shelf))
	for _, e := range entries {
		list = append(list, t.statusLocked(e, opens))
	}
	if len(t.shelf) == 0 {
		return list
	}
	for s := range maps.Values(t.shelf) {
		list = append(list, Status{Forward: s.f, State: forward.StateFailed, Why: "set aside", Detail: s.err.Error(), Since: s.since})
	}
	slices.SortStableFunc(list, func(a, b Status) int { return strings.Compare(a.Forward.Name, b.Forward.Name) })
	return list
}

// status is how one forward is doing, with counters as they were last read.
func (t *Table) status(name string) (Status, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e := t.byName[name]; e != nil {
		return t.statusLocked(e, whenOpens(time.Now())), nil
	}
	return Status{}, notFound("forward", name)
}

func (t *Table) statusLocked(e *entry, opens func(forward.Schedule) time.Time) Status {
	s := Status{Forward: e.f, Why: e.decision.Why, State: e.state, Stats: t.counters.of(e.f.Name), Since: e.since}
	if e.state != forward.StateOff {
		s.Carried = e.decision.Carry
	}
	switch {
	case e.seen == 0 || e.state == forward.StateWaiting && e.shut == open:
		s.Detail = "not carried yet"
	case e.state == forward.StateFailed:
		s.Detail = e.err.Error()
	case e.shut != open:
		s.Detail = shutDetail(e.shut, e.f, opens)
	case s.Stats.Waiting != "":
		s.State, s.Detail = forward.StateWaiting, s.Stats.Waiting
	case s.Stats.Failing != "": // it listens, and tries again by itself
		s.State, s.Detail = forward.StateFailed, s.Stats.Failing
	default:
		s.Detail = join(s.Stats.Note, e.decision.Note)
		if t.bothFamilies[e.f.Name] {
			s.Detail = join(s.Detail, "the relay carries the others")
		}
		s.Detail = join(t.note(e.f.Name), s.Detail)
	}
	return s
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// whenOpens returns a function that finds the next change of a schedule. Finding it takes a while, and forwards with one
// schedule come in crowds.
func whenOpens(now time.Time) func(forward.Schedule) time.Time {
	known := map[string]time.Time{}
	return func(s forward.Schedule) time.Time {
		t, ok := known[s.String()]
		if !ok {
			t = s.Next(now)
			known[s.String()] = t
		}
		return t
	}
}
