package publish

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// The codes of WANIPv6FirewallControl 1, section 2.5.
const (
	noPinholeSpace     = 701
	firewallDisabled   = 702
	pinholesNotAllowed = 703
	noSuchPinhole      = 704
)

// maxPinhole is the longest lease of a pinhole (WANIPv6FirewallControl 1, section 2.3.8).
const maxPinhole = 24 * time.Hour

// pinhole opens the firewall for an address and port of this host. There is no translation, so the port is never another one.
func (m *igdMapper) pinhole(ctx context.Context, a ask, before *grant) (grant, error) {
	lease := strconv.Itoa(int(min(a.lifetime, maxPinhole) / time.Second))
	g := grant{public: netip.AddrPortFrom(a.client, a.internal), lifetime: min(a.lifetime, maxPinhole)}
	if before != nil && before.id != 0 {
		g.id = before.id
		_, err := m.firewall.call(ctx, "UpdatePinhole", upnp.Arg{Name: "UniqueID", Value: strconv.Itoa(g.id)}, upnp.Arg{Name: "NewLeaseTime", Value: lease})
		if err == nil {
			return g, nil
		}
		if r := m.refusedPinhole(err); r.code == 0 {
			return g, r
		}
	}
	args, err := m.firewall.call(ctx, "AddPinhole",
		upnp.Arg{Name: "RemoteHost"}, upnp.Arg{Name: "RemotePort", Value: "0"},
		upnp.Arg{Name: "InternalClient", Value: a.client.String()}, upnp.Arg{Name: "InternalPort", Value: decimal(a.internal)},
		upnp.Arg{Name: "Protocol", Value: strconv.Itoa(int(ianaOf(a.network)))}, upnp.Arg{Name: "LeaseTime", Value: lease})
	if err != nil {
		r := m.refusedPinhole(err)
		if r.code == firewallDisabled { // then everything comes in
			return grant{public: g.public, lifetime: g.lifetime}, nil
		}
		return grant{}, r
	}
	id, err := strconv.ParseUint(args.Of("UniqueID"), 10, 16)
	if err != nil {
		return grant{}, &refusal{kind: KindFailed, protocol: portmap.UPnP, text: "the answer to AddPinhole has no UniqueID"}
	}
	g.id = int(id)
	return g, nil
}

func (m *igdMapper) pinholeHolds(ctx context.Context, g grant) (bool, error) {
	_, err := m.firewall.call(ctx, "GetPinholePackets", upnp.Arg{Name: "UniqueID", Value: strconv.Itoa(g.id)})
	if err == nil {
		return true, nil
	}
	if r := m.refusedPinhole(err); r.code != noSuchPinhole {
		return false, r
	}
	return false, nil
}

func (m *igdMapper) refusedPinhole(err error) *refusal {
	r := m.refused(err)
	switch r.code {
	case noPinholeSpace:
		r.kind, r.text = KindFull, "the gateway has no room for another pinhole"
	case pinholesNotAllowed:
		r.kind, r.text = KindDisabled, "the gateway lets nobody open its IPv6 firewall"
	}
	return r
}
