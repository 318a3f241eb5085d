package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// nameKeepers holds places for forwards that are told apart by name, several of which may stand at one port: in the kernel each
// port is one element, whose is nobody's in particular. The others of a list pass as they are.
type nameKeepers struct {
	last  forward.List
	named map[string]*forward.Forward // those with names, by their own
	plain map[string]*forward.Forward // those without that the relay carries: one may hold the place for who calls no name
	made  map[string]*forward.Forward // by name: what stays the same keeps its pointer
}

// fold is list with one keeper for each claim of those with names, in their place.
func (k *nameKeepers) fold(list forward.List) forward.List {
	if k.named == nil {
		k.named, k.plain = map[string]*forward.Forward{}, map[string]*forward.Forward{}
	}
	removed, added := k.last.Differ(list)
	k.last = list
	again := false
	for _, f := range removed {
		if m := k.mapOf(f); m != nil {
			delete(m, f.Name)
			again = true
		}
	}
	for _, f := range added {
		if m := k.mapOf(f); m != nil {
			m[f.Name] = f
			again = true
		}
	}
	if again {
		k.make()
	}
	if len(k.named) == 0 {
		return list
	}
	edits := maps.Clone(k.made)
	for name := range k.named {
		edits[name] = nil
	}
	return list.Edit(edits)
}

// mapOf is where a forward is noted; nil: nowhere.
func (k *nameKeepers) mapOf(f *forward.Forward) map[string]*forward.Forward {
	switch {
	case f.ByName():
		return k.named
	case f.Carry == forward.CarryRelay:
		return k.plain
	}
	return nil
}

// make finds the keepers that there are to be.
func (k *nameKeepers) make() {
	made := map[string]*forward.Forward{}
	if len(k.named) > 0 {
		taken := map[forward.Claim]bool{}
		for _, f := range k.plain {
			for c := range f.Claims {
				taken[c] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(k.named)) {
			f := k.named[name]
			for c := range f.Claims {
				if c.Host = ""; taken[c] {
					continue
				}
				one := keeper(c, f)
				if old := k.made[one.Name]; old != nil && old.Equal(one) {
					one = old
				}
				made[one.Name] = one
			}
		}
	}
	k.made = made
}

// keeper holds the place of one claim. Its name has a '/', which no forward's has that somebody asked for.
func keeper(c forward.Claim, f *forward.Forward) *forward.Forward {
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", c))
	k := &forward.Forward{
		Name: fmt.Sprintf("/names-%d-%s", c.Range.First, hex.EncodeToString(sum[:6])), Origin: f.Origin, To: []forward.Target{{Host: "names"}}, Carry: forward.CarryRelay,
		Interface: c.Interface, Listen: forward.Listen{Networks: c.Network, Addr: c.Addr, Ports: forward.Ports{Ranges: []forward.Range{c.Range}}},
	}
	if !c.ByAddr {
		k.Listen.Addr = netip.IPv4Unspecified()
		if c.V6 {
			k.Listen.Addr = netip.IPv6Unspecified()
		}
	}
	if c.FromBits > 0 {
		k.From = []netip.Prefix{c.From}
	}
	return k
}
