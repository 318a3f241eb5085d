package head

import (
	"errors"
	"net"
	"net/netip"
	"strings"
)

// maxName is how long a name may be, in bytes: what SOCKS 5 has room for, and more than the 253 of DNS.
const maxName = 255

// Host reads what a client gave as a host. What is an IP address comes back as one, in its shortest form and with IPv4 taken
// out of IPv6, so that a policy sees the same address however it was written; it may stand in brackets. Everything else is a
// name for the node that dials, as it was written, if it has no byte in it that no name has.
func Host(s string) (string, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		if !ok || err != nil || !addr.Is6() {
			return "", errors.New("what stands in brackets is no IPv6 address")
		}
		return hostOf(addr), nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return hostOf(addr), nil
	}
	switch {
	case s == "":
		return "", errors.New("the name of the target is empty")
	case len(s) > maxName:
		return "", errors.New("the name of the target is too long")
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f || strings.IndexByte(`"%/:<>?@[\]^|#`, c) >= 0 {
			return "", errors.New("the name of the target has a character that no name has")
		}
	}
	return s, nil
}

// hostOf is addr as Host gives it. A zone means something to link-local addresses alone.
func hostOf(addr netip.Addr) string {
	addr = addr.Unmap()
	if !addr.IsLinkLocalUnicast() && !addr.IsLinkLocalMulticast() {
		addr = addr.WithZone("")
	}
	return addr.String()
}

// AddrPort is the IP address and port of a, or zero when it has none, as a unix socket.
func AddrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case nil:
	case interface{ AddrPort() netip.AddrPort }:
		ap = a.AddrPort()
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
