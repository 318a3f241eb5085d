package forward

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// An Index finds the forward that a packet belongs to, the most specific first, and refuses two forwards that claim the
// same traffic. The zero Index is empty and ready; concurrent reads are safe, writes are not.
type Index struct {
	exact      map[claimKey]*Forward // PortExact and PortAll: one owner a key
	ranges     map[claimKey][]owned  // PortRange: ascending, disjoint
	shapes     map[Shape]int         // claims of each shape
	order      []Shape               // the keys of shapes, the most specific first
	interfaces map[string]int        // claims of each interface
}

type claimKey struct {
	Shape
	network   Networks
	from      netip.Prefix
	addr      netip.Addr
	iface     string
	exactPort uint16
}

type owned struct {
	Range
	f *Forward
}

// A TieError says that two forwards claim the same traffic, so that neither is more specific.
type TieError struct {
	Name, Other string // the forward that was refused, and the one that was there first
	Claim       Claim  // what both ask for
}

func (e *TieError) Error() string {
	at := "*"
	if !e.Claim.Range.IsZero() {
		at = e.Claim.Range.String()
	}
	return fmt.Sprintf("forwards %q and %q claim the same traffic: %s port %s", e.Other, e.Name, e.Claim.Network, at)
}

// Add enters f, or returns a *TieError and leaves the index as it was.
func (x *Index) Add(f *Forward) error {
	for c := range f.Claims {
		if other := x.owner(c); other != nil {
			return &TieError{Name: f.Name, Other: other.Name, Claim: c}
		}
	}
	if x.exact == nil {
		x.exact, x.ranges = map[claimKey]*Forward{}, map[claimKey][]owned{}
		x.shapes, x.interfaces = map[Shape]int{}, map[string]int{}
	}
	for c := range f.Claims {
		k := keyOf(c)
		if c.Ports == PortRange {
			at, _ := searchRange(x.ranges[k], c.Range)
			x.ranges[k] = slices.Insert(x.ranges[k], at, owned{c.Range, f})
		} else {
			x.exact[k] = f
		}
		x.count(c.Shape, 1)
		if c.ByInput {
			x.interfaces[c.Interface]++
		}
	}
	return nil
}

// Remove takes f out again. f must be a forward that Add took.
func (x *Index) Remove(f *Forward) {
	for c := range f.Claims {
		k := keyOf(c)
		if c.Ports == PortRange {
			x.ranges[k] = slices.DeleteFunc(x.ranges[k], func(o owned) bool { return o.f == f && o.Range == c.Range })
			if len(x.ranges[k]) == 0 {
				delete(x.ranges, k)
			}
		} else {
			delete(x.exact, k)
		}
		x.count(c.Shape, -1)
		if c.ByInput {
			if x.interfaces[c.Interface]--; x.interfaces[c.Interface] == 0 {
				delete(x.interfaces, c.Interface)
			}
		}
	}
}

// A Packet is the first of a session, as far as forwards tell packets apart.
type Packet struct {
	Network   Networks // TCP or UDP
	Client    netip.Addr
	Addr      netip.Addr // the address that the client used
	Local     bool       // Addr is an address of this host
	Port      uint16
	Interface string // where it came in; "" is not known, and then any interface matches
}

// Match returns the forward that p belongs to, or nil.
func (x *Index) Match(p Packet) *Forward {
	for f := range x.Candidates(p) {
		return f
	}
	return nil
}

// Candidates yields every forward that would take p, the most specific first: what comes after the first would take p if
// those before it were gone.
func (x *Index) Candidates(p Packet) iter.Seq[*Forward] {
	return func(yield func(*Forward) bool) {
		p.Client, p.Addr = p.Client.Unmap(), p.Addr.Unmap().WithZone("")
		for _, s := range x.order {
			if s.V6 != p.Client.Is6() || !s.ByAddr && !p.Local {
				continue
			}
			from, err := p.Client.WithZone("").Prefix(s.FromBits)
			if err != nil {
				continue
			}
			k := claimKey{Shape: s, network: p.Network, from: from}
			if s.ByAddr {
				k.addr = p.Addr
			}
			if !x.eachInterface(k, p, yield) {
				return
			}
		}
	}
}

func (x *Index) eachInterface(k claimKey, p Packet, yield func(*Forward) bool) bool {
	offer := func(iface string) bool {
		k.iface = iface
		f := x.lookup(k, p.Port)
		return f == nil || !f.Admits(p.Client) || yield(f)
	}
	switch {
	case !k.ByInput:
		return offer("")
	case p.Interface != "":
		return offer(p.Interface)
	}
	for iface := range x.interfaces {
		if !offer(iface) {
			return false
		}
	}
	return true
}

func (x *Index) lookup(k claimKey, port uint16) *Forward {
	switch k.Ports {
	case PortRange:
		if at, found := searchRange(x.ranges[k], Range{port, port}); found {
			return x.ranges[k][at].f
		}
		return nil
	case PortExact:
		k.exactPort = port
	}
	return x.exact[k]
}

func (x *Index) owner(c Claim) *Forward {
	k := keyOf(c)
	if c.Ports != PortRange {
		return x.exact[k]
	}
	if at, found := searchRange(x.ranges[k], c.Range); found {
		return x.ranges[k][at].f
	}
	return nil
}

// searchRange finds the range of list that overlaps r, or the place where r belongs.
func searchRange(list []owned, r Range) (int, bool) {
	return slices.BinarySearchFunc(list, r, func(o owned, r Range) int {
		switch {
		case o.Last < r.First:
			return -1
		case o.First > r.Last:
			return 1
		}
		return 0
	})
}

// count adds n to the claims of shape s, and keeps order in step.
func (x *Index) count(s Shape, n int) {
	before := x.shapes[s]
	x.shapes[s] = before + n
	at, _ := slices.BinarySearchFunc(x.order, s, Shape.Compare)
	switch {
	case before == 0:
		x.order = slices.Insert(x.order, at, s)
	case before+n == 0:
		delete(x.shapes, s)
		x.order = slices.Delete(x.order, at, at+1)
	}
}

func keyOf(c Claim) claimKey {
	k := claimKey{Shape: c.Shape, network: c.Network, from: c.From, addr: c.Addr, iface: c.Interface}
	if c.Ports == PortExact {
		k.exactPort = c.Range.First
	}
	return k
}
