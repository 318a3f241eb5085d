package hub

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/tunnel"
)

// hold is how long the places of an agent that is away are kept for it.
const hold = 24 * time.Hour

// errTaken is that another agent has a place.
var errTaken = errors.New("another agent has it")

// maxClaims bounds what is kept of one agent, whatever it may.
const maxClaims = 4096

// Reserve makes a place an agent's own, unless it is another's, for as long as this process runs; Keep makes it last. here says which
// agents are there now: those keep their places however long it is since they were last noted. fresh: the place was not the agent's before,
// and Release undoes that.
func (r *Registry) Reserve(key tunnel.Key, at forward.Door, here func(tunnel.Key) bool, now time.Time) (fresh bool, err error) {
	c := claimOf(at, false)
	taken := fmt.Errorf("%s: %w", at, errTaken)
	r.mu.Lock()
	own := r.agents[key]
	if own == nil || !own.Revoked.IsZero() {
		r.mu.Unlock()
		return false, ErrNoAgent
	}
	for other, claims := range r.reserved {
		if other != key && slices.ContainsFunc(claims, c.overlaps) {
			r.mu.Unlock()
			return false, taken
		}
	}
	var late []tunnel.Key // have it, and were not seen for so long that it may be taken
	for _, other := range r.agents {
		switch {
		case other.Key == key || !slices.ContainsFunc(other.claims, c.overlaps):
		case now.Sub(other.LastSeen) < hold:
			r.mu.Unlock()
			return false, taken
		default:
			late = append(late, other.Key)
		}
	}
	if fresh = !slices.ContainsFunc(own.claims, c.samePlace) && !slices.ContainsFunc(r.reserved[key], c.samePlace); fresh {
		r.reserved[key] = append(r.reserved[key], c)
	}
	r.mu.Unlock()
	if slices.ContainsFunc(late, here) { // whoever is asked may have questions
		if fresh {
			r.Release(key, at)
		}
		return false, taken
	}
	return fresh, nil
}

// Release gives back what was reserved and not kept.
func (r *Registry) Release(key tunnel.Key, at forward.Door) {
	c := claimOf(at, false)
	r.mu.Lock()
	defer r.mu.Unlock()
	if left := slices.DeleteFunc(r.reserved[key], c.samePlace); len(left) > 0 {
		r.reserved[key] = left
	} else {
		delete(r.reserved, key)
	}
}

// Keep makes what was reserved last. Of an agent's places no more than most are kept: the oldest go, and those that are open last.
func (r *Registry) Keep(key tunnel.Key, at forward.Door, picked bool, most int, open []forward.Door) error {
	c := claimOf(at, picked)
	if rec, ok := r.Agent(key); ok && slices.ContainsFunc(rec.claims, c.samePlace) {
		return nil
	}
	_, err := r.update(key, func(rec *Record) error {
		if !rec.Revoked.IsZero() {
			return ErrNoAgent
		}
		rec.claims = append(rec.claims, c)
		isOpen := func(d claim) bool {
			return c.samePlace(d) || slices.ContainsFunc(open, func(l forward.Door) bool { return d.samePlace(claimOf(l, false)) })
		}
		for over := len(rec.claims) - min(most, maxClaims); over > 0; over-- {
			i := max(0, slices.IndexFunc(rec.claims, func(d claim) bool { return !isOpen(d) }))
			rec.claims = slices.Delete(rec.claims, i, i+1)
		}
		return nil
	})
	if err == nil {
		r.Release(key, at)
	}
	return err
}

// Unclaim gives a place back.
func (r *Registry) Unclaim(key tunnel.Key, at forward.Door) error {
	r.Release(key, at)
	c := claimOf(at, false)
	if rec, ok := r.Agent(key); !ok || !slices.ContainsFunc(rec.claims, c.samePlace) {
		return nil
	}
	_, err := r.update(key, func(rec *Record) error {
		rec.claims = slices.DeleteFunc(rec.claims, c.samePlace)
		return nil
	})
	return err
}

// picks are the places that the hub has picked for an agent, the oldest first: who asks for several in the order of an earlier run gets
// each as before.
func (r *Registry) picks(key tunnel.Key, like forward.Door) []forward.Door {
	rec, _ := r.Agent(key)
	var list []forward.Door
	for _, c := range rec.claims {
		if c.Picked && c.Network == like.Networks && c.Addr == like.Addr && len(c.Hosts) == 0 {
			list = append(list, c.door())
		}
	}
	return list
}
