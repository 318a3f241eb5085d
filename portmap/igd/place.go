package igd

import (
	"net/netip"

	"github.com/fairlead-net/fairlead/portmap"
)

// within reports whether an address is one of a host in a place: in one of its networks, not the network's own or its broadcast
// address, and not this host's. Every address of a link is in a place with IPv6.
func within(p portmap.Place, addr netip.Addr) bool {
	addr = addr.WithZone("")
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return false
	}
	near := false
	for _, own := range p.Addrs {
		switch {
		case own.Addr() == addr:
			return false
		case own.Addr().Is4() != addr.Is4():
		case own.Contains(addr):
			if addr.Is4() && own.Bits() < 31 && (addr == own.Masked().Addr() || addr == broadcast(own)) {
				return false
			}
			near = true
		case addr.Is6() && addr.IsLinkLocalUnicast():
			near = true
		}
	}
	return near
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// address is which address of a place a client is told of: the one that it asked, if that is an address; else one in its own network; else
// one of its family. Neighbours that search from a link-local address get a global one where there is one (UDA 1.1, annex A, would have
// a link-local one): they then ask for pinholes from the address that they want them for.
func address(p portmap.Place, client, asked netip.Addr) (netip.Addr, bool) {
	client = client.WithZone("")
	var best netip.Addr
	rank := 0
	for _, own := range p.Addrs {
		addr, r := own.Addr(), 0
		switch {
		case addr.Is4() != client.Is4():
		case addr == asked:
			r = 5
		case own.Contains(client) && !client.IsLinkLocalUnicast():
			r = 4
		case addr.IsLinkLocalUnicast():
			r = 1
		case addr.IsPrivate(): // unique local, in IPv6
			r = 2
		default:
			r = 3
		}
		if r > rank {
			best, rank = addr, r
		}
	}
	return best, rank > 0
}

// owns reports whether an address is this host's in the place.
func owns(p portmap.Place, addr netip.Addr) bool {
	for _, own := range p.Addrs {
		if own.Addr() == addr.WithZone("") {
			return true
		}
	}
	return false
}
