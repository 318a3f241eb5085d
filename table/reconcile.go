package table

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

// A job is what one cycle hands to the carriers.
type job struct {
	entries []*entry     // those that it looks at, sorted by name
	kernel  forward.List // empty when nothing is carried there: then nothing needs to keep its place either
	alone   forward.List // of kernel, what may have companions
	relay   forward.List
	here    forward.List       // what this host listens for, whoever carries it
	moving  []*forward.Forward // what leaves the relay for the kernel, as the relay has it
	leaving []meterKey         // legs that end
}

// reconcile is one cycle: it hands everything that is wanted to the carriers, and records what they say. What the carriers
// had already they know by its pointer.
func (t *Table) reconcile(ctx context.Context) {
	t.carrying.Lock()
	defer t.carrying.Unlock()
	t.mu.Lock()
	c := t.cycle
	t.cycle = nil
	n, facts := t.cycles+1, t.facts
	t.cycles = n
	j := t.assembleLocked(n, time.Now())
	t.mu.Unlock()

	j.leaving = append(j.leaving, t.companions.update(j.alone, j.relay, facts)...)
	j.relay, j.here = t.companions.relayWith, add(j.here, t.companions.want)
	if len(j.leaving) > 0 { // the last chance to count what they had
		t.counters.read(t.kernel, t.relay)
	}
	fromKernel, fromRelay := t.apply(ctx, j)
	if ctx.Err() != nil {
		return // what the carriers say of forwards now is about the end, and Run's end answers who waits
	}
	if len(j.leaving) > 0 {
		t.counters.end(j.leaving)
	}
	t.mu.Lock()
	t.bothFamilies = t.companions.otherFamily
	t.markLocked(n, forward.CarryKernel, fromKernel)
	t.markLocked(n, forward.CarryRelay, fromRelay)
	news := t.recordLocked(n, j.entries, time.Now())
	t.mu.Unlock()
	if c != nil {
		close(c.done)
	}
	news.log(t.log)
}

// assembleLocked plans what needs a plan, looks at the clock, and lists what each carrier shall have. What nothing has
// happened to is not looked at.
func (t *Table) assembleLocked(n uint64, now time.Time) job {
	j := job{entries: t.todoLocked()}
	for _, e := range j.entries {
		if e.seen == 0 || t.replan {
			e.plan(t.facts)
		}
		e.shut = shutOf(e.f, now)
		if t.down {
			e.shut = takenDown
		}
		e.seen = n
		listed := e.listed()
		if listed == e.sent {
			continue
		}
		if want := e.wanted(); e.sent != nil && !e.sent.Disabled && (want == nil || want.Carry != e.sent.Carry) {
			j.leave(e.sent, want)
		}
		t.lists.swap(e.sent, listed)
		e.sent = listed
	}
	t.replan, t.lost = false, false
	t.touched = map[*entry]bool{}
	t.lists.done()
	j.relay, j.here = t.lists.relay, t.lists.kernel
	if t.lists.carried > 0 {
		j.kernel, j.alone = t.lists.kernel, t.lists.alone
	}
	return j
}

// todoLocked is the entries that a cycle has to look at, sorted by name.
func (t *Table) todoLocked() []*entry {
	if t.replan || t.down {
		return t.entriesLocked()
	}
	todo := maps.Clone(t.touched)
	maps.Copy(todo, t.clocked)
	maps.Copy(todo, t.failing)
	t.expiries.over(time.Now(), func(e *entry) { todo[e] = true })
	return slices.SortedFunc(maps.Keys(todo), func(a, b *entry) int { return strings.Compare(a.f.Name, b.f.Name) })
}

func (j *job) leave(sent, want *forward.Forward) {
	if sent.Carry == forward.CarryKernel {
		j.leaving = append(j.leaving, meterKey{sent.Name, legKernel})
		return
	}
	j.leaving = append(j.leaving, meterKey{sent.Name, legRelay})
	if want != nil {
		j.moving = append(j.moving, sent)
	}
}

// apply calls the carriers. The relay comes first, so that it listens before the kernel leaves traffic to it; what goes the
// other way stays in the relay until the kernel has it. A client that calls meanwhile finds one or the other.
func (t *Table) apply(ctx context.Context, j job) (fromKernel, fromRelay map[string]error) {
	fromRelay = t.relay.Apply(ctx, add(j.relay, j.moving))
	if t.beside != nil { // before the kernel, which ends the sessions of what is gone: they find no way back in
		t.beside.Carried(ctx, j.here)
	}
	fromKernel = t.kernel.Apply(ctx, j.kernel)
	if len(j.moving) > 0 {
		fromRelay = t.relay.Apply(ctx, j.relay)
	}
	return fromKernel, fromRelay
}

// add is list and few others in their places.
func add(list forward.List, few []*forward.Forward) forward.List {
	if len(few) == 0 {
		return list
	}
	edits := make(map[string]*forward.Forward, len(few))
	for _, f := range few {
		edits[f.Name] = f
	}
	return list.Edit(edits)
}

// markLocked enters the errors of a carrier into the entries that it was to carry.
func (t *Table) markLocked(n uint64, by forward.Carry, errs map[string]error) {
	for name, err := range errs {
		if err == nil {
			continue
		}
		e := t.byName[name]
		switch {
		case strings.Contains(name, "/"):
			t.log.Debug("no companion", keyForward, name, keyErr, err)
		case e == nil || e.seen == 0 || e.wanted() == nil: // deleted or changed meanwhile
		case e.decision.Carry != by:
			t.log.Debug("the kernel does not keep a place free", keyForward, name, keyErr, err)
		default:
			e.err, e.refused = err, n
			t.failing[e] = true
			t.learnLocked(err)
		}
	}
}

// learnLocked has everything planned anew when an error says of this host what could not be known before.
func (t *Table) learnLocked(err error) {
	var missing *kernel.HelperError
	if !errors.As(err, &missing) || slices.Contains(t.facts.Unread, missing.Helper) {
		return
	}
	t.facts.Unread = append(slices.Clip(t.facts.Unread), missing.Helper)
	t.replan = true
}

// recordLocked records what became of the entries of cycle n, and of any other that a carrier has refused in it, and finds
// when the next cycle is due.
func (t *Table) recordLocked(n uint64, entries []*entry, now time.Time) news {
	var all news
	settle := func(e *entry) {
		if t.byName[e.f.Name] != e { // deleted or changed meanwhile
			return
		}
		if e.settle(n, now) {
			all.add(e)
		}
		if e.refused != n {
			delete(t.failing, e)
		}
	}
	for _, e := range entries {
		settle(e)
	}
	for e := range t.failing {
		settle(e)
	}
	t.wake = time.Time{}
	for e := range t.failing {
		t.wake = earliest(t.wake, e.retry)
	}
	for e := range t.clocked {
		t.wake = earliest(t.wake, nextShut(e.f, now))
	}
	return all
}
