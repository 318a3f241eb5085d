package kernel

import (
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// Facts is what a planner must know of this host to say whether the kernel can carry a forward, and how. It is a snapshot:
// addresses come and go, and so do privileges and sysctls.
type Facts struct {
	Unusable string // why no forward at all can be carried by this kernel, or ""
	Routes4  bool   // net.ipv4.ip_forward: this host forwards IPv4 packets between its interfaces
	Routes6  bool   // net.ipv6.conf.all.forwarding
	Addrs    []Addr // of this host, loopback left out
	Default4 string // the interface of the IPv4 default route, or ""
	Default6 string // the interface of the IPv6 default route, or ""

	// Unread are the helpers that this kernel turned out not to have (see HelperError). Probe does not know: asking would load
	// modules that nobody needs.
	Unread []forward.Helper
}

// An Addr is an address of this host and the interface that bears it.
type Addr struct {
	Prefix    netip.Prefix // the address itself with the length of its network
	Interface string
}

// Equal reports whether f and g would lead to the same plans.
func (f Facts) Equal(g Facts) bool {
	return f.Unusable == g.Unusable && f.Routes4 == g.Routes4 && f.Routes6 == g.Routes6 &&
		f.Default4 == g.Default4 && f.Default6 == g.Default6 && slices.Equal(f.Addrs, g.Addrs) && slices.Equal(f.Unread, g.Unread)
}

// Routes reports whether this host forwards packets of the family that addr belongs to.
func (f Facts) Routes(addr netip.Addr) bool {
	if addr.Is4() {
		return f.Routes4
	}
	return f.Routes6
}

// IsLocal reports whether addr is one of this host's own.
func (f Facts) IsLocal(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.ContainsFunc(f.Addrs, func(a Addr) bool { return a.Prefix.Addr() == addr })
}

// Egress is the interface that packets to addr leave by, as far as addresses and the default route tell, or "".
func (f Facts) Egress(addr netip.Addr) string {
	best, bits := "", -1
	for _, a := range f.Addrs {
		if a.Prefix.Masked().Contains(addr) && a.Prefix.Bits() > bits {
			best, bits = a.Interface, a.Prefix.Bits()
		}
	}
	switch {
	case bits >= 0:
		return best
	case addr.Is4():
		return f.Default4
	}
	return f.Default6
}
