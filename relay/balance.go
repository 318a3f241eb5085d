package relay

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// order lists the targets of f in the order in which a session of this client tries them. One that cannot be reached is
// always followed by the next, whatever the balance.
func (t *task) order(f *forward.Forward, client netip.Addr) []forward.Target {
	if len(f.To) == 1 {
		return f.To
	}
	switch f.Balance {
	case forward.BalanceRoundRobin:
		first := int((t.turn.Add(1) - 1) % uint64(len(f.To)))
		return slices.Concat(f.To[first:], f.To[:first])
	case forward.BalanceLeast:
		return t.leastFirst(f.To)
	case forward.BalanceSource:
		return bySource(f.To, client)
	}
	return f.To
}

// leastFirst puts the targets with the fewest open sessions first; those with as many stay as they were written.
func (t *task) leastFirst(to []forward.Target) []forward.Target {
	order := slices.Clone(to)
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(order, func(a, b forward.Target) int { return cmp.Compare(t.perTarget[a], t.perTarget[b]) })
	return order
}

// bySource gives every client its own order by rendezvous hashing (Thaler and Ravishankar, 1998): a target that comes or
// goes moves only the clients that were or will be its own. The hash has no seed, so that it survives a restart.
func bySource(to []forward.Target, client netip.Addr) []forward.Target {
	order := slices.Clone(to)
	address := client.As16()
	weights := make(map[forward.Target]uint64, len(order))
	for _, t := range order {
		h := fnv.New64a()
		_, _ = h.Write([]byte(t.String()))
		_, _ = h.Write(address[:])
		weights[t] = mix(h.Sum64())
	}
	slices.SortStableFunc(order, func(a, b forward.Target) int { return cmp.Compare(weights[b], weights[a]) })
	return order
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
