package link

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The limits before somebody has proven a key.
const (
	handshakeTime = 10 * time.Second
	maxWaiting    = 1024            // at once
	maxPerSource  = maxWaiting / 2  // of one /64 or IPv4 address, behind which there may be many agents
	patience      = 2 * time.Second // who takes longer makes room for others when there is none
	burstEnd      = 10 * time.Second
)

// A gate counts those who have not proven a key yet, by the networks that they come from. When it is full, one of the network that has most
// goes, and of that network one of the part that has most. Where several have as many, chance decides: whoever has many addresses cannot
// tell who goes, and each who comes has a moment to show a key. Where he who comes would himself be of the one that has most, somebody goes who
// has been there for longer than an honest handshake takes, or he is not let in. So neither a crowd that says nothing nor one network can keep
// others out.
type gate struct {
	most, mostPerSource int
	log                 *slog.Logger

	mu     sync.Mutex
	all    crowd
	turned burst
}

// A crowd is those who wait and come from one network.
type crowd struct {
	of      *crowd // that it is a part of; nil: everybody
	network netip.Prefix
	n       int
	parts   map[netip.Prefix]*crowd // nil: it is one source
	guests  []*guest                // of a source, the oldest first
}

// A guest is somebody who has not proven a key.
type guest struct {
	gate   *gate
	source *crowd
	since  time.Time
	evict  func() // closes its connection
	gone   bool
}

func newGate(most, perSource int, log *slog.Logger) *gate {
	return &gate{most: most, mostPerSource: perSource, log: log, all: crowd{parts: map[netip.Prefix]*crowd{}}}
}

// networks are what an address is counted with, the largest first. The last is one source: an IPv4 address, or the network that a customer of
// IPv6 is given at the least (RFC 6177). Those above it are what one customer may well have, too.
func networks(a netip.Addr) [sizes]netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := [sizes]int{24, 28, 32}
	if a.Is6() {
		bits = [sizes]int{48, 56, 64}
	}
	var all [sizes]netip.Prefix
	for i, n := range bits {
		all[i], _ = a.Prefix(n)
	}
	return all
}

const sizes = 3

// enter lets somebody in, or nil. evict is called, at most once, when others need the room; leave is to be called all the same.
func (g *gate) enter(from netip.Addr, evict func()) *guest {
	now := time.Now()
	path := networks(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	if own := g.sourceLocked(path); own != nil && own.n >= g.mostPerSource && !g.evictLocked(own.guests[0], now, patience) ||
		g.all.n >= g.most && !g.makeRoomLocked(now, path) {
		g.turnAwayLocked(from, now)
		return nil
	}
	c := &g.all
	c.n++
	for i, network := range path {
		part := c.parts[network]
		if part == nil {
			part = &crowd{of: c, network: network}
			if i < sizes-1 {
				part.parts = map[netip.Prefix]*crowd{}
			}
			c.parts[network] = part
		}
		c = part
		c.n++
	}
	in := &guest{gate: g, source: c, since: now, evict: evict}
	c.guests = append(c.guests, in)
	return in
}

// sourceLocked is the source at the end of a path, or nil.
func (g *gate) sourceLocked(path [sizes]netip.Prefix) *crowd {
	c := &g.all
	for _, network := range path {
		if c = c.parts[network]; c == nil {
			return nil
		}
	}
	return c
}

// busy reports whether there are more than on a quiet day, so that those who may not be where they say are asked to show it.
func (g *gate) busy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all.n > g.most/8
}

// makeRoomLocked has somebody go, for one who comes by that path.
func (g *gate) makeRoomLocked(now time.Time, path [sizes]netip.Prefix) bool {
	c, own := &g.all, true // own: the one who comes is of c
	for depth := 0; c.parts != nil; depth++ {
		var most *crowd
		many, ties := 0, 0
		for network, part := range c.parts {
			n := part.n
			if own && network == path[depth] {
				n++ // with him
				if n == many {
					continue // others go before his
				}
			}
			if n > many || n == many && most.network == path[depth] {
				most, many, ties = part, n, 1
			} else if n == many {
				if ties++; rand.IntN(ties) == 0 {
					most = part
				}
			}
		}
		if most == nil {
			return false
		}
		own = own && most.network == path[depth]
		c = most
	}
	if own {
		return g.evictLocked(c.guests[0], now, patience)
	}
	return g.evictLocked(c.guests[0], now, patience) || g.evictLocked(c.guests[rand.IntN(c.n)], now, 0)
}

// evictLocked has somebody go who has been there so long.
func (g *gate) evictLocked(v *guest, now time.Time, least time.Duration) bool {
	if now.Sub(v.since) < least {
		return false
	}
	g.turnAwayLocked(v.source.network.Addr(), now)
	v.leaveLocked()
	go v.evict() // who closes a connection leaves again, and g.mu is held
	return true
}

// leave says that somebody has proven a key, or has gone.
func (v *guest) leave() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.leaveLocked()
}

func (v *guest) leaveLocked() {
	if v.gone {
		return
	}
	v.gone = true
	i := slices.Index(v.source.guests, v)
	v.source.guests = slices.Delete(v.source.guests, i, i+1)
	for c := v.source; c != nil; c = c.of {
		if c.n--; c.n == 0 && c.of != nil {
			delete(c.of.parts, c.network)
		}
	}
}

func (g *gate) turnAwayLocked(from netip.Addr, now time.Time) {
	if n, first := g.turned.count(now); first {
		g.log.Warn("connections are turned away: too many have not shown a key yet", "source", from.String(), "before", n)
	}
}

// A burst is things that happen so often that one line in the log has to do for many.
type burst struct {
	n    int
	last time.Time
}

// count reports whether a line is to be written now, and how many things have had none since the last line.
func (b *burst) count(now time.Time) (unsaid int, say bool) {
	quiet := now.Sub(b.last) >= burstEnd
	b.last = now
	if !quiet {
		b.n++
		return 0, false
	}
	unsaid, b.n = b.n, 0
	return unsaid, true
}
