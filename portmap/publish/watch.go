package publish

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// watch looks at the routes and addresses of this host until ctx ends, and listens where its gateways give notice.
func (p *Publisher) watch(ctx context.Context) {
	deafen := func() {}
	defer func() { deafen() }()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if s, changed := p.look(); changed {
			deafen()
			deafen = p.listen(ctx, s)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look takes a new survey where there is anything new.
func (p *Publisher) look() (*survey, bool) {
	routes, err := p.net.Routes()
	if err != nil {
		p.log.Warn("the routes of this host cannot be read", keyErr, err)
	}
	addrs, err := p.net.Addresses()
	if err != nil {
		p.log.Warn("the addresses of this host cannot be read", keyErr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.same(routes, addrs) {
		return p.current, false
	}
	p.current = p.current.next(p.tools, routes, addrs)
	clear(p.guests)
	close(p.resurvey)
	p.resurvey = make(chan struct{})
	return p.current, true
}

// The groups that gateways give notice to: RFC 6886, section 3.2.1, RFC 6887, section 14.1, and SSDP's.
var groups = []netip.AddrPort{
	netip.AddrPortFrom(netip.MustParseAddr("224.0.0.1"), pcp.ClientPort),
	netip.AddrPortFrom(netip.MustParseAddr(ssdp.Group4), ssdp.Port),
	netip.AddrPortFrom(netip.MustParseAddr("ff02::1"), pcp.ClientPort),
	netip.AddrPortFrom(netip.MustParseAddr(ssdp.Group6Link), ssdp.Port),
}

// listen hears notices on the interfaces of the gateways. Where another program has a port, regular looks have to do.
func (p *Publisher) listen(ctx context.Context, s *survey) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	var ears sync.WaitGroup
	type place struct {
		iface string
		v6    bool
	}
	var places []place
	for _, g := range s.gateways {
		if at := (place{g.local.Interface, g.addr.Is6()}); !slices.Contains(places, at) {
			places = append(places, at)
		}
	}
	for _, at := range places {
		for _, group := range groups {
			if group.Addr().Is6() != at.v6 {
				continue
			}
			ears.Go(func() {
				err := p.net.Listen(ctx, at.iface, group, func(h Heard) { p.notice(ctx, s, group.Port(), h) })
				if err != nil && ctx.Err() == nil {
					p.log.Info("notices of gateways are not heard; they are looked at from time to time", "interface", at.iface, "group", group, keyErr, err)
				}
			})
		}
	}
	return func() {
		end()
		ears.Wait()
	}
}

// notice is a datagram that somebody sent to a group. Only the gateways' own count.
func (p *Publisher) notice(ctx context.Context, s *survey, port uint16, h Heard) {
	for _, g := range s.gateways {
		if g.addr.WithZone("") == h.From.WithZone("") {
			if port == ssdp.Port {
				g.heardSSDP(ctx, h)
			} else {
				g.heardPMP(h)
			}
		}
	}
}

// heardPMP reads a notice of NAT-PMP or PCP.
func (g *gateway) heardPMP(h Heard) {
	if r, err := natpmp.ParseResponse(h.Payload); err == nil {
		if r.Opcode == natpmp.Address {
			g.heardNATPMP(r)
		}
	} else if r, err := pcp.ParseResponse(h.Payload); err == nil && r.Opcode == pcp.Announce && r.Code == pcp.Success {
		g.epoch(portmap.PCP, r.Epoch)
	}
}

// heardSSDP reads a notice of SSDP. One of a start, or a place, that was not known makes the mappings anew: clocks do not tell of a
// restart within the first seconds, and UPnP has none. A gateway that has given no notice before costs that once.
func (g *gateway) heardSSDP(ctx context.Context, h Heard) {
	m, err := ssdp.Parse(h.Payload)
	if err != nil || !strings.HasPrefix(m.Target, upnp.InternetGatewayDevice) || m.Kind != ssdp.Alive {
		return
	}
	location, ok := checkLocation(m.Location, h.From)
	if !ok {
		return
	}
	now := sign{m.Boot, location}
	g.mu.Lock()
	before := g.sign
	g.sign = now
	g.mu.Unlock()
	f, asked := g.search.peek(ctx)
	if before == now || before == (sign{}) && asked && f.boot == m.Boot && slices.Contains(f.own, location) {
		return
	}
	g.search.forget()
	g.igd.forget()
	g.lost(g, "it gives notice of a new start")
}

// A sign is by which a gateway that speaks UPnP is known to be the one that it was.
type sign struct {
	boot     uint32
	location string
}

// patrol looks at the gateways from time to time: at their clocks, and at their external addresses.
func (p *Publisher) patrol(ctx context.Context) {
	tick := time.NewTicker(p.check)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		s := p.current
		p.mu.Unlock()
		if s == nil {
			continue
		}
		var looking sync.WaitGroup
		for _, g := range s.gateways {
			looking.Go(func() { g.look(ctx) })
		}
		looking.Wait()
	}
}

// look asks a gateway what shows whether it is still the same, in the protocols that it is known to speak.
func (g *gateway) look(ctx context.Context) {
	if pmp, ok := g.pmp.peek(ctx); ok && (pmp.pcp || pmp.natpmp) {
		if _, err := g.probePMP(ctx); err != nil {
			return
		}
	} else if igd, ok := g.igd.peek(ctx); ok && igd != nil && igd.conn != nil {
		if _, err := igd.external(ctx); err != nil && ctx.Err() == nil {
			g.log.Debug("the gateway does not say its external address", keyGateway, g.addr, keyErr, err)
		}
	}
	next, ok := g.next.peek(ctx)
	if !ok {
		return
	}
	g.mu.Lock()
	var beyond []*gateway
	for _, n := range next {
		if n != nil {
			beyond = append(beyond, n)
		}
	}
	g.mu.Unlock()
	for _, n := range beyond {
		n.look(ctx)
	}
}
