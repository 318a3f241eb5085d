package igd

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// maxHoles is how many pinholes have a number at once; numbers have 16 bits.
const maxHoles = 32_768

// pinholes are the numbers by which clients know their pinholes. They do not outlive the program: a client that comes with an old one
// hears that there is no such pinhole, asks for it again, and gets the one that is still there.
type pinholes struct {
	mu   sync.Mutex
	next uint16
	keys map[uint16]portmap.Key
	ids  map[portmap.Key]uint16
}

func (h *pinholes) init() {
	h.next = uint16(rand.Uint32())
	h.keys, h.ids = map[uint16]portmap.Key{}, map[portmap.Key]uint16{}
}

// number is the number of a pinhole, the one that it has or a new one. The desk tells which of the others are gone.
func (h *pinholes) number(key portmap.Key, desk portmap.Desk) (uint16, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id, ok := h.ids[key]; ok {
		return id, true
	}
	if len(h.keys) >= maxHoles {
		for id, key := range h.keys {
			if _, ok := desk.ByKey(key); !ok {
				delete(h.keys, id)
				delete(h.ids, key)
			}
		}
	}
	if len(h.keys) >= maxHoles {
		return 0, false
	}
	for {
		h.next++
		if _, used := h.keys[h.next]; !used {
			h.keys[h.next], h.ids[key] = key, h.next
			return h.next, true
		}
	}
}

func (h *pinholes) key(id uint16) (portmap.Key, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key, ok := h.keys[id]
	return key, ok
}

func (h *pinholes) forget(id uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if key, ok := h.keys[id]; ok {
		delete(h.keys, id)
		delete(h.ids, key)
	}
}

// pinholeActions is WANIPv6FirewallControl. Where nobody counts packets, there are no actions that would be about them.
func (s *Server) pinholeActions() map[string]action {
	list := map[string]action{
		upnp.GetFirewallStatus: func(context.Context, *call) (upnp.Args, error) {
			return upnp.Args{{Name: "FirewallEnabled", Value: "1"}, {Name: "InboundPinholeAllowed", Value: "1"}}, nil
		},
		upnp.AddPinhole:    addPinhole,
		upnp.UpdatePinhole: updatePinhole,
		upnp.DeletePinhole: deletePinhole,
	}
	if s.Packets != nil {
		list[upnp.GetPinholePackets] = pinholePackets
		list[upnp.CheckPinholeWorking] = checkPinhole
	}
	return list
}

func addPinhole(ctx context.Context, c *call) (upnp.Args, error) {
	p, err := c.args.Pinhole()
	if err != nil {
		return nil, err
	}
	network, err := pinholeProtocol(p.Protocol)
	if err != nil {
		return nil, err
	}
	if p.InternalPort == 0 {
		return nil, refused(upnp.NoWildcardInternal)
	}
	inside, err := netip.ParseAddr(strings.TrimSpace(p.InternalClient))
	if err != nil || !inside.Is6() || inside.Is4In6() || inside.Zone() != "" || inside.IsLinkLocalUnicast() || p.Lease < upnp.MinPinhole || p.Lease > upnp.MaxPinhole {
		return nil, refused(upnp.InvalidArgs)
	}
	var from []netip.Prefix
	if text := strings.TrimSpace(p.RemoteHost); text != "" && text != "*" && text != "::" {
		addr, err := netip.ParseAddr(text)
		if err != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "" || addr.IsMulticast() {
			return nil, refused(upnp.InvalidArgs)
		}
		from = []netip.Prefix{netip.PrefixFrom(addr, 128)}
	}
	switch {
	case p.RemotePort != 0: // to leave it out would open more than was asked for
		return nil, &upnp.Fault{Code: upnp.ActionFailed, Description: "RemotePort can only be 0, any port"}
	case !within(c.place, inside):
		return nil, refused(upnp.InvalidArgs)
	case inside != c.client && !c.Spec.ThirdParty && !c.isAlso(inside):
		return nil, errStranger
	}
	key := portmap.Key{Network: network, Internal: netip.AddrPortFrom(inside, p.InternalPort)}
	result := c.batch.do(ctx, portmap.Request{
		Protocol: portmap.UPnP, Key: key, Client: c.as(inside), Interface: c.place.Interface.Name, External: p.InternalPort, Exact: true,
		Lifetime: time.Duration(p.Lease) * time.Second, From: from,
	})
	if result.Err != nil {
		return nil, result.Err
	}
	id, ok := c.holes.number(key, c.Desk)
	if !ok {
		_ = c.Desk.Unmap(ctx, c.as(inside), key)
		return nil, refused(upnp.PinholeSpaceExhausted)
	}
	return upnp.Args{{Name: "UniqueID", Value: decimal(id)}}, nil
}

func pinholeProtocol(n uint16) (forward.Networks, error) {
	switch n {
	case 6:
		return forward.TCP, nil
	case 17:
		return forward.UDP, nil
	case upnp.AnyProtocol:
		return 0, refused(upnp.NoWildcardProtocol)
	}
	return 0, refused(upnp.ProtocolNotSupported)
}

// hole is the client's pinhole that a call names by its number.
func (c *call) hole() (id uint16, m portmap.Mapping, err error) {
	id, ok := c.args.Port("UniqueID")
	if !ok {
		return 0, m, refused(upnp.InvalidArgs)
	}
	key, ok := c.holes.key(id)
	if !ok {
		return 0, m, refused(upnp.NoSuchPinhole)
	}
	if m, ok = c.Desk.ByKey(key); !ok {
		c.holes.forget(id)
		return 0, m, refused(upnp.NoSuchPinhole)
	}
	if !c.mine(&m) {
		return 0, m, errStranger
	}
	return id, m, nil
}

func updatePinhole(ctx context.Context, c *call) (upnp.Args, error) {
	_, m, err := c.hole()
	if err != nil {
		return nil, err
	}
	lease, ok := c.args.Number("NewLeaseTime", 32)
	if !ok || lease < upnp.MinPinhole || lease > upnp.MaxPinhole {
		return nil, refused(upnp.InvalidArgs)
	}
	r := m.Request
	r.Client, r.Interface, r.Lifetime = c.as(m.Internal.Addr()), c.place.Interface.Name, time.Duration(lease)*time.Second
	return nil, c.batch.do(ctx, r).Err
}

func deletePinhole(ctx context.Context, c *call) (upnp.Args, error) {
	id, m, err := c.hole()
	if err != nil {
		return nil, err
	}
	if err := c.Desk.Unmap(ctx, c.as(m.Internal.Addr()), m.Key); err != nil {
		return nil, err
	}
	c.holes.forget(id)
	return nil, nil
}

func pinholePackets(_ context.Context, c *call) (upnp.Args, error) {
	_, m, err := c.hole()
	if err != nil {
		return nil, err
	}
	n, ok := c.Packets(m)
	if !ok {
		return nil, refused(upnp.ActionFailed)
	}
	return upnp.Args{{Name: "PinholePackets", Value: decimal(uint32(n))}}, nil
}

// checkPinhole says that a pinhole works when something came in by it. That nothing did is no sign of anything.
func checkPinhole(_ context.Context, c *call) (upnp.Args, error) {
	_, m, err := c.hole()
	if err != nil {
		return nil, err
	}
	n, ok := c.Packets(m)
	switch {
	case !ok:
		return nil, refused(upnp.ActionFailed)
	case n == 0:
		return nil, refused(upnp.NoPacketSent)
	}
	return upnp.Args{{Name: "IsWorking", Value: "1"}}, nil
}
