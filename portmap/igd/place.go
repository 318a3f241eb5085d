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
// one of its family. Neighbours that ask from a link-local address get one of those.
func address(p portmap.Place, client, asked netip.Addr) (netip.Addr, bool) {
	client = client.WithZone("")
	var best netip.Addr
	rank := 0
	for _, own := range p.Addrs {
		addr, r := own.Addr(), 1
		switch {
		case addr.Is4() != client.Is4():
			continue
		case addr == asked:
			r = 4
		case own.Contains(client):
			r = 3
		case addr.IsLinkLocalUnicast() == client.IsLinkLocalUnicast():
			r = 2
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
