package publish

import (
	"context"
	"net/netip"
	"strconv"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// idArg names a pinhole.
func idArg(id int) upnp.Arg { return upnp.Arg{Name: "UniqueID", Value: strconv.Itoa(id)} }

// pinhole opens the firewall for an address and port of this host. There is no translation, so the port is never another one.
func (m *igdMapper) pinhole(ctx context.Context, a ask, before *grant) (grant, error) {
	p := upnp.Pinhole{InternalClient: a.client.String(), InternalPort: a.internal, Protocol: uint16(ianaOf(a.network)), Lease: min(seconds(a.lifetime), upnp.MaxPinhole)}
	g := grant{public: netip.AddrPortFrom(a.client, a.internal), lifetime: time.Duration(p.Lease) * time.Second}
	if before != nil && before.id != 0 {
		g.id = before.id
		_, err := m.firewall.call(ctx, upnp.UpdatePinhole, idArg(g.id), upnp.Arg{Name: "NewLeaseTime", Value: strconv.Itoa(int(p.Lease))})
		if err == nil {
			return g, nil
		}
		if r := m.refusedPinhole(err); r.code == 0 {
			return g, r
		}
	}
	args, err := m.firewall.call(ctx, upnp.AddPinhole, p.Args()...)
	if err != nil {
		r := m.refusedPinhole(err)
		if r.code == upnp.FirewallDisabled { // then everything comes in
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
	_, err := m.firewall.call(ctx, upnp.GetPinholePackets, idArg(g.id))
	if err == nil {
		return true, nil
	}
	if r := m.refusedPinhole(err); r.code != upnp.NoSuchPinhole {
		return false, r
	}
	return false, nil
}

func (m *igdMapper) refusedPinhole(err error) *refusal {
	r := m.refused(err)
	switch r.code {
	case upnp.PinholeSpaceExhausted:
		r.kind, r.text = KindFull, "the gateway has no room for another pinhole"
	case upnp.PinholesNotAllowed:
		r.kind, r.text = KindDisabled, "the gateway lets nobody open its IPv6 firewall"
	}
	return r
}
