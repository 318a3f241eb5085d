package firewall

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// A Host is what has to be known of this host to say how a forward's packets pass it.
type Host struct {
	Addrs    []Addr // loopback left out
	Default4 string // the interface of the IPv4 default route, or ""
	Default6 string // the interface of the IPv6 default route, or ""

	Indexes map[string]int // numbers of interfaces, by name; nil: they are looked up
}

// An Addr is an address of this host and the interface that bears it.
type Addr struct {
	Prefix    netip.Prefix // the address itself with the length of its network
	Interface string
}

// Equal reports whether h and g are the same.
func (h Host) Equal(g Host) bool {
	return maps.Equal(h.Indexes, g.Indexes) && h.Default4 == g.Default4 && h.Default6 == g.Default6 && slices.Equal(h.Addrs, g.Addrs)
}

func (h Host) isLocal(a netip.Addr) bool {
	return a.IsLoopback() || slices.ContainsFunc(h.Addrs, func(have Addr) bool { return have.Prefix.Addr() == a })
}

// egress is the interface that packets to a leave by, or "".
func (h Host) egress(a netip.Addr) string {
	best, bits := "", -1
	for _, have := range h.Addrs {
		if have.Prefix.Masked().Contains(a) && have.Prefix.Bits() > bits {
			best, bits = have.Interface, have.Prefix.Bits()
		}
	}
	switch {
	case bits >= 0:
		return best
	case a.Is4():
		return h.Default4
	}
	return h.Default6
}

// address is an address of the interface, or of any where that has none.
func (h Host) address(iface string, v6 bool) netip.Addr {
	var any netip.Addr
	for _, have := range h.Addrs {
		a := have.Prefix.Addr()
		if a.Is6() != v6 {
			continue
		}
		if have.Interface == iface && !a.IsLinkLocalUnicast() {
			return a
		}
		if !any.IsValid() {
			any = a
		}
	}
	return any
}

// Clients of whom no more is known than that they are somewhere on the Internet (RFC 5737 and RFC 3849 set them aside).
var (
	stranger4 = netip.MustParseAddr("198.51.100.77")
	stranger6 = netip.MustParseAddr("2001:db8:ffff::77")
)

// A client is somebody who might come to a forward.
type client struct {
	addr netip.Addr
	in   string // by this interface
}

// maxClients is how many clients of one family are tried for each forward.
const maxClients = 4

// clients are those whose packets are followed: one of each prefix that the forward is for, else a stranger from where
// strangers come, else a neighbour on each of this host's networks.
func (h Host) clients(f *forward.Forward, v6 bool) []client {
	var out []client
	add := func(a netip.Addr, in string) {
		if in != "" && (f.Interface == "" || f.Interface == in) && len(out) < maxClients && f.Admits(a) {
			out = append(out, client{a, in})
		}
	}
	if len(f.From) > 0 {
		for _, p := range f.From {
			if p.Addr().Is6() != v6 {
				continue
			}
			a := p.Addr()
			if p.Bits() == 0 {
				a = stranger(v6)
			} else if p.Bits() < a.BitLen()-1 {
				a = a.Next() // the first may be the network's own
			}
			in := h.egress(a)
			if f.Interface != "" {
				in = f.Interface
			}
			add(a, in)
		}
		return out
	}
	if f.Interface != "" {
		out = append(out, client{h.neighbour(f.Interface, v6), f.Interface})
		return out
	}
	if to := f.Listen.Addr; to.IsValid() && !to.IsUnspecified() {
		if in := h.bearer(to); in != "" {
			add(h.neighbour(in, v6), in)
			return out
		}
	}
	byDefault := h.Default4
	if v6 {
		byDefault = h.Default6
	}
	if byDefault != "" {
		add(stranger(v6), byDefault)
		return out
	}
	for _, have := range h.Addrs {
		known := slices.ContainsFunc(out, func(c client) bool { return c.in == have.Interface })
		if have.Prefix.Addr().Is6() == v6 && !have.Prefix.Addr().IsLinkLocalUnicast() && !known {
			add(h.neighbour(have.Interface, v6), have.Interface)
		}
	}
	return out
}

func stranger(v6 bool) netip.Addr {
	if v6 {
		return stranger6
	}
	return stranger4
}

// bearer is the interface that has the address, or "".
func (h Host) bearer(a netip.Addr) string {
	for _, have := range h.Addrs {
		if have.Prefix.Addr() == a {
			return have.Interface
		}
	}
	return ""
}

// neighbour is an address that comes in by the interface: a stranger's where the default route leads, else one of its network.
func (h Host) neighbour(iface string, v6 bool) netip.Addr {
	if !v6 && iface == h.Default4 || v6 && iface == h.Default6 {
		return stranger(v6)
	}
	for _, have := range h.Addrs {
		a := have.Prefix.Addr()
		if have.Interface != iface || a.Is6() != v6 || a.IsLinkLocalUnicast() {
			continue
		}
		for _, next := range []netip.Addr{a.Next(), a.Prev()} {
			if have.Prefix.Contains(next) && have.Prefix.Masked().Addr() != next {
				return next
			}
		}
	}
	return stranger(v6)
}

// clientPort is a port that a client might have (RFC 6335, section 6: dynamic ports).
const clientPort = 51234

// journeys calls yield for every way in which packets of f come to this host and must get through. The packets of one
// journey are in the order of hooks; if one of them is dropped, nothing works.
func (h Host) journeys(f *forward.Forward, yield func(journey) bool) {
	if f.ListensAt() != forward.Host || f.Listen.IsUnix() || f.Listen.Addr.IsLoopback() || f.Disabled || len(f.To) == 0 {
		return // nobody comes there through a firewall
	}
	for _, v6 := range []bool{false, true} {
		if a := f.Listen.Addr; a.IsValid() && a.Is6() != v6 {
			continue
		}
		for _, t := range f.To {
			kernel := f.Carry == forward.CarryKernel
			if kernel && t.Addr.IsValid() && t.Addr.Is6() != v6 {
				continue
			}
			for _, c := range h.clients(f, v6) {
				for network := range f.Listen.Networks.Each {
					if j, ok := h.journey(f, t, c, network, v6); ok && !yield(j) {
						return
					}
				}
			}
			if !kernel {
				break // where the relay dials is another matter
			}
		}
	}
}

// A journey is the packets of one client of one forward.
type journey struct {
	client  client
	out     string // the interface of the target; "" is this host
	network forward.Networks
	v6      bool
	dst     netip.AddrPort // where firewalls see it go after it was translated
	front   netip.AddrPort // where the client sent it
	packets []packet
}

func (h Host) journey(f *forward.Forward, t forward.Target, c client, network forward.Networks, v6 bool) (journey, bool) {
	front := f.Listen.Addr
	if !front.IsValid() || front.IsUnspecified() {
		front = h.address(c.in, v6)
	}
	if !front.IsValid() {
		return journey{}, false
	}
	port := firstPort(f)
	p := packet{
		hook: Prerouting, in: c.in, inIndex: h.Indexes[c.in], v6: v6, proto: protoTCP, src: c.addr, dst: front, srcPort: clientPort, dstPort: port,
		srcLocal: false, dstLocal: h.isLocal(front), dstOnIn: h.bearer(front) == c.in, origSrc: netip.AddrPortFrom(c.addr, clientPort), origDst: netip.AddrPortFrom(front, port),
		markKnown: true,
	}
	if network == forward.UDP {
		p.proto = protoUDP
	}
	j := journey{client: c, network: network, v6: v6, front: p.origDst}
	first := p
	if f.Carry == forward.CarryKernel && !f.IsPinhole() {
		p.dnat = true
		p.dstPort = f.TargetPort(t, port)
		if t.Addr.IsValid() {
			p.dst = t.Addr
		}
		p.dstLocal, p.dstOnIn = h.isLocal(p.dst), h.bearer(p.dst) == c.in
		first.dnat, first.newDst, first.newLocal = true, netip.AddrPortFrom(p.dst, p.dstPort), p.dstLocal
	}
	j.packets = append(j.packets, first)
	j.dst = netip.AddrPortFrom(p.dst, p.dstPort)
	if p.dstLocal {
		p.hook = Input
		j.packets = append(j.packets, p)
		return j, true
	}
	j.out = h.egress(p.dst)
	p.hook, p.out, p.outIndex = Forward, j.out, h.Indexes[j.out]
	back := p
	back.reply, back.in, back.out = true, p.out, p.in
	back.inIndex, back.outIndex = p.outIndex, p.inIndex
	back.src, back.dst, back.srcPort, back.dstPort = p.dst, p.src, p.dstPort, p.srcPort
	after := p
	after.hook, after.in, after.inIndex = Postrouting, "", 0
	j.packets = append(j.packets, p, back, after)
	return j, true
}

// firstPort stands for all ports of f. Of "*" it is one that firewalls have no rule for of their own accord.
func firstPort(f *forward.Forward) uint16 {
	if f.Listen.Ports.All || len(f.Listen.Ports.Ranges) == 0 {
		return 49321
	}
	return f.Listen.Ports.Ranges[0].First
}
