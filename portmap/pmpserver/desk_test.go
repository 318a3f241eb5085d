package pmpserver

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// A fakeDesk grants what is asked for, keeps it in memory, and counts.
type fakeDesk struct {
	portmap.Desk // nil: what the rest of it is, neither protocol asks

	mu       sync.Mutex
	leases   map[portmap.Key]portmap.Mapping
	ports    map[uint32]portmap.Key // by network and external port
	outside  netip.Addr
	epoch    uint32
	changed  chan struct{}
	batches  []int // how many were asked for at once
	unmapped int   // how often something was
	refuse   error // every mapping
	min, max time.Duration
	hold     chan struct{} // Map waits until it is closed
	entered  chan struct{} // receives when Map waits
	asked    []portmap.Request
	altered  []portmap.Alteration
	more     chan struct{}
}

func newDesk() *fakeDesk {
	return &fakeDesk{
		leases: map[portmap.Key]portmap.Mapping{}, ports: map[uint32]portmap.Key{}, outside: netip.MustParseAddr("203.0.113.9"), epoch: 256,
		changed: make(chan struct{}), more: make(chan struct{}, 1), min: portmap.DefaultMinLife, max: portmap.DefaultMaxLife,
	}
}

func slot(n forward.Networks, port uint16) uint32 { return uint32(n)<<16 | uint32(port) }

func (d *fakeDesk) Map(ctx context.Context, requests []portmap.Request) []portmap.Result {
	d.mu.Lock()
	hold := d.hold
	d.mu.Unlock()
	if hold != nil {
		select {
		case d.entered <- struct{}{}:
		case <-ctx.Done():
		}
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.batches = append(d.batches, len(requests))
	results := make([]portmap.Result, len(requests))
	for i, r := range requests {
		d.asked = append(d.asked, r)
		m, err := d.grant(r)
		results[i] = portmap.Result{Mapping: m, Err: err}
	}
	return results
}

func (d *fakeDesk) grant(r portmap.Request) (portmap.Mapping, error) {
	m := portmap.Mapping{Request: r}
	if d.refuse != nil {
		return m, d.refuse
	}
	old, renewal := d.leases[r.Key]
	if renewal && r.Client != r.Internal.Addr() && old.Nonce != r.Nonce {
		return m, portmap.ErrNonce
	}
	if r.Internal.Addr().Is6() {
		m.Public = r.Internal
	} else {
		port := r.External
		if port < 1024 {
			port = max(r.Internal.Port(), 1024)
		}
		if renewal {
			port = old.Public.Port()
			delete(d.ports, slot(r.Network, port))
		}
		for key, taken := d.ports[slot(r.Network, port)]; taken && key != r.Key; key, taken = d.ports[slot(r.Network, port)] {
			if r.Exact {
				return m, portmap.ErrConflict
			}
			port++
		}
		d.ports[slot(r.Network, port)] = r.Key
		m.Public = netip.AddrPortFrom(d.outside, port)
	}
	life := r.Lifetime
	if life == 0 {
		life = d.max
	}
	m.Expires = time.Now().Add(min(max(life, d.min), d.max))
	d.leases[r.Key] = m
	return m, nil
}

func (d *fakeDesk) Unmap(_ context.Context, _ netip.Addr, key portmap.Key) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unmapped++
	delete(d.ports, slot(key.Network, d.leases[key].Public.Port()))
	delete(d.leases, key)
	return nil
}

func (d *fakeDesk) UnmapAt(ctx context.Context, client netip.Addr, network forward.Networks, external uint16) error {
	m, _ := d.At(network, external)
	return d.Unmap(ctx, client, m.Key)
}

func (d *fakeDesk) UnmapAll(_ context.Context, client netip.Addr, network forward.Networks, p portmap.Protocol) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unmapped++
	for key, m := range d.leases {
		if key.Network == network && key.Internal.Addr() == client && m.Protocol == p {
			delete(d.ports, slot(network, m.Public.Port()))
			delete(d.leases, key)
		}
	}
	return nil
}

func (d *fakeDesk) At(network forward.Networks, external uint16) (portmap.Mapping, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.leases[d.ports[slot(network, external)]]
	return m, ok
}

func (d *fakeDesk) ByKey(key portmap.Key) (portmap.Mapping, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.leases[key]
	return m, ok
}

func (d *fakeDesk) Of(client netip.Addr) (list []portmap.Mapping) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.leases {
		if !client.IsValid() || m.Client == client {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b portmap.Mapping) int { return a.Internal.Compare(b.Internal) })
	return list
}

func (d *fakeDesk) External() (netip.Addr, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.outside, true
}

func (d *fakeDesk) Epoch() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epoch
}

func (d *fakeDesk) Altered() ([]portmap.Alteration, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.altered
	d.altered = nil
	return list, d.more
}

// alter has something befall a mapping: it is gone, or led to by another port.
func (d *fakeDesk) alter(key portmap.Key, port uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.leases[key]
	delete(d.ports, slot(key.Network, m.Public.Port()))
	if port == 0 {
		delete(d.leases, key)
	} else {
		m.Public = netip.AddrPortFrom(m.Public.Addr(), port)
		d.leases[key], d.ports[slot(key.Network, port)] = m, key
	}
	d.altered = append(d.altered, portmap.Alteration{Mapping: m, Gone: port == 0})
	select {
	case d.more <- struct{}{}:
	default:
	}
}

func (d *fakeDesk) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// change sets the external address and the epoch, and tells.
func (d *fakeDesk) change(outside netip.Addr, epoch uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outside, d.epoch = outside, epoch
	close(d.changed)
	d.changed = make(chan struct{})
}

// set changes what is said of the desk while it is in use.
func (d *fakeDesk) set(f func(*fakeDesk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}
