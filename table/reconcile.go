package table

import (
	"context"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A job is what one cycle hands to the carriers.
type job struct {
	kernel  []*forward.Forward // carried there, and what only holds its place there; nil when nothing is carried there
	relay   []*forward.Forward
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

	with, ended := t.companions.update(j.kernel, j.relay, facts)
	j.relay = mergeForwards(j.relay, with)
	j.leaving = append(j.leaving, ended...)
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
	t.markLocked(n, forward.CarryKernel, fromKernel)
	t.markLocked(n, forward.CarryRelay, fromRelay)
	news := t.settleLocked(n, time.Now())
	t.mu.Unlock()
	if c != nil {
		close(c.done)
	}
	news.log(t.log)
}

// assembleLocked plans what needs a plan, looks at the clock, and lists what each carrier shall have.
func (t *Table) assembleLocked(n uint64, now time.Time) job {
	var j job
	carried := 0 // in the kernel
	for _, e := range t.entries {
		if e.seen == 0 || t.replan {
			e.plan(t.facts)
		}
		if t.down {
			e.shut = takenDown
		} else if e.seen == 0 || e.clocked {
			e.shut = shutOf(e.f, now)
		}
		e.seen = n
		want := e.wanted()
		if e.sent != nil && e.sent != want && (want == nil || want.Carry != e.sent.Carry) {
			j.leave(e.sent, want)
		}
		if want == nil {
			continue
		}
		if e.decision.Carry == forward.CarryKernel {
			carried++
			j.kernel = append(j.kernel, want)
			continue
		}
		j.relay = append(j.relay, want)
		if want.ListensAt() == forward.Host && !want.Listen.IsUnix() {
			j.kernel = append(j.kernel, want)
		}
	}
	t.replan, t.lost = false, false
	if carried == 0 {
		j.kernel = nil
	}
	return j
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
	fromRelay = t.relay.Apply(ctx, mergeForwards(j.relay, j.moving))
	fromKernel = t.kernel.Apply(ctx, j.kernel)
	if len(j.moving) > 0 {
		fromRelay = t.relay.Apply(ctx, j.relay)
	}
	return fromKernel, fromRelay
}

// mergeForwards merges two lists that are sorted by name and share none. few is the shorter one.
func mergeForwards(many, few []*forward.Forward) []*forward.Forward {
	if len(few) == 0 {
		return many
	}
	out := make([]*forward.Forward, 0, len(many)+len(few))
	for _, f := range many {
		for len(few) > 0 && few[0].Name < f.Name {
			out, few = append(out, few[0]), few[1:]
		}
		out = append(out, f)
	}
	return append(out, few...)
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
			t.log.Debug("no companion on loopback", keyForward, name, keyErr, err)
		case e == nil || e.seen != n: // deleted or changed meanwhile
		case e.decision.Carry != by:
			t.log.Debug("the kernel does not keep a place free", keyForward, name, keyErr, err)
		default:
			e.err, e.refused = err, n
		}
	}
}

// settleLocked records what became of every entry that was in cycle n, and finds when the next one is due.
func (t *Table) settleLocked(n uint64, now time.Time) news {
	var all news
	t.wake = time.Time{}
	for _, e := range t.entries {
		if e.seen != n {
			continue
		}
		if e.settle(now) {
			all.add(e)
		}
		if e.clocked {
			t.wake = earliest(t.wake, nextShut(e.f, now))
		}
		t.wake = earliest(t.wake, e.retry)
	}
	return all
}
