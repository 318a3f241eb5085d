package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// igdMapper speaks UPnP to an Internet Gateway Device: WANIPConnection 1 and 2 or WANPPPConnection for IPv4, WANIPv6FirewallControl
// for IPv6.
type igdMapper struct {
	g        *gateway
	name     string   // what it calls itself; for people
	conn     *control // nil: there is none
	firewall *control // nil: there is none
}

// maxConnections is how many connections of a gateway to the outside are looked at.
const maxConnections = 4

// usable reports whether it can do something for a host with such an address.
func (m *igdMapper) usable(client netip.Addr) bool {
	return client.Is4() && m.conn != nil || client.Is6() && m.firewall != nil
}

// probeIGD reads the descriptions that a search found. None is nil and no error.
func (g *gateway) probeIGD(ctx context.Context) (*igdMapper, error) {
	f, err := g.search.get(ctx, g.probeSSDP)
	if err != nil {
		return nil, err
	}
	for _, location := range f.own {
		m, err := g.describe(ctx, location)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			g.log.Debug("a description could not be read", keyGateway, g.addr, "location", location, keyErr, err)
			continue
		}
		if m.conn != nil || m.firewall != nil {
			return m, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none, which is kept
}

// describe reads a description.
func (g *gateway) describe(ctx context.Context, location string) (*igdMapper, error) {
	status, text, err := g.fetch(ctx, http.MethodGet, location, nil, nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", status)
	}
	d, err := upnp.ParseDescription(text)
	if err != nil {
		return nil, err
	}
	m := &igdMapper{g: g, name: clean(d.Device.FriendlyName, 64)}
	controls := func(name string) (list []*control) {
		for _, s := range d.Device.Find(name) {
			if at, err := d.Resolve(location, s.ControlURL); err == nil && len(list) < maxConnections {
				list = append(list, &control{g, s.Type, at})
			}
		}
		return list
	}
	m.conn = m.pick(ctx, append(controls(upnp.WANIPConnection), controls(upnp.WANPPPConnection)...))
	if list := controls(upnp.WANIPv6FirewallControl); len(list) > 0 {
		m.firewall = list[0]
	}
	return m, nil
}

// pick is the connection that is up: the first that says so, else the first.
func (m *igdMapper) pick(ctx context.Context, list []*control) *control {
	if len(list) == 0 {
		return nil
	}
	for _, c := range list[:min(len(list), maxConnections)] {
		if len(list) == 1 {
			break
		}
		args, err := c.call(ctx, upnp.GetStatusInfo)
		if err == nil && strings.EqualFold(args.Of("NewConnectionStatus"), "Connected") {
			return c
		}
	}
	return list[0]
}

func (m *igdMapper) protocol() portmap.Protocol { return portmap.UPnP }

func (m *igdMapper) external(ctx context.Context) (netip.Addr, error) {
	if m.conn == nil {
		return netip.Addr{}, &refusal{kind: KindNoExternal, protocol: portmap.UPnP, text: "it does nothing for IPv4"}
	}
	args, err := m.conn.call(ctx, upnp.GetExternalIPAddress)
	if err != nil {
		r := m.refused(err)
		if r.code == upnp.ActionFailed {
			r.kind, r.text = KindNoExternal, "the gateway has no external address"
		}
		return netip.Addr{}, r
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(args.Of("NewExternalIPAddress")))
	if err != nil || addr.IsUnspecified() || !addr.Is4() {
		return netip.Addr{}, &refusal{kind: KindNoExternal, protocol: portmap.UPnP, text: "the gateway has no external address"}
	}
	if m.g.learn(portmap.UPnP, addr) {
		m.g.lost(m.g, "its external address is another")
	}
	return addr, nil
}

// tries is how many ports are asked for one after the other, and drawn when those are taken.
const (
	tries = 8
	draws = 4
)

func (m *igdMapper) add(ctx context.Context, a ask, before *grant) (grant, error) {
	if a.client.Is6() {
		return m.pinhole(ctx, a, before)
	}
	addr, err := m.external(ctx) // first, because a mapping without an address is none
	if err != nil {
		return grant{}, err
	}
	want := a.external
	if before != nil {
		want = before.public.Port()
	}
	var taken error
	for n := range tries + draws {
		port := want + uint16(n)
		if want == 0 || n >= tries || port < want {
			port = uint16(49152 + rand.IntN(65536-49152)) // RFC 6335, section 6: those that nobody is given
		}
		g, err := m.addPort(ctx, a, port)
		if err == nil {
			g.public = netip.AddrPortFrom(addr, g.public.Port())
			return g, nil
		}
		taken = err
		if asRefusal(err).kind != KindConflict {
			return grant{}, err
		}
		if ctx.Err() != nil {
			return grant{}, ctx.Err()
		}
	}
	return grant{}, taken
}

// addPort maps one port, by what the gateway can: the port that it picks in version 2, for as long as it takes.
func (m *igdMapper) addPort(ctx context.Context, a ask, port uint16) (grant, error) {
	action := upnp.AddPortMapping
	if strings.HasSuffix(m.conn.service, "WANIPConnection:2") {
		action = upnp.AddAnyPortMapping
	} else if held, err := m.entry(ctx, a.network, port); err == nil && held.InternalClient != a.client.String() {
		// Not every gateway refuses: some give the port to whoever comes last.
		return grant{}, &refusal{kind: KindConflict, protocol: portmap.UPnP, code: upnp.Conflict, text: "the port is taken"}
	}
	lifetime := a.lifetime
	for {
		args, err := m.conn.call(ctx, action, m.arguments(a, port, lifetime)...)
		if err == nil {
			if reserved, err := strconv.ParseUint(args.Of("NewReservedPort"), 10, 16); err == nil && reserved != 0 && action == upnp.AddAnyPortMapping {
				port = uint16(reserved)
			}
			return grant{public: netip.AddrPortFrom(netip.Addr{}, port), lifetime: lifetime}, nil
		}
		r := m.refused(err)
		switch {
		case lifetime != 0 && (r.code == upnp.OnlyPermanent || r.code == upnp.InvalidArgs || r.code == upnp.ActionFailed || r.code == upnp.ValueOutOfRange):
			lifetime = 0 // those without leases say so in several ways
		case action == upnp.AddAnyPortMapping && (r.code == upnp.InvalidAction || r.code == upnp.NotImplemented):
			action, lifetime = upnp.AddPortMapping, a.lifetime
		case r.code == upnp.SamePortRequired && port != a.internal:
			port = a.internal
		default:
			return grant{}, r
		}
	}
}

func (m *igdMapper) arguments(a ask, port uint16, lifetime time.Duration) upnp.Args {
	return (&upnp.PortMapping{
		External: port, Network: a.network, InternalPort: a.internal, InternalClient: a.client.String(), Enabled: true,
		Description: clean(a.describe, 64), Lease: seconds(lifetime),
	}).Args()
}

// entry is what stands at an external port.
func (m *igdMapper) entry(ctx context.Context, n forward.Networks, port uint16) (upnp.PortMapping, error) {
	e := upnp.PortMapping{Network: n, External: port}
	args, err := m.conn.call(ctx, upnp.GetSpecificPortMappingEntry, e.NameArgs()...)
	if err != nil {
		return e, err
	}
	return e, args.Entry(&e)
}

func (m *igdMapper) holds(ctx context.Context, a ask, g grant) (bool, error) {
	if a.client.Is6() {
		return m.pinholeHolds(ctx, g)
	}
	e, err := m.entry(ctx, a.network, g.public.Port())
	if err != nil {
		r := m.refused(err)
		if r.code == upnp.NoSuchEntry || r.code == upnp.InvalidIndex {
			return false, nil
		}
		return false, r
	}
	return e.InternalClient == a.client.String() && e.InternalPort == a.internal && e.Enabled, nil
}

func (m *igdMapper) remove(ctx context.Context, a ask, g grant) error {
	if a.client.Is6() {
		_, err := m.firewall.call(ctx, upnp.DeletePinhole, idArg(g.id))
		return m.gone(err)
	}
	e := upnp.PortMapping{Network: a.network, External: g.public.Port()}
	_, err := m.conn.call(ctx, upnp.DeletePortMapping, e.NameArgs()...)
	return m.gone(err)
}

// gone is err of a deletion, unless it says that there was nothing to delete.
func (m *igdMapper) gone(err error) error {
	if err == nil {
		return nil
	}
	if r := m.refused(err); r.code != upnp.NoSuchEntry && r.code != upnp.NoSuchPinhole {
		return r
	}
	return nil
}

// refused makes a refusal of what a call returned.
func (m *igdMapper) refused(err error) *refusal {
	var f *upnp.Fault
	if !errors.As(err, &f) {
		return &refusal{kind: KindSilent, protocol: portmap.UPnP, text: err.Error()}
	}
	r := &refusal{kind: KindFailed, protocol: portmap.UPnP, code: f.Code, text: clean(f.Description, 80)}
	switch f.Code {
	case upnp.Conflict, upnp.OtherMechanism, upnp.SamePortRequired:
		r.kind, r.text = KindConflict, "the port is taken"
	case upnp.NotAuthorized:
		r.kind, r.text = KindDenied, "this host may not have the port"
	case upnp.NoPorts:
		r.kind, r.text = KindFull, "the gateway has no port left"
	case upnp.InvalidAction, upnp.NotImplemented:
		r.kind, r.text = KindDisabled, "mapping ports is switched off"
	case upnp.OnlyAnyPort, upnp.OnlyAnyRemote:
		r.text = "the gateway maps only all ports at once"
	case upnp.ActionFailed:
		r.text = "the gateway could not do it, and does not say why"
	}
	return r
}

// clean is a text from elsewhere, cut and without control characters.
func clean(s string, most int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= most {
			break
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
