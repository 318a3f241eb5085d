package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head"
)

// errEnded is the answer to an Apply after Run has ended.
var errEnded = errors.New("the relay has ended")

// A change is what one Apply does to one forward.
type change struct {
	task   *task
	f      *forward.Forward // nil: removed
	places []place          // that f needs
	opened []place          // those of them that this change had to open
	head   head.Head        // of a dynamic forward
	err    error
}

// Apply makes the relay carry want, sorted by name, and nothing else. The result has an entry for every forward of want:
// nil when it listens, otherwise why it does not; that one is tried again by the next Apply and holds no listener.
//
// What has not changed keeps its listeners and sessions. Where the listen side stays the same, streams finish with the
// target they have and flows move to the new one at once; sessions that the changed forward would no longer take in are
// ended, as are those of a forward that is gone.
func (r *Relay) Apply(ctx context.Context, want []*forward.Forward) map[string]error {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	result := make(map[string]error, len(want))
	if r.ended {
		for _, f := range want {
			result[f.Name] = errEnded
		}
		return result
	}
	defer r.letGoOfAddresses()
	noKeep := r.keep.prepare(want)
	changes := r.diff(want, result, noKeep)
	if len(changes) == 0 {
		r.resume(ctx)
		return result
	}
	r.closeUnneeded(changes)
	taken := r.takenPlaces(changes)
	for _, c := range changes {
		switch {
		case c.f == nil:
		case noKeep != nil && keeps(c.f):
			c.err = noKeep
		case c.f.Dynamic() != forward.HeadNone && !r.findHead(c):
			c.err = fmt.Errorf("to = %q is not carried here", c.f.Dynamic())
		default:
			c.err = r.openAll(ctx, c, taken)
		}
	}
	unused := r.commit(changes)
	r.listening.Store(int64(len(r.places)))
	for _, l := range unused {
		l.close()
	}
	r.startNew(ctx, changes)
	r.resume(ctx)
	r.endSessions(changes)
	r.kickNames()
	for _, c := range changes {
		if c.f != nil {
			result[c.f.Name] = c.err
			r.logChange(c)
		}
	}
	return result
}

// findHead makes the head of a dynamic forward, and reports whether there is one.
func (r *Relay) findHead(c *change) bool {
	if r.heads != nil {
		c.head = r.heads(c.f)
	}
	return c.head != nil
}

// diff finds what has to be done, and enters the forwards that stay as they are into result. With noKeep none does that
// keeps its clients' addresses.
func (r *Relay) diff(want []*forward.Forward, result map[string]error, noKeep error) []*change {
	r.breakMoved()
	broken := r.anyBroken.Swap(false)
	var changes []*change
	known := 0
	for _, f := range want {
		t := r.tasks[f.Name]
		if t != nil {
			known++
		}
		if t != nil && t.running && (t.asked == f || t.asked.Equal(f)) && !(broken && r.hasBroken(t)) && !(noKeep != nil && keeps(f)) {
			t.asked = f
			result[f.Name] = nil
			continue
		}
		if t == nil {
			t = newTask(f)
			t.relay = r
		}
		changes = append(changes, &change{task: t, f: f, places: placesOf(f)})
	}
	if known < len(r.tasks) {
		changes = append(changes, r.removals(want)...)
	}
	return changes
}

func (r *Relay) removals(want []*forward.Forward) []*change {
	wanted := make(map[string]bool, len(want))
	for _, f := range want {
		wanted[f.Name] = true
	}
	var changes []*change
	for name, t := range r.tasks {
		if !wanted[name] {
			changes = append(changes, &change{task: t})
		}
	}
	return changes
}

func (r *Relay) hasBroken(t *task) bool {
	for _, p := range t.places {
		if l := r.places[p]; l == nil || l.broken.Load() {
			return true
		}
	}
	return false
}

// commit lets new clients see all changes at once, and returns the listeners that nobody uses any more.
func (r *Relay) commit(changes []*change) (unused []*listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	touched := make(map[place]bool)
	for _, c := range changes {
		r.retire(c.task, touched)
	}
	for _, c := range changes {
		for _, p := range c.places {
			touched[p] = true
		}
		switch {
		case c.f == nil:
			delete(r.tasks, c.task.name)
		case c.err == nil:
			c.err = r.establish(c)
			fallthrough
		default:
			r.tasks[c.task.name] = c.task
			c.task.asked = c.f
			c.task.change(c.f, c.head)
		}
	}
	for p := range touched {
		l := r.places[p]
		if l == nil {
			continue
		}
		if l.pickBlame(); len(l.users) == 0 {
			unused = append(unused, l)
			delete(r.places, p)
			continue
		}
		l.wishesChanged()
	}
	return unused
}

// retire takes the forward that t carries now out of what new clients see. The caller holds Relay.mu.
func (r *Relay) retire(t *task, touched map[place]bool) {
	for _, p := range t.places {
		touched[p] = true
		if l := r.places[p]; l != nil {
			delete(l.users, t)
		}
	}
	if t.running {
		r.index.Remove(t.f)
		delete(r.owners, t.f)
	}
	t.running, t.places = false, nil
}

// establish shows c.f to new clients. The caller holds Relay.mu.
func (r *Relay) establish(c *change) error {
	if err := r.index.Add(c.f); err != nil {
		return err
	}
	r.owners[c.f] = c.task
	c.task.running, c.task.places = true, c.places
	for _, p := range c.places {
		r.places[p].users[c.task] = true
	}
	return nil
}

// startNew starts the listeners that were opened and are in use.
func (r *Relay) startNew(ctx context.Context, changes []*change) {
	for _, c := range changes {
		for _, p := range c.opened {
			if l := r.places[p]; l != nil && !l.started {
				r.start(ctx, l)
			}
		}
	}
}

// endSessions ends what the changes leave without a forward. A flow moves: its client's next datagram begins a new one.
func (r *Relay) endSessions(changes []*change) {
	for _, c := range changes {
		if c.f == nil {
			for _, l := range c.task.remove() {
				l.kill()
			}
			continue
		}
		for _, l := range c.task.list() {
			if !l.base().covered(c.f) {
				l.kill()
			}
		}
	}
	for _, l := range r.places {
		if l.packets == nil {
			continue
		}
		l.packets.review(func(fl *flow) bool {
			t, f := r.match(l, fl.peer, fl.local)
			return f != nil && t == fl.task && fl.staysWith(f)
		})
	}
}

func (r *Relay) logChange(c *change) {
	if c.err != nil {
		r.log.Warn("a forward failed", keyForward, c.f.Name, keyListen, c.f.Listen.String(), keyError, c.err)
		return
	}
	r.log.Debug("a forward listens", keyForward, c.f.Name, keyListen, c.f.Listen.String())
}
