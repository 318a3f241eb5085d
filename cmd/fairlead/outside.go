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
	places  []portmap.Place
	outside grant.Outside
	changed chan struct{} // closed when outside is another
}

func newSurroundings() *surroundings { return &surroundings{changed: make(chan struct{})} }

// settle makes spec the gateway.
func (s *surroundings) settle(spec *forward.Gateway) {
	s.mu.Lock()
	s.spec = spec
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

// Inside reports whether addr is of a host of the LAN.
func (s *surroundings) Inside(addr netip.Addr) bool {
	for _, p := range s.Places() {
		for _, a := range p.Addrs {
			if a.Masked().Contains(addr) && a.Addr() != addr {
				return true
			}
		}
	}
	return false
}

func (s *surroundings) look() {
	s.mu.RLock()
	spec := s.spec
	s.mu.RUnlock()
	var places []portmap.Place
	var all []netip.Prefix // of the WAN
	var outside grant.Outside
	if spec != nil {
		list, err := net.Interfaces()
		if err != nil {
			return // for the moment; what is known stands
		}
		for _, i := range list {
			switch {
			case i.Flags&net.FlagUp == 0:
			case named(spec.LAN, i.Name):
				if p := (portmap.Place{Interface: i, Addrs: addresses(i)}); len(p.Addrs) > 0 {
					places = append(places, p)
				}
			case named(spec.WAN, i.Name):
				all = append(all, addresses(i)...)
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
	s.places = places
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
