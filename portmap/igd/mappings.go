package igd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// refused is a fault of a code, with the words of the service that refuses.
func refused(code int) error { return &upnp.Fault{Code: code} }

func ipActions() map[string]action {
	return map[string]action{
		upnp.AddPortMapping:              addMapping,
		upnp.AddAnyPortMapping:           addAnyMapping,
		upnp.DeletePortMapping:           deleteMapping,
		upnp.DeletePortMappingRange:      deleteRange,
		upnp.GetGenericPortMappingEntry:  genericEntry,
		upnp.GetSpecificPortMappingEntry: specificEntry,
		upnp.GetListOfPortMappings:       listMappings,
		upnp.GetExternalIPAddress:        externalAddress,
		upnp.GetStatusInfo:               statusInfo,
		upnp.GetNATRSIPStatus:            natStatus,
		upnp.GetConnectionTypeInfo:       connectionType,
		"RequestConnection":              func(context.Context, *call) (upnp.Args, error) { return nil, nil }, // it stands
		"ForceTermination":               notForClients(upnp.NotAuthorized),
		"SetConnectionType":              notForClients(upnp.ReadOnly),
	}
}

// notForClients refuses what only the operator may do, to version 1 without saying more.
func notForClients(code int) action {
	return func(_ context.Context, c *call) (upnp.Args, error) {
		if c.version < 2 {
			code := upnp.ActionFailed
			return nil, refused(code)
		}
		return nil, refused(code)
	}
}

func addMapping(ctx context.Context, c *call) (upnp.Args, error) {
	m, err := c.args.Mapping()
	if err != nil {
		return nil, err
	}
	if m.External == 0 {
		return nil, refused(upnp.NoWildcardPort)
	}
	r, err := c.request(&m)
	if err != nil {
		return nil, err
	}
	r.Exact = true
	old, found := c.Desk.At(r.Network, m.External)
	replaces := found && old.Key != r.Key // a client that gives a port of its own another target has changed its mind
	if replaces {
		if old.Protocol != portmap.UPnP || !c.mine(&old) || old.Internal.Addr() != r.Internal.Addr() {
			return nil, c.taken(old.Protocol)
		}
		if err := c.end(ctx, &old); err != nil {
			return nil, err
		}
	}
	result := c.batch.do(ctx, r)
	if result.Err != nil && replaces { // it keeps what it had
		old.Request.External, old.Exact, old.Interface = m.External, true, r.Interface
		c.batch.do(ctx, old.Request)
	}
	c.events.touch()
	if errors.Is(result.Err, portmap.ErrConflict) {
		return nil, c.taken("")
	}
	return nil, result.Err
}

// taken is the fault for a port that somebody else has, by that protocol; version 2 tells clients of UPnP from the rest.
func (c *call) taken(by portmap.Protocol) error {
	if c.version >= 2 && by != portmap.UPnP {
		return refused(upnp.OtherMechanism)
	}
	return refused(upnp.Conflict)
}

func addAnyMapping(ctx context.Context, c *call) (upnp.Args, error) {
	m, err := c.args.Mapping()
	if err != nil {
		return nil, err
	}
	r, err := c.request(&m)
	if err != nil {
		return nil, err
	}
	result := c.batch.do(ctx, r)
	c.events.touch()
	if result.Err != nil {
		return nil, result.Err
	}
	return upnp.Args{{Name: "NewReservedPort", Value: decimal(result.Public.Port())}}, nil
}

// request is what a mapping asks of the desk.
func (c *call) request(m *upnp.PortMapping) (portmap.Request, error) {
	r := portmap.Request{
		Protocol: portmap.UPnP, Client: c.client, Interface: c.place.Interface.Name, External: m.External,
		Describe: clean(m.Description), Disabled: !m.Enabled, Lifetime: c.lifetime(m.Lease),
	}
	if m.InternalPort == 0 {
		if c.version < 2 {
			return r, refused(upnp.InvalidArgs)
		}
		return r, refused(upnp.NoWildcardInside)
	}
	var err error
	if r.From, err = remoteHost(m.RemoteHost); err != nil {
		return r, err
	}
	inside := c.client
	if text := strings.TrimSpace(m.InternalClient); text != "" {
		if inside, err = netip.ParseAddr(text); err != nil { // a name, which is never looked up
			return r, refused(upnp.InvalidArgs)
		}
		inside = inside.Unmap()
	}
	switch {
	case !inside.Is4():
		return r, refused(upnp.InvalidArgs)
	case inside == c.client, c.isAlso(inside):
	case !c.Spec.ThirdParty:
		return r, errStranger
	case !within(c.place, inside):
		return r, refused(upnp.InvalidArgs)
	}
	r.Key, r.Client = portmap.Key{Network: m.Network, Internal: netip.AddrPortFrom(inside, m.InternalPort)}, c.as(inside)
	return r, nil
}

// lifetime is how long a lease is asked for. In version 2 none is for ever.
func (c *call) lifetime(seconds uint32) time.Duration {
	if c.device.version >= 2 && (seconds == 0 || seconds > upnp.MaxLease) {
		seconds = upnp.MaxLease
	}
	return time.Duration(seconds) * time.Second
}

// remoteHost is who may come in. A name would have to be looked up, which nobody here can make this host do.
func remoteHost(s string) ([]netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if s == "" || s == "*" || s == "0.0.0.0" {
		return nil, nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || !addr.Is4() || addr.IsMulticast() {
		return nil, refused(upnp.OnlyAnyRemote)
	}
	return []netip.Prefix{netip.PrefixFrom(addr, 32)}, nil
}

// maxDescription is how many bytes of a description are kept.
const maxDescription = 128

// clean makes a line of foreign text that can be shown anywhere.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			r = ' '
		}
		if b.Len()+len(string(r)) > maxDescription {
			break
		}
		b.WriteRune(r)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// entry is how a mapping is shown. One that still waits to be approved is not enabled.
func entry(m *portmap.Mapping, now time.Time) upnp.PortMapping {
	e := upnp.PortMapping{
		External: m.Public.Port(), Network: m.Network, InternalPort: m.Internal.Port(), InternalClient: m.Internal.Addr().String(),
		Enabled: !m.Disabled && !m.Asking, Description: m.Describe,
	}
	if len(m.From) > 0 {
		if e.RemoteHost = m.From[0].String(); m.From[0].IsSingleIP() {
			e.RemoteHost = m.From[0].Addr().String()
		}
	}
	if !m.Expires.IsZero() {
		e.Lease = uint32(max(1, min(1<<31, (m.Expires.Sub(now)+time.Second-1)/time.Second)))
	}
	return e
}

// named is the client's mapping that a call names.
func (c *call) named() (portmap.Mapping, error) {
	want, err := c.args.Named()
	if err != nil {
		return portmap.Mapping{}, err
	}
	from, err := remoteHost(want.RemoteHost)
	if err != nil {
		return portmap.Mapping{}, portmap.ErrNotFound // there is none of a host that none can be made of
	}
	m, ok := c.Desk.At(want.Network, want.External)
	switch {
	case want.External == 0 || !ok || !m.Internal.Addr().Is4():
		return portmap.Mapping{}, portmap.ErrNotFound
	case !c.mine(&m):
		if c.version < 2 {
			return portmap.Mapping{}, portmap.ErrNotFound
		}
		return portmap.Mapping{}, errStranger
	case len(from) != 0 && (len(m.From) != 1 || from[0] != m.From[0]):
		return portmap.Mapping{}, portmap.ErrNotFound
	}
	return m, nil
}

func deleteMapping(ctx context.Context, c *call) (upnp.Args, error) {
	m, err := c.named()
	if err != nil {
		return nil, err
	}
	err = c.end(ctx, &m)
	c.events.touch()
	return nil, err
}

// end ends one of the client's mappings. There may be others of the same internal port.
func (c *call) end(ctx context.Context, m *portmap.Mapping) error {
	return c.Desk.UnmapAt(ctx, c.as(m.Internal.Addr()), m.Network, m.Public.Port())
}

func specificEntry(_ context.Context, c *call) (upnp.Args, error) {
	m, err := c.named()
	if err != nil {
		return nil, err
	}
	e := entry(&m, time.Now())
	return e.EntryArgs(), nil
}

func genericEntry(_ context.Context, c *call) (upnp.Args, error) {
	n, ok := c.args.Number("NewPortMappingIndex", 16)
	if !ok {
		return nil, refused(upnp.InvalidArgs)
	}
	list := c.lists.get(c.Server, c.client, n > 0)
	if n >= uint64(len(list)) {
		return nil, refused(upnp.InvalidIndex)
	}
	e := entry(&list[n], time.Now())
	return e.Args(), nil
}

// ranged is the client's mappings between two ports, by the arguments that DeletePortMappingRange and GetListOfPortMappings share.
func (c *call) ranged() (list []portmap.Mapping, manage bool, err error) {
	start, ok1 := c.args.Port("NewStartPort")
	end, ok2 := c.args.Port("NewEndPort")
	network, ok3 := upnp.ParseProtocol(c.args.Of("NewProtocol"))
	manage, ok4 := upnp.ParseBool(c.args.Of("NewManage"), false)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, false, refused(upnp.InvalidArgs)
	}
	if start > end {
		return nil, false, refused(upnp.Inconsistent)
	}
	for _, m := range c.visible(c.client) {
		if port := m.Public.Port(); m.Network == network && port >= start && port <= end && (manage || c.own(&m)) {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil, manage, refused(upnp.NoneInRange)
	}
	return list, manage, nil
}

func deleteRange(ctx context.Context, c *call) (upnp.Args, error) {
	list, manage, err := c.ranged()
	if manage && !c.Spec.ThirdParty {
		return nil, errStranger
	}
	if err != nil {
		return nil, err
	}
	for i := range list {
		if err := c.end(ctx, &list[i]); err != nil {
			return nil, err
		}
	}
	c.events.touch()
	return nil, nil
}

// maxListed is how many mappings are in one list at most.
const maxListed = 1000

func listMappings(_ context.Context, c *call) (upnp.Args, error) {
	limit, ok := c.args.Number("NewNumberOfPorts", 16)
	if !ok {
		return nil, refused(upnp.InvalidArgs)
	}
	list, _, err := c.ranged()
	if err != nil {
		return nil, err
	}
	if limit == 0 || limit > maxListed {
		limit = maxListed
	}
	now := time.Now()
	var entries []upnp.PortMapping
	for i := range list[:min(len(list), int(limit))] {
		entries = append(entries, entry(&list[i], now))
	}
	return upnp.Args{{Name: "NewPortListing", Value: string(upnp.AppendListing(nil, entries))}}, nil
}
