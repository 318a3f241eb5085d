package wake

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/fairlead-net/fairlead/forward"
)

// A link is an interface of this host by which a packet can reach every neighbour.
type link struct {
	index    int
	name     string
	ethernet bool           // its neighbours have MAC addresses
	prefixes []netip.Prefix // its own addresses, with the length of their networks
}

// links are the interfaces that are up, connected, and can broadcast. Tunnels and loopback cannot.
func links() ([]link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var list []link
	const needed = net.FlagUp | net.FlagRunning | net.FlagBroadcast
	for _, i := range interfaces {
		if i.Flags&needed != needed || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		list = append(list, link{index: i.Index, name: i.Name, ethernet: len(i.HardwareAddr) == len(forward.MAC{}), prefixes: prefixesOf(addrs)})
	}
	return list, nil
}

func prefixesOf(addrs []net.Addr) []netip.Prefix {
	var list []netip.Prefix
	for _, a := range addrs {
		network, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(network.IP)
		bits, _ := network.Mask.Size()
		if ok {
			list = append(list, netip.PrefixFrom(addr.Unmap(), bits))
		}
	}
	return list
}

// zone is l as the zone of an IPv6 address: its number, because package net remembers names for a minute, in which an
// interface may have come back with another number.
func (l link) zone() string { return strconv.Itoa(l.index) }

// choose picks the links to send by. One without addresses, such as the port of a bridge, counts only when it is named.
func choose(all []link, t Target) ([]link, error) {
	if t.Interface != "" {
		i := slices.IndexFunc(all, func(l link) bool { return l.name == t.Interface })
		if i < 0 {
			return nil, fmt.Errorf("interface %q is not one of this host, or is not connected, or cannot broadcast", t.Interface)
		}
		return all[i : i+1], nil
	}
	var addressed, near []link
	for _, l := range all {
		if len(l.prefixes) > 0 {
			addressed = append(addressed, l)
		}
		if slices.ContainsFunc(t.Addrs, l.contains) {
			near = append(near, l)
		}
	}
	if len(near) > 0 {
		return near, nil
	}
	return addressed, nil
}

// contains reports whether addr is in one of the link's networks.
func (l link) contains(addr netip.Addr) bool {
	if zone := addr.Zone(); zone != "" && zone != l.name && zone != l.zone() {
		return false
	}
	addr = addr.Unmap().WithZone("") // no prefix contains an address with a zone
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// directedBroadcast is the last address of an IPv4 network, which reaches all of it (RFC 919, section 7). Networks of one
// or two addresses have none (RFC 3021).
func directedBroadcast(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}, false
	}
	addr := p.Addr().As4()
	for i := range addr {
		hostBits := min(max(8*(i+1)-p.Bits(), 0), 8)
		addr[i] |= byte(1<<hostBits - 1)
	}
	return netip.AddrFrom4(addr), true
}
