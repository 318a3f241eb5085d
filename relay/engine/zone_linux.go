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
