package igd

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// A fakeDesk grants what is free, and remembers how it was asked. As the real one it lets a client of UPnP have several ports for one
// of its own, and takes no client's word for another.
type fakeDesk struct {
	mu       sync.Mutex
	byPort   map[external]*portmap.Mapping
	holes    map[portmap.Key]*portmap.Mapping
	third    bool
	taken    map[external]bool // by the operator
	external netip.Addr
	changed  chan struct{}
	refuse   error       // of every Map
	deny     portmap.Key // one that is refused
	requests []portmap.Request
	batches  int
	quiet    bool // remembers no requests
}

type external struct {
	network forward.Networks
	port    uint16
}

func newDesk() *fakeDesk {
	return &fakeDesk{
		byPort: map[external]*portmap.Mapping{}, holes: map[portmap.Key]*portmap.Mapping{}, taken: map[external]bool{},
		external: netip.MustParseAddr("203.0.113.7"), changed: make(chan struct{}),
	}
}

func (d *fakeDesk) Map(_ context.Context, requests []portmap.Request) []portmap.Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.batches++
	results := make([]portmap.Result, len(requests))
	for i, r := range requests {
		if !d.quiet {
			d.requests = append(d.requests, r)
		}
		results[i] = d.one(r)
	}
	return results
}

func (d *fakeDesk) one(r portmap.Request) portmap.Result {
	switch {
	case d.refuse != nil:
		return portmap.Result{Err: d.refuse}
	case r.Client != r.Internal.Addr() && !d.third, r.Key == d.deny:
		return portmap.Result{Err: portmap.ErrDenied}
	}
	m := &portmap.Mapping{Request: r, Name: "lease"}
	if r.Lifetime != 0 {
		m.Expires = time.Now().Add(r.Lifetime)
	}
	if r.Internal.Addr().Is6() {
		m.Public = r.Internal
		d.holes[r.Key] = m
		return portmap.Result{Mapping: *m}
	}
	port := r.External
	for {
		at := external{r.Network, port}
		if m := d.byPort[at]; port != 0 && (m == nil || m.Key == r.Key) && !d.taken[at] {
			break
		}
		if r.Exact {
			return portmap.Result{Err: portmap.ErrConflict}
		}
		if port++; port < 1024 {
			port = 1024
		}
	}
	m.Public = netip.AddrPortFrom(d.external, port)
	d.byPort[external{r.Network, port}] = m
	return portmap.Result{Mapping: *m}
}

func (d *fakeDesk) Unmap(_ context.Context, client netip.Addr, key portmap.Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if client != key.Internal.Addr() && !d.third {
		return portmap.ErrDenied
	}
	delete(d.holes, key)
	for at, m := range d.byPort {
		if m.Key == key {
			delete(d.byPort, at)
		}
	}
	return nil
}

func (d *fakeDesk) UnmapAt(_ context.Context, client netip.Addr, network forward.Networks, port uint16) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.byPort[external{network, port}]
	if m != nil && client != m.Internal.Addr() && !d.third {
		return portmap.ErrDenied
	}
	delete(d.byPort, external{network, port})
	return nil
}

func (d *fakeDesk) UnmapAll(context.Context, netip.Addr, forward.Networks, portmap.Protocol) error {
	panic("UPnP has no such request")
}

func (d *fakeDesk) At(network forward.Networks, port uint16) (portmap.Mapping, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.byPort[external{network, port}]; m != nil {
		return *m, true
	}
	return portmap.Mapping{}, false
}

func (d *fakeDesk) ByKey(key portmap.Key) (portmap.Mapping, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.holes[key]; m != nil {
		return *m, true
	}
	for _, m := range d.byPort {
		if m.Key == key {
			return *m, true
		}
	}
	return portmap.Mapping{}, false
}

func (d *fakeDesk) Of(client netip.Addr) (list []portmap.Mapping) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for m := range d.each {
		if !client.IsValid() || m.Client == client || m.Internal.Addr() == client {
			list = append(list, *m)
		}
	}
	slices.SortFunc(list, func(a, b portmap.Mapping) int {
		if a.Network != b.Network {
			return int(a.Network) - int(b.Network)
		}
		return int(a.Public.Port()) - int(b.Public.Port())
	})
	return list
}

func (d *fakeDesk) each(yield func(*portmap.Mapping) bool) {
	for _, m := range d.byPort {
		if !yield(m) {
			return
		}
	}
	for _, m := range d.holes {
		if !yield(m) {
			return
		}
	}
}

func (d *fakeDesk) External() (netip.Addr, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.external, true
}

func (d *fakeDesk) Epoch() uint32 { return 1 }

func (d *fakeDesk) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *fakeDesk) setExternal(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.external = addr
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *fakeDesk) last() portmap.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.requests) == 0 {
		return portmap.Request{}
	}
	return d.requests[len(d.requests)-1]
}

func (*fakeDesk) Altered() ([]portmap.Alteration, <-chan struct{}) { return nil, nil }
