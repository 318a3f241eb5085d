package relay

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// ownTime is how long this host's addresses are taken to be what they were.
const ownTime = 5 * time.Second

// ownAddresses are the addresses of this host.
type ownAddresses struct {
	mu    sync.Mutex
	until time.Time
	all   map[netip.Addr]bool
}

// has reports whether addr is this host's.
func (o *ownAddresses) has(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if addr.IsLoopback() || addr.IsUnspecified() { // a socket that connects to 0.0.0.0 or :: reaches loopback
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); now.After(o.until) {
		o.until, o.all = now.Add(ownTime), map[netip.Addr]bool{}
		list, _ := net.InterfaceAddrs() // an error leaves what loopback alone says
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				o.all[p.Addr().Unmap().WithZone("")] = true
			}
		}
	}
	return o.all[addr]
}

// leadsBack reports whether a dynamic forward of this relay listens there, which would dial itself for ever.
func (r *Relay) leadsBack(addr netip.Addr, port uint16) bool {
	addr = addr.Unmap().WithZone("")
	r.mu.RLock()
	found := false
	everywhere := []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified(), addr}
	if addr.IsUnspecified() {
		everywhere = append(everywhere, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	}
	for _, at := range everywhere {
		l := r.places[place{node: forward.Host, network: forward.TCP, addr: at, port: port}]
		if l == nil {
			continue
		}
		for t := range l.users {
			found = found || t.f.Dynamic() != forward.HeadNone
		}
	}
	r.mu.RUnlock()
	return found && r.own.has(addr)
}
