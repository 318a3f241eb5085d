package tunnel

import (
	"net"
	"net/netip"
)

// A textAddr is an address that is no number: a name, a path, or unknown.
type textAddr struct{ network, text string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.text }

// addrOf is text as an address of package net where it is one.
func addrOf(network, text string) net.Addr {
	a, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		return textAddr{network, text}
	case isPackets(network):
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}

func textOf(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
