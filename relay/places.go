package relay

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// breakMoved has every listener opened again whose node is gone, or was replaced by another one of that name: the listener is
// about to end with its node. So is one of this host that is by way of somebody else now, or is so no longer.
func (r *Relay) breakMoved() {
	here, err := r.nodes(forward.Host)
	sharer, shares := here.(node.Sharer)
	var port uint16
	if shares = shares && err == nil; shares {
		port = sharer.SharedPort()
	}
	for p, l := range r.places {
		if l.node == nil {
			if shares && p.shared() && p.network == forward.TCP {
				_, own := l.socket().(syscall.Conn)
				if own && p.port != port {
					continue
				}
				if _, addr := p.dialect(); sharer.Shares(addr) == own {
					l.broken.Store(true)
					r.anyBroken.Store(true)
				}
			}
			continue
		}
		if n, err := r.nodes(p.node); err != nil || n != l.node {
			l.broken.Store(true)
			r.anyBroken.Store(true)
		}
	}
}

// closeUnneeded closes the listeners that nobody will use after the changes, and the broken ones, before any other is
// opened: a new place may be in the way of an old one. Everything else stays open throughout.
func (r *Relay) closeUnneeded(changes []*change) {
	needed := make(map[place]bool)
	leaving := make(map[*task]bool, len(changes))
	for _, c := range changes {
		leaving[c.task] = true
		for _, p := range c.places {
			needed[p] = true
		}
	}
	for _, c := range changes {
		for _, p := range c.task.places {
			l := r.places[p]
			if l == nil || !l.broken.Load() && (needed[p] || l.usedByOther(leaving)) {
				continue
			}
			l.close()
			r.setPlace(p, nil)
		}
	}
}

func (l *listener) usedByOther(leaving map[*task]bool) bool {
	for t := range l.users {
		if !leaving[t] {
			return true
		}
	}
	return false
}

// openAll opens every place of c that is not open yet, or none. taken says whose the places are at which nothing tells
// forwards apart.
func (r *Relay) openAll(ctx context.Context, c *change, taken map[place]*task) error {
	if c.f.Listen.Ports.All {
		return errors.New("\"*\" is carried by the kernel alone")
	}
	for _, p := range c.places {
		if owner := taken[p]; owner != nil && owner != c.task {
			r.closeOpened(c)
			return fmt.Errorf("%s is taken by forward %q", p, owner.name)
		}
		if r.places[p] != nil {
			continue
		}
		l, err := r.open(ctx, p)
		if err != nil {
			r.closeOpened(c)
			return err
		}
		c.opened = append(c.opened, p)
		r.setPlace(p, l)
	}
	for _, p := range c.places {
		if !p.shared() {
			taken[p] = c.task
		}
	}
	return nil
}

// takenPlaces lists who holds the places that cannot be shared and is not about to change.
func (r *Relay) takenPlaces(changes []*change) map[place]*task {
	taken := make(map[place]*task)
	for p, l := range r.places {
		if !p.shared() {
			for t := range l.users {
				taken[p] = t
			}
		}
	}
	for _, c := range changes {
		for _, p := range c.task.places {
			delete(taken, p)
		}
	}
	return taken
}

// closeOpened takes back what openAll did for a forward that then failed.
func (r *Relay) closeOpened(c *change) {
	for _, p := range c.opened {
		r.places[p].close()
		r.setPlace(p, nil)
	}
	c.opened = nil
}

// setPlace changes the places, which are written under both mutexes and so can be read under either.
func (r *Relay) setPlace(p place, l *listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l == nil {
		delete(r.places, p)
	} else {
		r.places[p] = l
	}
}
