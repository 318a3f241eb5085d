package engine

import (
	"net"
	"net/netip"
	"strconv"
)

// withZone names the interface of a link-local address (RFC 4007, section 11).
func withZone(a netip.Addr, index uint32) netip.Addr {
	if index == 0 {
		return a
	}
	if i, err := net.InterfaceByIndex(int(index)); err == nil {
		return a.WithZone(i.Name)
	}
	return a.WithZone(strconv.FormatUint(uint64(index), 10))
}

// zoneIndex is the number of an interface that a zone names, 0 for none.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}
