package grant

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/table"
)

// A Book is an index of the leases in the table, which tells it of each change (table.Options.Lease). So it has what the table
// has, whoever put a lease there or took it away: a client, the operator, the clock, a restart.
type Book struct {
	mu      sync.RWMutex
	byName  map[string]*record
	byKey   map[portmap.Key][]*record         // the one that has the sessions that begin inside first
	byPort  map[place]*record                 // of those with an external port, which pinholes have not
	byHost  map[netip.Addr]map[string]*record // by who asked and by whose port it is, then by name
	devices map[string]int                    // leases of each device
	unknown int                               // leases of devices whose hardware address is not known
	used    [2]table.PortBits                 // external ports that have a lease, or are about to
	news    news
}

// A place is an external port.
type place struct {
	network forward.Networks
	port    uint16
}

// A record is a lease, with what is looked for in it.
type record struct {
	f       *forward.Forward
	key     portmap.Key
	port    uint16 // external
	pinhole bool
}

// NewBook returns a Book without leases.
func NewBook() *Book {
	return &Book{
		byName: map[string]*record{}, byKey: map[portmap.Key][]*record{}, byPort: map[place]*record{},
		byHost: map[netip.Addr]map[string]*record{}, devices: map[string]int{}, news: newNews(),
	}
}

// Note enters that a lease is now where before was; either may be nil.
func (b *Book) Note(now, before *forward.Forward) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.news.note(now, before)
	if before != nil {
		b.remove(before.Name)
	}
	if now != nil && now.Lease != nil && len(now.To) == 1 && len(now.Listen.Ports.Ranges) == 1 {
		b.enter(newRecord(now))
	}
}

func newRecord(f *forward.Forward) *record {
	r := &record{f: f, port: f.Listen.Ports.Ranges[0].First, pinhole: f.Listen.Addr.Is6()}
	r.key = portmap.Key{Network: f.Listen.Networks, Internal: netip.AddrPortFrom(f.To[0].Addr, f.TargetPort(f.To[0], r.port))}
	return r
}

func (b *Book) enter(r *record) {
	b.byName[r.f.Name] = r
	list := append(slices.Clone(b.byKey[r.key]), r) // it may be read just now
	slices.SortStableFunc(list, func(x, y *record) int { return cmp.Compare(b2i(y.f.Outbound), b2i(x.f.Outbound)) })
	b.byKey[r.key] = list
	for host := range r.hosts {
		if b.byHost[host] == nil {
			b.byHost[host] = map[string]*record{}
		}
		b.byHost[host][r.f.Name] = r
	}
	b.devices[r.device()]++
	b.unknown += b2i(r.f.Lease.MAC == "")
	if !r.pinhole {
		b.byPort[place{r.key.Network, r.port}] = r
		b.used[r.key.Network>>1].Set(r.port)
	}
}

func (b *Book) remove(name string) {
	r := b.byName[name]
	if r == nil {
		return
	}
	delete(b.byName, name)
	list := slices.DeleteFunc(slices.Clone(b.byKey[r.key]), func(x *record) bool { return x == r })
	if b.byKey[r.key] = list; len(list) == 0 {
		delete(b.byKey, r.key)
	}
	for host := range r.hosts {
		if delete(b.byHost[host], name); len(b.byHost[host]) == 0 {
			delete(b.byHost, host)
		}
	}
	b.unknown -= b2i(r.f.Lease.MAC == "")
	if b.devices[r.device()]--; b.devices[r.device()] == 0 {
		delete(b.devices, r.device())
	}
	if at := (place{r.key.Network, r.port}); b.byPort[at] == r {
		delete(b.byPort, at)
		b.used[at.network>>1].Clear(at.port)
	}
}

// hosts yields whose mapping r is.
func (r *record) hosts(yield func(netip.Addr) bool) {
	if yield(r.key.Internal.Addr()) && r.f.Lease.Client != r.key.Internal.Addr() {
		yield(r.f.Lease.Client)
	}
}

// device is who pays for r: a host that has many addresses is one, as far as its hardware address is known.
func (r *record) device() string { return deviceOf(r.f.Lease.MAC, r.f.Lease.Client) }

func deviceOf(mac string, client netip.Addr) string { return cmp.Or(mac, client.String()) }

func (b *Book) named(name string) *record {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byName[name]
}

func (b *Book) at(network forward.Networks, port uint16) *record {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byPort[place{network, port}]
}

// of is the mappings of one internal port; the slice is never changed.
func (b *Book) of(key portmap.Key) []*record {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byKey[key]
}

// count is how many leases a device has, how many those that are not known have together, and how many there are.
func (b *Book) count(device string) (own, unknown, all int) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.devices[device], b.unknown, len(b.byName)
}

// list is the leases of a host by name, or all with an invalid address.
func (b *Book) list(host netip.Addr) []*record {
	b.mu.RLock()
	from := b.byName
	if host.IsValid() {
		from = b.byHost[host]
	}
	list := slices.Collect(maps.Values(from))
	b.mu.RUnlock()
	slices.SortFunc(list, func(x, y *record) int { return strings.Compare(x.f.Name, y.f.Name) })
	return list
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// near is the free port next to want: see nearest.
func (b *Book) near(network forward.Networks, want uint16, may allowed, taken *table.PortBits, ok func(uint16) bool) (uint16, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return nearest(want, may, &b.used[network>>1], taken, ok)
}

// reserve keeps a port from being found free until the table has its lease, and reports whether that was needed.
func (b *Book) reserve(at place) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := &b.used[at.network>>1]
	if used.Has(at.port) {
		return false
	}
	used.Set(at.port)
	return true
}

// release undoes reserve where no lease came of it.
func (b *Book) release(list []place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range list {
		if b.byPort[at] == nil {
			b.used[at.network>>1].Clear(at.port)
		}
	}
}
