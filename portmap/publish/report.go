package publish

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// A Report is what is out there: the gateways of this host, what they speak, and what they say.
type Report struct {
	Gateways []GatewayReport // nearest first, those of the default routes before others, IPv4 before IPv6
	NAT      NAT
	Problem  *Problem // what would keep a port from being reached by IPv4; nil: nothing that shows
}

// A NAT is how many translators stand between this host and the internet, as far as addresses tell, for IPv4.
type NAT string

// The kinds of NAT.
const (
	NATNone    NAT = "none"    // this host has a public address
	NATSingle  NAT = "single"  // a gateway has
	NATDouble  NAT = "double"  // one behind another
	NATCGNAT   NAT = "cgnat"   // the outer one is the provider's
	NATUnknown NAT = "unknown" // no gateway says which address it has
)

// A GatewayReport is one gateway.
type GatewayReport struct {
	Addr      netip.Addr
	Interface string
	Local     netip.Addr // of this host, as the gateway sees it
	Level     int        // how many gateways are before it
	Default   bool       // a default route leads to it, or to the one before it; else it has only said that it is one
	Name      string     // that it gives itself; cleaned, but anything
	Protocols []ProtocolReport
	External  netip.Addr // the first that it said
	Hop       netip.Addr // the router behind it, where that shows itself
	Mappings  []MappingReport
	Listed    bool // the mappings could be read; only UPnP has that
}

// A ProtocolReport is one protocol of a gateway.
type ProtocolReport struct {
	Protocol portmap.Protocol
	Service  string     // of UPnP: the types of the services that map
	External netip.Addr // not valid: it does not say, or not without a mapping (PCP)
	Err      error      // why it does not say
}

// A MappingReport is a mapping that a gateway has, whoever asked for it.
type MappingReport struct {
	Network  forward.Networks
	External uint16
	Internal string // address and port
	Enabled  bool
	Describe string // cleaned, but anything
	Lease    time.Duration
}

// maxListed bounds what a gateway lists.
const maxListed = 512

// Look finds out what is out there. It maps nothing. It takes a few seconds where gateways are silent.
func Look(ctx context.Context, o Options) (Report, error) {
	p := New(o)
	p.lost = func(*gateway, string) {}
	routes, err := p.net.Routes()
	if err != nil {
		return Report{}, fmt.Errorf("the routes of this host: %w", err)
	}
	addrs, err := p.net.Addresses()
	if err != nil {
		return Report{}, fmt.Errorf("the addresses of this host: %w", err)
	}
	var first *survey
	s := first.next(p.tools, routes, addrs)
	r := Report{Problem: s.problem}
	var mu sync.Mutex
	var looking sync.WaitGroup
	look := func(g *gateway) {
		list := g.reports(ctx)
		mu.Lock()
		defer mu.Unlock()
		r.Gateways = append(r.Gateways, list...)
	}
	for _, g := range s.gateways {
		looking.Go(func() { look(g) })
	}
	looking.Wait()
	for _, g := range p.strangers(ctx, s.gateways) {
		looking.Go(func() { look(g) })
	}
	looking.Wait()
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	slices.SortFunc(r.Gateways, compareReports)
	r.judge(s)
	return r, nil
}

func compareReports(a, b GatewayReport) int {
	rank := func(g GatewayReport) int {
		n := g.Level
		if g.Addr.Is6() {
			n += 10
		}
		if !g.Default {
			n += 20
		}
		return n
	}
	if n := rank(a) - rank(b); n != 0 {
		return n
	}
	if n := a.Addr.Compare(b.Addr); n != 0 {
		return n
	}
	return a.Local.Compare(b.Local)
}

// reports is what a gateway says, and those beyond it.
func (g *gateway) reports(ctx context.Context) []GatewayReport {
	r := GatewayReport{Addr: g.addr, Interface: g.local.Interface, Local: g.client, Level: g.level, Default: g.main}
	pmp, err := g.pmp.get(ctx, g.probePMP)
	if err == nil && pmp.pcp {
		r.Protocols = append(r.Protocols, ProtocolReport{Protocol: portmap.PCP})
	}
	if err == nil && pmp.natpmp {
		addr, err := (&natpmpMapper{g}).external(ctx)
		r.Protocols = append(r.Protocols, ProtocolReport{Protocol: portmap.NATPMP, External: addr, Err: err})
	}
	igd, err := g.igd.get(ctx, g.probeIGD)
	if err == nil && igd != nil && igd.usable(g.client) {
		r.Name = igd.name
		r.Protocols = append(r.Protocols, igd.report(ctx))
		if igd.conn != nil {
			r.Mappings, r.Listed = igd.list(ctx)
		}
	}
	for _, p := range r.Protocols {
		if p.External.IsValid() && !r.External.IsValid() {
			r.External = p.External
		}
	}
	list := []GatewayReport{r}
	if !g.addr.Is4() || ReachOf(r.External) == Public && r.External.IsValid() || !g.main {
		return list
	}
	if hop, err := g.net.Hop(ctx, g.local.Addr(), g.level+2); err == nil {
		list[0].Hop = hop
	}
	if r.External.IsValid() {
		if next, err := g.beyond(ctx, r.External); err == nil {
			list = append(list, next.reports(ctx)...)
		}
	}
	return list
}

// report is the UPnP of a gateway.
func (m *igdMapper) report(ctx context.Context) ProtocolReport {
	r := ProtocolReport{Protocol: portmap.UPnP}
	var services []string
	for _, c := range []*control{m.conn, m.firewall} {
		if c != nil {
			services = append(services, clean(c.service[strings.LastIndex(strings.TrimRight(c.service, "0123456789:"), ":")+1:], 40))
		}
	}
	r.Service = strings.Join(services, ", ")
	if m.conn != nil && m.g.client.Is4() {
		r.External, r.Err = m.external(ctx)
	}
	return r
}

// list reads the mappings of a gateway, whoever they belong to.
func (m *igdMapper) list(ctx context.Context) (list []MappingReport, ok bool) {
	for i := range maxListed {
		args, err := m.conn.call(ctx, upnp.GetGenericPortMappingEntry, upnp.Arg{Name: "NewPortMappingIndex", Value: fmt.Sprint(i)})
		if err != nil {
			r := m.refused(err)
			return list, i > 0 || r.code == upnp.InvalidIndex || r.code == upnp.NoSuchEntry
		}
		e, err := args.Mapping()
		if err != nil {
			continue
		}
		list = append(list, MappingReport{
			Network: e.Network, External: e.External, Internal: clean(fmt.Sprintf("%s:%d", e.InternalClient, e.InternalPort), 64),
			Enabled: e.Enabled, Describe: clean(e.Description, 64), Lease: time.Duration(e.Lease) * time.Second,
		})
	}
	return list, true
}

// judge says which NAT this is, from the addresses of the default routes' gateways.
func (r *Report) judge(s *survey) {
	r.NAT = NATUnknown
	var last *GatewayReport // the outermost that says its address
	var silentOne *GatewayReport
	for i := range r.Gateways {
		g := &r.Gateways[i]
		if !g.Default || !g.Addr.Is4() {
			continue
		}
		if g.Level == 0 && ReachOf(g.Local) == Public {
			r.NAT = NATNone
			return
		}
		if g.External.IsValid() && (last == nil || g.Level > last.Level) {
			last = g
		}
		if len(g.Protocols) == 0 && silentOne == nil {
			silentOne = g
		}
	}
	switch {
	case last != nil && ReachOf(last.External) == Public:
		r.NAT = NATSingle
		if last.Level > 0 {
			r.NAT = NATDouble
		}
	case last != nil:
		r.Problem = notPublic(last.Addr, last.External, fmt.Errorf("no gateway beyond it answers"))
		r.NAT = NATDouble
		if r.Problem.Kind == KindCGNAT {
			r.NAT = NATCGNAT
		} else if r.Problem.Kind != KindDoubleNAT {
			r.NAT = NATUnknown
		}
	case silentOne != nil:
		r.Problem = ofRefusals(silentOne.Addr, nil, nil)
		if p := behind(r.Problem, silentOne.Addr, silentOne.Hop); p != r.Problem {
			r.Problem = p
			r.NAT = map[Kind]NAT{KindDoubleNAT: NATDouble, KindCGNAT: NATCGNAT}[p.Kind]
		}
	case s.problem == nil && len(r.Gateways) > 0:
		for _, g := range r.Gateways {
			if g.Default && g.Addr.Is4() {
				r.Problem = &Problem{Kind: KindNoExternal, Gateway: g.Addr, Text: fmt.Sprintf("the gateway %s does not say which address it has", g.Addr), Hint: hintExternal}
				r.Problem = behind(r.Problem, g.Addr, g.Hop)
				return
			}
		}
	}
}
