package relay

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/health"
)

// A choice is a target that a session may get.
type choice struct {
	*target
	to   *forward.Target // it, in the forward
	rank int             // how well it is: the lower, the better
	key  float64         // its place among those of its rank: the lower, the sooner
}

// Ranks of a choice.
const (
	rankWell = iota
	rankFailing
	rankDown
)

// order lists the targets of f in the order in which a session of this client tries them; none when every one is draining. One
// that cannot be reached is always followed by the next, whatever the balance. Those that failed lately come last. Those that
// are down are left out, unless there is no other: then a check that is wrong does more harm than an attempt in vain.
//
// It is called in the engine's loops, and so waits for nothing but t.mu.
func (t *task) order(f *forward.Forward, client netip.Addr, network forward.Networks) []forward.Target {
	if len(f.To) == 1 && len(f.Drain) == 0 {
		return f.To
	}
	now := time.Now()
	var some [8]choice // spares most forwards the allocation
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.choices(some[:0], f, network, now)
	if len(list) == 0 {
		return nil
	}
	switch f.Balance {
	case forward.BalanceRoundRobin:
		takeTurn(list, now, f.SlowStart)
	case forward.BalanceLeast:
		for i := range list {
			list[i].key = float64(list[i].open+1) / list[i].record.Weight(now, f.SlowStart)
		}
	case forward.BalanceSource:
		for i := range list {
			list[i].key = -rendezvous(list[i].to, client)
		}
	}
	slices.SortStableFunc(list, func(a, b choice) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.key, b.key))
	})
	if network == forward.UDP {
		list[0].rest.Try(now)
	}
	return targetsIn(list, f)
}

// choices appends the targets that a session may get to list, in the order in which they are written. The caller holds t.mu.
func (t *task) choices(list []choice, f *forward.Forward, network forward.Networks, now time.Time) []choice {
	best := rankDown
	for i := range f.To {
		g := t.targetAt(f, i)
		if g.draining {
			continue
		}
		c := choice{target: g, to: &f.To[i], rank: g.rank(f, network, now)}
		best = min(best, c.rank)
		list = append(list, c)
	}
	if best == rankDown {
		return list
	}
	return slices.DeleteFunc(list, func(c choice) bool { return c.rank == rankDown })
}

// targetAt is what is known of a target of f, which need not be the forward that the task carries by now.
func (t *task) targetAt(f *forward.Forward, i int) *target {
	if f == t.f && i < len(t.targets) {
		return t.targets[i]
	}
	if g := t.known(&f.To[i]); g != nil {
		return g
	}
	return &target{Target: f.To[i], draining: f.Draining(f.To[i])}
}

func (g *target) rank(f *forward.Forward, network forward.Networks, now time.Time) int {
	state := g.record.State()
	checked := f.Check.Kind != forward.CheckNone
	switch {
	case state == health.Down:
		return rankDown
	case network == forward.UDP && g.rest.On(now):
		return rankFailing
	case state == health.Failing && (network != forward.UDP || checked): // else it is a stream that failed
		return rankFailing
	}
	return rankWell
}

// targetsIn is the targets of a list, without a copy where they are just those of f.
func targetsIn(list []choice, f *forward.Forward) []forward.Target {
	asWritten := len(list) == len(f.To)
	for i := range list {
		asWritten = asWritten && list[i].to == &f.To[i]
	}
	if asWritten {
		return f.To
	}
	order := make([]forward.Target, len(list))
	for i := range list {
		order[i] = *list[i].to
	}
	return order
}

// takeTurn puts the target first whose turn it is, and behind it the others as they follow it. The turns are those of smooth
// weighted round-robin, as nginx has it: every target is owed its weight by every session, and who gets the session pays
// for all. With equal weights that is one after the other, also when some are passed over.
func takeTurn(list []choice, now time.Time, slowStart time.Duration) {
	best, first, total := list[0].rank, -1, 0.0
	for i := range list {
		best = min(best, list[i].rank)
	}
	for i := range list {
		if list[i].rank != best {
			continue
		}
		weight := list[i].record.Weight(now, slowStart)
		list[i].turn += weight
		total += weight
		if first < 0 || list[i].turn > list[first].turn {
			first = i
		}
	}
	list[first].turn -= total
	for i := range list {
		list[i].key = float64((i - first + len(list)) % len(list))
	}
}

// rendezvous gives every client its own order of the targets by rendezvous hashing (Thaler and Ravishankar, 1998): a target
// that comes or goes moves only the clients that were or will be its own. The hash has no seed, so that it survives a restart.
func rendezvous(t *forward.Target, client netip.Addr) float64 {
	address := client.As16()
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.String()))
	_, _ = h.Write(address[:])
	return float64(mix(h.Sum64()))
}

// mix spreads what FNV leaves in the low bits over all of them, so that neighbouring clients do not sort alike (the
// finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
