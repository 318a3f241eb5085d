package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// A gateway is a router that may be asked for mappings, and what is known of it.
//
//	this host ──local── gateway (level 0) ──client── gateway beyond (level 1) ── …
type gateway struct {
	tools
	addr   netip.Addr // where it is asked; link-local IPv6 has a zone
	local  Address    // of this host, from where it is asked
	client netip.Addr // this host as the gateway sees it: local, or the address that the gateway before it has outside
	level  int
	main   bool // this host has a default route by it, or it is beyond such a one

	busy   chan struct{}                  // a slot for each question that may be under way
	pmp    *memo[pmpAnswers]              // what answers at the port of NAT-PMP and PCP
	search *memo[found]                   // what answers to SSDP
	igd    *memo[*igdMapper]              // nil: it has none
	next   *memo[map[netip.Addr]*gateway] // by external address: the gateway beyond; nil: nobody answers there
	epochs epochs

	generation atomic.Uint64 // counts how often it lost its mappings

	mu       sync.Mutex
	external map[portmap.Protocol]netip.Addr // as it said last
	lostAt   time.Time
	losing   bool // it is about to be told again that it lost its mappings
	sign     sign // of its last notice
}

// tools is what every gateway of a Publisher works with.
type tools struct {
	net    Network
	log    *slog.Logger
	secret []byte
	only   []portmap.Protocol           // that are spoken; none: all
	lost   func(g *gateway, why string) // g may have lost its mappings; does not wait
}

// maxBusy is how many questions a gateway is asked at a time. Small ones lose what comes faster.
const maxBusy = 2

func newGateway(t tools, addr netip.Addr, local Address) *gateway {
	return &gateway{
		tools: t, addr: addr, local: local, client: local.Addr(), busy: make(chan struct{}, maxBusy), pmp: newMemo[pmpAnswers](),
		search: newMemo[found](), igd: newMemo[*igdMapper](), next: newMemo[map[netip.Addr]*gateway](),
	}
}

// enter waits for a slot.
func (g *gateway) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.busy <- struct{}{}:
		return func() { <-g.busy }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// mappers calls yield for the protocols that the gateway speaks, the best first. Each is looked for only when those before it did not do.
func (g *gateway) mappers(ctx context.Context, yield func(mapper) bool) error {
	var pmp pmpAnswers
	if g.speaks(portmap.PCP) || g.speaks(portmap.NATPMP) {
		var err error
		if pmp, err = g.pmp.get(ctx, g.probePMP); err != nil {
			return err
		}
	}
	if pmp.pcp && g.speaks(portmap.PCP) && !yield(&pcpMapper{g}) {
		return nil
	}
	if pmp.natpmp && g.speaks(portmap.NATPMP) && !yield(&natpmpMapper{g}) {
		return nil
	}
	if !g.speaks(portmap.UPnP) {
		return nil
	}
	igd, err := g.igd.get(ctx, g.probeIGD)
	if err != nil {
		return err
	}
	if igd != nil && igd.usable(g.client) {
		yield(igd)
	}
	return nil
}

// speaks reports whether a protocol may be used.
func (t *tools) speaks(p portmap.Protocol) bool {
	return len(t.only) == 0 || slices.Contains(t.only, p)
}

// forget has everything found out anew at the next occasion.
func (g *gateway) forget() {
	g.pmp.forget()
	g.search.forget()
	g.igd.forget()
	g.next.forget()
}

// forgetSilence is forget, for what was not there.
func (g *gateway) forgetSilence(ctx context.Context) {
	if pmp, ok := g.pmp.peek(ctx); ok && pmp == (pmpAnswers{}) {
		g.pmp.forget()
	}
	if igd, ok := g.igd.peek(ctx); ok && igd == nil {
		g.search.forget()
		g.igd.forget()
	}
	if all, ok := g.next.peek(ctx); ok {
		g.mu.Lock()
		maps.DeleteFunc(all, func(_ netip.Addr, n *gateway) bool { return n == nil })
		g.mu.Unlock()
	}
}

// learn takes down the external address, and reports whether it was another one before. Protocols are not compared with each other:
// with several connections to the outside they may speak of different ones.
func (g *gateway) learn(p portmap.Protocol, external netip.Addr) (changed bool) {
	if !external.IsValid() || external.Is6() {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before, known := g.external[p]
	if g.external == nil {
		g.external = map[portmap.Protocol]netip.Addr{}
	}
	g.external[p] = external
	return known && before != external
}

// known is the external address that was said last, by a protocol.
func (g *gateway) known(p portmap.Protocol) netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.external[p]
}

// The bounds of chains of gateways.
const (
	maxLevel      = 3 // gateways one behind the other that are asked
	maxCandidates = 6
)

// beyond is the gateway behind g, which has given g the address external.
func (g *gateway) beyond(ctx context.Context, external netip.Addr) (*gateway, error) {
	if g.level+1 >= maxLevel {
		return nil, fmt.Errorf("behind %d gateways no further one is looked for", maxLevel)
	}
	all, err := g.next.get(ctx, func(context.Context) (map[netip.Addr]*gateway, error) { return map[netip.Addr]*gateway{}, nil })
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	next, looked := all[external]
	g.mu.Unlock()
	if !looked {
		next, err = g.lookBeyond(ctx, external)
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		all[external] = next
		g.mu.Unlock()
	}
	if next == nil {
		return nil, errors.New("no gateway beyond it answers")
	}
	return next, nil
}

// lookBeyond asks those who may be the gateway beyond, all at once, and takes the likeliest that answers.
func (g *gateway) lookBeyond(ctx context.Context, external netip.Addr) (*gateway, error) {
	if g.local.Masked().Contains(external) {
		return nil, &overlapError{external}
	}
	candidates := g.candidates(ctx, external)
	asking, end := context.WithCancel(ctx)
	defer end()
	answers := make([]chan *gateway, len(candidates)) // nil: it does not answer
	for i, addr := range candidates {
		next := newGateway(g.tools, addr, g.local)
		next.client, next.level, next.main = external, g.level+1, g.main
		answers[i] = make(chan *gateway, 1)
		go func() { answers[i] <- next.ifThere(asking) }()
	}
	var best *gateway
	for _, answer := range answers { // the likeliest first; who is asked still is waited for, and called off
		if next := <-answer; next != nil && best == nil {
			best = next
			end()
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if best != nil {
		g.log.Info("found a gateway beyond the gateway", keyGateway, g.addr, keyExternal, external, keyBeyond, best.addr)
	}
	return best, nil
}

// ifThere is g if it speaks anything, else nil.
func (g *gateway) ifThere(ctx context.Context) *gateway {
	there := false
	err := g.mappers(ctx, func(mapper) bool {
		there = true
		return false
	})
	if err != nil && ctx.Err() == nil {
		g.log.Debug("a gateway beyond could not be asked", keyGateway, g.addr, keyErr, err)
	}
	if !there {
		return nil
	}
	return g
}

// candidates is where the gateway beyond may be: the router that the next packet would meet, then the addresses that gateways
// have in the network of external, then the provider's PCP server.
func (g *gateway) candidates(ctx context.Context, external netip.Addr) []netip.Addr {
	var list []netip.Addr
	add := func(a netip.Addr) {
		// A public address is no gateway of a private network. PCP's anycast address is made for this.
		ok := a.Is4() && a != external && a != g.addr && !g.local.Masked().Contains(a) && (a == pcpAnycast || ReachOf(a) == Private || ReachOf(a) == Shared)
		if ok && len(list) < maxCandidates && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if hop, err := g.net.Hop(ctx, g.local.Addr(), g.level+2); err == nil {
		add(hop)
	}
	b := external.As4()
	for _, last := range []byte{1, 254} {
		add(netip.AddrFrom4([4]byte{b[0], b[1], b[2], last}))
	}
	add(pcpAnycast)
	return list
}

// An overlapError says that the networks on both sides of a gateway have the same addresses.
type overlapError struct{ external netip.Addr }

func (e *overlapError) Error() string {
	return fmt.Sprintf("the network between them has the same addresses as that of this host (%s)", e.external)
}

// The keys of log attributes.
const (
	keyWish     = "published"
	keyGateway  = "gateway"
	keyBeyond   = "beyond"
	keyExternal = "external"
	keyPublic   = "public"
	keyProtocol = "protocol"
	keyErr      = "err"
	keyWhy      = "why"
	keyFrom     = "from"
)
