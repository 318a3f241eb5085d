package forward

import (
	"cmp"
	"net/netip"
)

// PortKind orders claims by how closely they name a port.
type PortKind uint8

// The kinds of ports, the most specific first.
const (
	PortExact PortKind = iota
	PortRange
	PortAll
)

// A Shape is what a claim looks at, without the values: claims of one shape are told apart by one lookup. A configuration
// has few shapes however many forwards it has, which is what keeps the cost of a packet independent of their number.
type Shape struct {
	V6       bool
	FromBits int  // length of the client prefix; 0 is every client
	ByAddr   bool // one address of this host rather than all of them
	ByInput  bool // one interface rather than all of them
	Ports    PortKind
}

// Compare orders shapes from the most specific to the least. "*" is every port that nothing else claims, so it comes last
// whatever else it names. Before that: the narrower from, then the exact address, then the exact port before the range, then
// the named interface. IPv4 and IPv6 never meet; IPv4 comes first to have one order.
func (s Shape) Compare(t Shape) int {
	return cmp.Or(
		compareBool(t.V6, s.V6),
		compareBool(t.Ports == PortAll, s.Ports == PortAll),
		cmp.Compare(t.FromBits, s.FromBits),
		compareBool(s.ByAddr, t.ByAddr),
		cmp.Compare(s.Ports, t.Ports),
		compareBool(s.ByInput, t.ByInput),
	)
}

// compareBool puts true before false.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// A Claim is one piece of the traffic that a forward asks for: one protocol, one client prefix, one address and one port,
// range or "*". Except is not part of it: who is excepted falls through to the next claim.
type Claim struct {
	Shape
	Network   Networks
	From      netip.Prefix // 0.0.0.0/0 or ::/0 with FromBits 0
	Addr      netip.Addr   // set with ByAddr
	Interface string       // set with ByInput
	Range     Range        // zero with PortAll
	Host      string       // the name that a client calls; "": all that no other name is for
}

var anyPrefix = [...]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// Claims calls yield for every claim of f, in a fixed order. A forward that does not listen on a port of this host has none.
func (f *Forward) Claims(yield func(Claim) bool) {
	if f.ListensAt() != Host || f.Listen.IsUnix() {
		return
	}
	addr := f.Listen.Addr
	for _, v6 := range []bool{false, true} {
		if addr.IsValid() && addr.Is6() != v6 {
			continue
		}
		for from := range f.fromOf(v6) {
			for network := range f.Listen.Networks.Each {
				c := Claim{Shape: Shape{V6: v6, FromBits: from.Bits()}, Network: network, From: from}
				if c.ByAddr = addr.IsValid() && !addr.IsUnspecified(); c.ByAddr {
					c.Addr = addr
				}
				c.ByInput, c.Interface = f.Interface != "", f.Interface
				if !f.eachPortClaim(c, yield) {
					return
				}
			}
		}
	}
}

// fromOf calls yield for every client prefix of one family.
func (f *Forward) fromOf(v6 bool) func(func(netip.Prefix) bool) {
	return func(yield func(netip.Prefix) bool) {
		if len(f.From) == 0 {
			yield(anyPrefix[b2i(v6)])
			return
		}
		for _, p := range f.From {
			if p.Addr().Is6() == v6 && !yield(p) {
				return
			}
		}
	}
}

func (f *Forward) eachPortClaim(c Claim, yield func(Claim) bool) bool {
	if f.Listen.Ports.All {
		c.Ports = PortAll
		return yield(c)
	}
	for _, r := range f.Listen.Ports.Ranges {
		c.Ports, c.Range = PortExact, r
		if r.First != r.Last {
			c.Ports = PortRange
		}
		for host := range f.claimNames {
			c.Host = host
			if !yield(c) {
				return false
			}
		}
	}
	return true
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
