package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/portmap/grant"
	"github.com/fairlead-net/fairlead/portmap/neighbours"
	"github.com/fairlead-net/fairlead/table"
)

// grants is the desk where programs of the LAN are granted ports, and what it is told of this host.
type grants struct {
	*grant.Desk
	sides *sides
}

func newGrants(o engineOptions, t *table.Table, book *grant.Book) *grants {
	s := newSides(interfaceAddrs)
	return &grants{sides: s, Desk: grant.New(grant.Options{
		Book: book, Table: t, Store: o.store, Outside: s.outside, Inside: s.inside, Busy: grant.Busy,
		Neighbours: neighbours.New(neighbours.Options{}), Log: o.log,
	})}
}

// settle makes s hold. It does not wait.
func (g *grants) settle(s config.Settings) {
	g.sides.settle(s)
	g.Configure(s.Portmap)
}

// run grants until ctx ends.
func (g *grants) run(ctx context.Context) error {
	watching, done := context.WithCancel(ctx)
	defer done()
	var watch sync.WaitGroup
	watch.Go(func() { g.sides.run(watching) })
	defer watch.Wait()
	defer done()
	return g.Run(ctx)
}

// Approve has leases lead somewhere that wait.
func (g *grants) Approve(ctx context.Context, which string) ([]string, error) {
	names, err := g.Desk.Approve(ctx, which)
	return names, leaseError(which, err)
}

// Deny ends leases, and refuses them.
func (g *grants) Deny(ctx context.Context, which string) ([]string, error) {
	names, err := g.Desk.Deny(ctx, which)
	return names, leaseError(which, err)
}

func leaseError(which string, err error) error {
	if errors.Is(err, grant.ErrUnknown) {
		return fmt.Errorf("%w is called %q", api.ErrNoLease, which)
	}
	return err
}

// sidesEvery is how often the addresses of this host are looked at.
const sidesEvery = 2 * time.Second

// sides is which address this host has on the outside, and what is inside.
type sides struct {
	look func(iface string) []netip.Prefix

	mu       sync.Mutex
	wan, lan []string
	now      grant.Outside
	changed  chan struct{}
}

func newSides(look func(iface string) []netip.Prefix) *sides {
	return &sides{look: look, changed: make(chan struct{})}
}

func (s *sides) settle(c config.Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wan, s.lan = nil, nil
	if c.Gateway != nil {
		s.wan, s.lan = slices.Clone(c.Gateway.WAN), slices.Clone(c.Gateway.LAN)
	}
	s.lookLocked()
}

// run follows the address until ctx ends.
func (s *sides) run(ctx context.Context) {
	tick := time.NewTicker(sidesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.mu.Lock()
			s.lookLocked()
			s.mu.Unlock()
		}
	}
}

// lookLocked takes the first IPv4 address of the first WAN interface that has one; leases that have it keep it as long as it is there.
func (s *sides) lookLocked() {
	var all []netip.Addr
	for _, iface := range s.wan {
		for _, p := range s.look(iface) {
			if a := p.Addr(); a.Is4() && a.IsGlobalUnicast() {
				all = append(all, a)
			}
		}
	}
	var now grant.Outside
	switch {
	case slices.Contains(all, s.now.Addr):
		now.Addr = s.now.Addr
	case len(all) > 0:
		now.Addr = all[0]
	}
	if now != s.now {
		s.now = now
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

// outside is the address, and a channel that is closed when it is another.
func (s *sides) outside() (grant.Outside, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.changed
}

// inside reports whether addr is of a network of a LAN interface, and no address of this host.
func (s *sides) inside(addr netip.Addr) bool {
	s.mu.Lock()
	lan := s.lan
	s.mu.Unlock()
	inside := false
	for _, iface := range lan {
		for _, p := range s.look(iface) {
			if p.Addr() == addr {
				return false
			}
			inside = inside || p.Contains(addr)
		}
	}
	return inside
}

// interfaceAddrs is the addresses of an interface; none when there is no such interface now.
func interfaceAddrs(name string) []netip.Prefix {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	addrs, err := iface.Addrs()
	if err != nil {
		return nil
	}
	var list []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, p)
		}
	}
	return list
}
