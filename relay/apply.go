package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/vhost"
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
	site   *vhost.Site      // of a forward with names
	err    error
}

// Apply makes the relay carry want and nothing else. The result says of each forward that does not listen why; that one is tried
// again by the next Apply and holds no listener.
//
// What has not changed keeps its listeners and sessions. Where the listen side stays the same, streams finish with the
// target they have and flows move to the new one at once; sessions that the changed forward would no longer take in are
// ended, as are those of a forward that is gone.
func (r *Relay) Apply(ctx context.Context, want forward.List) map[string]error {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	result := map[string]error{}
	if r.ended {
		for f := range want.All() {
			result[f.Name] = errEnded
		}
		return result
	}
	defer r.letGoOfAddresses()
	removed, added := r.want.Differ(want)
	r.want = want
	noKeep := r.keep.prepare(removed, added)
	changes := r.diff(want, removed, added, noKeep)
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
			if c.f.ByName() {
				c.err = r.findSite(c)
			}
			if c.err == nil {
				c.err = r.openAll(ctx, c, taken)
			}
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
		if c.f == nil {
			continue
		}
		if r.logChange(c); c.err != nil {
			result[c.f.Name] = c.err
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

// diff finds what has to be done, in the order of want and then what goes. What is in both lists is looked at only where it does not
// listen, where its listener is broken, or, with noKeep, where it keeps its clients' addresses.
func (r *Relay) diff(want forward.List, removed, added []*forward.Forward, noKeep error) []*change {
	again := map[string]*forward.Forward{}
	for _, f := range added {
		again[f.Name] = f
	}
	for name := range r.idle {
		if f := want.Get(name); f != nil {
			again[name] = f
		}
	}
	r.breakMoved()
	if r.anyBroken.Swap(false) || noKeep != nil {
		for f := range want.All() {
			if t := r.tasks[f.Name]; t != nil && r.hasBroken(t) || noKeep != nil && keeps(f) {
				again[f.Name] = f
			}
		}
	}
	changes := make([]*change, 0, len(again)+len(removed))
	for _, name := range slices.Sorted(maps.Keys(again)) {
		f, t := again[name], r.tasks[name]
		if t == nil {
			t = newTask(f)
			t.relay = r
		}
		changes = append(changes, &change{task: t, f: f, places: placesOf(f)})
	}
	for _, f := range removed {
		if want.Get(f.Name) == nil {
			changes = append(changes, &change{task: r.tasks[f.Name]})
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
			c.task.change(c.f, c.head, c.site)
		}
		if c.f != nil && !c.task.running {
			r.idle[c.task.name] = true
		} else {
			delete(r.idle, c.task.name)
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
