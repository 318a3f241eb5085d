//go:build !linux

package publish

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// systemRoutes guesses: the first address of each private network that this host is in is where most gateways are. One that is
// elsewhere is found if it speaks UPnP.
func systemRoutes() ([]Route, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var routes []Route
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone since
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || !p.Addr().Is4() || p.Bits() > 30 || ReachOf(p.Addr()) != Private {
				continue
			}
			if gw := p.Masked().Addr().Next(); gw != p.Addr() {
				routes = append(routes, Route{Interface: i.Name, Gateway: gw})
			}
		}
	}
	return routes, nil
}

// temporaryAddresses is not known here.
func temporaryAddresses() map[netip.Addr]bool { return nil }

// multicastBy leaves it to the routes by which interface a question to a group goes.
func multicastBy(*net.UDPConn, Address) {}

// Hop is for Linux.
func (System) Hop(context.Context, netip.Addr, int) (netip.Addr, error) {
	return netip.Addr{}, errors.ErrUnsupported
}
