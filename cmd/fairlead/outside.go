package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/grant"
)

// lookAround is how often the interfaces of a gateway are looked at.
const lookAround = 2 * time.Second

// A surroundings knows the interfaces of the gateway of the settings: whom it serves, and what address the world knows it by.
type surroundings struct {
	mu      sync.RWMutex
	spec    *forward.Gateway
	open    []forward.Listen // of other servers of this program
	places  []portmap.Place
	own     map[netip.Addr]bool // the addresses of this host, wherever
	outside grant.Outside
	changed chan struct{} // closed when outside is another
}

func newSurroundings() *surroundings {
	return &surroundings{own: map[netip.Addr]bool{}, changed: make(chan struct{})}
}

// settle makes spec the gateway, whose host has other servers that the WAN reaches.
func (s *surroundings) settle(spec *forward.Gateway, open []forward.Listen) {
	s.mu.Lock()
	s.spec, s.open = spec, open
	s.mu.Unlock()
	s.look()
}

// run looks until ctx ends.
func (s *surroundings) run(ctx context.Context) {
	tick := time.NewTicker(lookAround)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.look()
		case <-ctx.Done():
			return
		}
	}
}

// Places is the interfaces of the LAN that are up.
func (s *surroundings) Places() []portmap.Place {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.places
}

// Outside is the address of the WAN, and a channel that is closed when it is another.
func (s *surroundings) Outside() (grant.Outside, <-chan struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.outside, s.changed
}

func (s *surroundings) at() netip.Addr {
	o, _ := s.Outside()
	return o.Addr
}

// Inside reports whether addr is of a host of the LAN, and not this one.
func (s *surroundings) Inside(addr netip.Addr) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return !s.own[addr] && slices.ContainsFunc(s.places, func(p portmap.Place) bool {
		return slices.ContainsFunc(p.Addrs, func(n netip.Prefix) bool { return n.Contains(addr) })
	})
}

// Reserved reports whether the WAN reaches a port of this host by the word of the operator. The program that listens there may start
// later than somebody asks for the port.
func (s *surroundings) Reserved(network forward.Networks, at netip.AddrPort) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	asks := func(l forward.Listen) bool {
		here := !l.Addr.IsValid() || l.Addr.IsUnspecified() || l.Addr == at.Addr()
		return here && !l.IsUnix() && l.Networks&network != 0 && l.Ports.Contains(at.Port())
	}
	return s.spec != nil && slices.ContainsFunc(s.spec.Open, asks) || slices.ContainsFunc(s.open, asks)
}

func (s *surroundings) look() {
	s.mu.RLock()
	spec := s.spec
	s.mu.RUnlock()
	var places []portmap.Place
	var all []netip.Prefix // of the WAN
	var outside grant.Outside
	own := map[netip.Addr]bool{}
	if spec != nil {
		list, err := net.Interfaces()
		if err != nil {
			return // for the moment; what is known stands
		}
		for _, i := range list {
			addrs := addresses(i)
			for _, a := range addrs {
				own[a.Addr()] = true
			}
			switch {
			case i.Flags&net.FlagUp == 0:
			case named(spec.WAN, i.Name): // first: nobody there is served, whatever lan says
				all = append(all, addrs...)
			case named(spec.LAN, i.Name) && !named(spec.DMZ, i.Name) && len(addrs) > 0:
				places = append(places, portmap.Place{Interface: i, Addrs: addrs})
			}
		}
		outside.Addr = publicOf(all, s.at())
		for _, addr := range spec.SNAT {
			if addr.Is4() {
				outside.Addr = addr
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spec != spec {
		return // another look is on its way
	}
	s.places, s.own = places, own
	if s.outside != outside {
		s.outside = outside
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// named reports whether a name is one of patterns, which may end in a *.
func named(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, any := strings.CutSuffix(p, "*")
		return p == name || any && strings.HasPrefix(name, prefix)
	})
}

// addresses is those of an interface, IPv4 first.
func addresses(i net.Interface) []netip.Prefix {
	list, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			addr, _ := netip.AddrFromSlice(n.IP)
			bits, _ := n.Mask.Size()
			out = append(out, netip.PrefixFrom(addr.Unmap(), bits))
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return out
}

// publicOf is the IPv4 address that the world is most likely to reach, invalid where there is none. The one that it was stays it.
func publicOf(list []netip.Prefix, was netip.Addr) netip.Addr {
	var best netip.Addr
	for _, p := range list {
		a := p.Addr()
		if a == was && a.IsValid() {
			return was
		}
		if a.Is4() && a.IsGlobalUnicast() && (!best.IsValid() || best.IsPrivate() && !a.IsPrivate()) {
			best = a
		}
	}
	return best
}
