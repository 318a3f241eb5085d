package grant

import (
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// At is portmap.Desk's.
func (d *Desk) At(network forward.Networks, external uint16) (portmap.Mapping, bool) {
	r := d.Book.at(network, external)
	if r == nil {
		return portmap.Mapping{}, false
	}
	return d.mapping(r.f), true
}

// ByKey is portmap.Desk's.
func (d *Desk) ByKey(key portmap.Key) (portmap.Mapping, bool) {
	key.Internal = netip.AddrPortFrom(key.Internal.Addr().Unmap().WithZone(""), key.Internal.Port())
	list := d.Book.of(key)
	if len(list) == 0 {
		return portmap.Mapping{}, false
	}
	return d.mapping(list[0].f), true
}

// Of is portmap.Desk's.
func (d *Desk) Of(client netip.Addr) []portmap.Mapping {
	list := d.Book.list(client.Unmap().WithZone(""))
	out := make([]portmap.Mapping, len(list))
	for i, r := range list {
		out[i] = d.mapping(r.f)
	}
	return out
}

// External is portmap.Desk's.
func (d *Desk) External() (addr netip.Addr, public bool) {
	d.mu.RLock()
	addr = d.outside.told()
	d.mu.RUnlock()
	select {
	case <-d.open:
	default: // clients ask for it as soon as they are answered, which may be before Run has taken over the leases
		outside, _ := d.Outside()
		addr = outside.told()
	}
	return addr, addr.IsValid() && isPublic(addr)
}

// Epoch is portmap.Desk's.
func (d *Desk) Epoch() uint32 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.epoch.seconds()
}

// Changed is portmap.Desk's.
func (d *Desk) Changed() <-chan struct{} {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.changed
}

// mapping is a lease in the words of those who ask.
func (d *Desk) mapping(f *forward.Forward) portmap.Mapping {
	r, l := newRecord(f), f.Lease
	m := portmap.Mapping{Name: f.Name, Expires: f.Expires, Asking: l.Asking}
	m.Request = portmap.Request{
		Protocol: protocolOf(f), Key: r.key, Client: l.Client, External: r.port, Lifetime: l.Lifetime, From: f.From,
		Describe: l.Description, Disabled: l.Off,
	}
	_, _ = hex.Decode(m.Nonce[:], []byte(l.Nonce[:min(len(l.Nonce), 2*len(m.Nonce))]))
	if r.pinhole {
		m.Public = r.key.Internal
		return m
	}
	addr, _ := d.External()
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
	}
	m.Public = netip.AddrPortFrom(addr, r.port)
	return m
}

func protocolOf(f *forward.Forward) portmap.Protocol {
	_, p, _ := strings.Cut(string(f.Origin), ":")
	return portmap.Protocol(p)
}

// notPublic is what the internet does not reach (RFC 6890, and RFC 6598 for carriers). The documentation's networks are left out:
// who uses them has a reason.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

func isPublic(addr netip.Addr) bool {
	for _, p := range notPublic {
		if p.Contains(addr) {
			return false
		}
	}
	return true
}
