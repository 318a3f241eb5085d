package publish

import (
	"net/netip"
	"slices"
)

// A survey is one look at where this host is in the network: its gateways. It is replaced, and never changed.
type survey struct {
	gateways []*gateway // by the default routes
	problem  *Problem   // there are none
	routes   []Route
	addrs    []Address
}

// same reports whether there is nothing new since.
func (s *survey) same(routes []Route, addrs []Address) bool {
	return s != nil && slices.Equal(s.routes, routes) && slices.Equal(s.addrs, addrs)
}

// next is the survey of what the system says now. Gateways that are still there are the same ones, with all that is known of them.
func (s *survey) next(t tools, routes []Route, addrs []Address) *survey {
	n := &survey{routes: routes, addrs: addrs}
	for _, r := range routes {
		if r.Gateway.Is4() {
			if local, ok := near(addrs, r); ok {
				n.add(s, t, r.Gateway, local)
			}
			continue
		}
		for _, local := range globals(addrs, r.Interface) {
			n.add(s, t, r.Gateway, local)
		}
	}
	if len(n.gateways) == 0 {
		n.problem = noGateway()
	}
	return n
}

func (s *survey) add(before *survey, t tools, addr netip.Addr, local Address) {
	if before != nil {
		for _, g := range before.gateways {
			if g.addr == addr && g.local == local {
				s.gateways = append(s.gateways, g)
				return
			}
		}
	}
	g := newGateway(t, addr, local)
	g.main = true
	s.gateways = append(s.gateways, g)
}
