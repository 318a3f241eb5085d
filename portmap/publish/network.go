package publish

import (
	"context"
	"net"
	"net/netip"
	"slices"
)

// A Route is a default route: whom this host sends to what it does not know.
type Route struct {
	Interface string
	Gateway   netip.Addr // invalid: whoever is at the other end of the interface, as in PPP. Link-local IPv6 has a zone
	Metric    int        // the route with the least is used
}

// An Address is an address of this host.
type Address struct {
	Interface string
	netip.Prefix
	Temporary bool // RFC 8981: it will soon be another; or it is deprecated
}

// A Heard is a datagram that nobody in particular was asked for.
type Heard struct {
	From    netip.Addr
	Payload []byte
}

// A Network is all that a Publisher sees of the network. System is the real one.
type Network interface {
	// Routes is the default routes of both families.
	Routes() ([]Route, error)
	// Addresses is the addresses of this host, but for loopback's.
	Addresses() ([]Address, error)
	// Dial connects from an address of this host. network is tcp or udp; what a udp connection reads is a datagram.
	Dial(ctx context.Context, network string, from netip.Addr, to netip.AddrPort) (net.Conn, error)
	// Ask sends a datagram from an address of this host to each destination, which may be groups, and passes on what comes back until
	// hear returns false or ctx ends. It sends again while it waits.
	Ask(ctx context.Context, from Address, question []Datagram, hear func(Heard) bool) error
	// Listen passes on what is sent to a group on an interface until ctx ends.
	Listen(ctx context.Context, iface string, group netip.AddrPort, hear func(Heard)) error
	// Hop is the address of the router that is n hops from the address of this host, on the way to the internet.
	Hop(ctx context.Context, from netip.Addr, n int) (netip.Addr, error)
}

// A Datagram is what is sent to one destination.
type Datagram struct {
	To      netip.AddrPort
	Payload []byte
}

// The bounds of what is looked at, whatever the system or the network say.
const (
	maxRoutes    = 8
	maxAddresses = 4 // of one interface that mappings are made for
	maxDatagram  = 2048
)

// order puts routes in the order in which the system uses them, IPv4 first, without doubles.
func order(routes []Route) []Route {
	slices.SortStableFunc(routes, func(a, b Route) int {
		if a.Gateway.Is6() != b.Gateway.Is6() {
			if a.Gateway.Is6() {
				return 1
			}
			return -1
		}
		return a.Metric - b.Metric
	})
	var list []Route
	for _, r := range routes {
		if len(list) < maxRoutes && !slices.ContainsFunc(list, func(s Route) bool { return s.Interface == r.Interface && s.Gateway == r.Gateway }) {
			list = append(list, r)
		}
	}
	return list
}

// near is the address of the interface that a gateway is talked to from: one in the same network, else the first of the family.
func near(addrs []Address, r Route) (Address, bool) {
	best, found := Address{}, false
	for _, a := range addrs {
		if a.Interface != r.Interface || a.Addr().Is4() != r.Gateway.Is4() {
			continue
		}
		if a.Contains(r.Gateway.WithZone("")) {
			return a, true
		}
		if !found {
			best, found = a, true
		}
	}
	return best, found
}

// globals is the public IPv6 addresses of an interface, which pinholes are made for: those that stay, else the temporary ones.
func globals(addrs []Address, iface string) []Address {
	var stay, all []Address
	for _, a := range addrs {
		if a.Interface == iface && a.Addr().Is6() && ReachOf(a.Addr()) == Public {
			all = append(all, a)
			if !a.Temporary {
				stay = append(stay, a)
			}
		}
	}
	if len(stay) == 0 {
		stay = all
	}
	return stay[:min(len(stay), maxAddresses)]
}
