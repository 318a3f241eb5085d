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

// A fakeDesk grants what is free, and remembers how it was asked.
type fakeDesk struct {
	mu       sync.Mutex
	byKey    map[portmap.Key]*portmap.Mapping
	byPort   map[external]portmap.Key
	taken    map[external]bool // by the operator
	external netip.Addr
	changed  chan struct{}
	refuse   error // of every Map
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
		byKey: map[portmap.Key]*portmap.Mapping{}, byPort: map[external]portmap.Key{}, taken: map[external]bool{},
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
	if d.refuse != nil {
		return portmap.Result{Err: d.refuse}
	}
	port := r.External
	if r.Internal.Addr().Is6() {
		port = r.Internal.Port()
	} else {
		for {
			owner, used := d.byPort[external{r.Network, port}]
			if port != 0 && (!used || owner == r.Key) && !d.taken[external{r.Network, port}] {
				break
			}
			if r.Exact {
				return portmap.Result{Err: portmap.ErrConflict}
			}
			if port++; port < 1024 {
				port = 1024
			}
		}
		d.drop(r.Key)
		d.byPort[external{r.Network, port}] = r.Key
	}
	m := &portmap.Mapping{Request: r, Name: "lease", Public: netip.AddrPortFrom(d.external, port)}
	if r.Internal.Addr().Is6() {
		m.Public = r.Internal
	}
	if r.Lifetime != 0 {
		m.Expires = time.Now().Add(r.Lifetime)
	}
	d.byKey[r.Key] = m
	return portmap.Result{Mapping: *m}
}

func (d *fakeDesk) drop(key portmap.Key) {
	if m := d.byKey[key]; m != nil {
		delete(d.byPort, external{key.Network, m.Public.Port()})
		delete(d.byKey, key)
	}
}

func (d *fakeDesk) Unmap(_ context.Context, _ netip.Addr, key portmap.Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(key)
	return nil
}

func (d *fakeDesk) UnmapAll(context.Context, netip.Addr, forward.Networks, portmap.Protocol) error {
	panic("UPnP has no such request")
}

func (d *fakeDesk) At(network forward.Networks, port uint16) (portmap.Mapping, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.byKey[d.byPort[external{network, port}]]; m != nil {
		return *m, true
	}
	return portmap.Mapping{}, false
}

func (d *fakeDesk) ByKey(key portmap.Key) (portmap.Mapping, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.byKey[key]; m != nil {
		return *m, true
	}
	return portmap.Mapping{}, false
}

func (d *fakeDesk) Of(client netip.Addr) (list []portmap.Mapping) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.byKey {
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
