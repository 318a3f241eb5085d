package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A Dialler is a Judge that dials from this machine what rules name. Where a rule names a network, the addresses of a name are looked
// up, and the ones that it permits are dialled.
type Dialler struct {
	// Rules are those for a call, at this moment; without any nothing is permitted.
	Rules func(c tunnel.Call) []forward.Rule
	// Connect connects: "tcp" and "udp" with what may stand behind them, and host:port.
	Connect func(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error)
	// Lookup finds the addresses of a name; nil asks the system.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

var _ Judge = (*Dialler)(nil)

// A goal is what somebody wants to reach.
type goal struct {
	host string     // a name in any case, or ""
	addr netip.Addr // or an address
	port uint16
}

func (g goal) String() string {
	host := g.host
	if host == "" {
		host = g.addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(g.port)))
}

// goalOf reads the address of a call. No host and no address in particular are this machine.
func goalOf(c tunnel.Call) (goal, error) {
	switch c.Network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return goal{}, fmt.Errorf("%w: the network %.20q", node.ErrUnfit, c.Network)
	}
	host, text, err := net.SplitHostPort(c.Address)
	if err != nil {
		return goal{}, fmt.Errorf("%w: %w", node.ErrUnfit, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return goal{}, fmt.Errorf("%w: %.20q is no port", node.ErrUnfit, text)
	}
	g := goal{host: host, port: uint16(port)}
	if addr, err := netip.ParseAddr(host); err == nil {
		g.host, g.addr = "", addr.Unmap()
	}
	switch {
	case host == "":
		g.host = localhost
	case g.addr == netip.IPv4Unspecified():
		g.addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case g.addr == netip.IPv6Unspecified():
		g.addr = netip.IPv6Loopback()
	}
	return g, nil
}

const localhost = "localhost"

// names reports whether rules permit a goal as it is written.
func names(rules []forward.Rule, g goal) bool {
	return slices.ContainsFunc(rules, func(r forward.Rule) bool {
		return g.host != "" && r.Matches(g.host, netip.Addr{}, g.port) || g.addr.IsValid() && permits(r, g.addr, g.port)
	})
}

// permits reports whether a rule permits an address. Those of loopback are localhost's, too.
func permits(r forward.Rule, addr netip.Addr, port uint16) bool {
	host := ""
	if addr.IsLoopback() {
		host = localhost
	}
	return r.Matches(host, addr, port)
}

func permitsAny(rules []forward.Rule, addr netip.Addr, port uint16) bool {
	return slices.ContainsFunc(rules, func(r forward.Rule) bool { return permits(r, addr, port) })
}

// Dial connects to what a call names, if the rules permit it.
func (d *Dialler) Dial(ctx context.Context, c tunnel.Call) (net.Conn, error) {
	g, err := goalOf(c)
	if err != nil {
		return nil, err
	}
	rules := d.Rules(c)
	if names(rules, g) {
		return d.dial(ctx, c, g.String())
	}
	network := func(r forward.Rule) bool { return r.Prefix.IsValid() && (r.Ports.IsZero() || r.Ports.Contains(g.port)) }
	if g.host == "" || !slices.ContainsFunc(rules, network) {
		return nil, refusal(g)
	}
	lookup := d.Lookup
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	addrs, err := lookup(ctx, g.host)
	if err != nil {
		return nil, err
	}
	err = refusal(g)
	for _, addr := range addrs {
		if !permitsAny(rules, addr, g.port) {
			continue
		}
		var conn net.Conn
		if conn, err = d.dial(ctx, c, netip.AddrPortFrom(addr.Unmap(), g.port).String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (d *Dialler) dial(ctx context.Context, c tunnel.Call, addr string) (net.Conn, error) {
	return d.Connect(ctx, c.Client, c.Network, addr)
}

func refusal(g goal) error {
	return fmt.Errorf("%w: to reach %s is not permitted", node.ErrRefused, clean(g.String()))
}

// Still says whether the rules still permit a connection.
func (d *Dialler) Still(c tunnel.Call, to net.Addr) error {
	g, err := goalOf(c)
	if err != nil {
		return err
	}
	rules := d.Rules(c)
	if names(rules, g) {
		return nil
	}
	if to != nil {
		if at, err := netip.ParseAddrPort(to.String()); err == nil && permitsAny(rules, at.Addr(), g.port) {
			return nil
		}
	}
	return refusal(g)
}

// An Allow is what somebody at the hub may have dialled.
type Allow struct {
	Rule forward.Rule
	For  []string // names of agents, and "hub" for the hub itself; none: everybody
}

// forCaller are the rules for who calls, which is an agent's name or "" for the hub.
func forCaller(list []Allow, agent string) []forward.Rule {
	if agent == "" {
		agent = HubName
	}
	var rules []forward.Rule
	for _, a := range list {
		if len(a.For) == 0 || slices.Contains(a.For, agent) {
			rules = append(rules, a.Rule)
		}
	}
	return rules
}

// HubName is what the hub is called in Allow.For.
const HubName = "hub"

// Places is a Landlord that has a fixed list of places. A port of 0 in a request is picked by who listens, and has to be in the list.
type Places []forward.Listen

var _ Landlord = Places(nil)

// Permit says whether a place is in the list.
func (l Places) Permit(at forward.Door) error {
	if at.Named() {
		return fmt.Errorf("%w: clients are not told apart by name here", node.ErrUnfit)
	}
	port := firstPort(at)
	for _, p := range l {
		if p.Networks&at.Networks != 0 && (!p.Addr.IsValid() || p.Addr == at.Addr) && (port == 0 || p.Ports.Contains(port)) {
			return nil
		}
	}
	return fmt.Errorf("to listen at %s is not permitted", at)
}

// Places are what was asked for.
func (l Places) Places(asked forward.Door, prefer uint16, have int) ([]forward.Door, error) {
	if have >= maxPlaces {
		return nil, fmt.Errorf("it has %d listeners: %w", have, errMost)
	}
	if firstPort(asked) != 0 {
		return []forward.Door{asked}, nil
	}
	var tries []forward.Door
	if prefer != 0 {
		tries = append(tries, withPort(asked, prefer))
	}
	if !slices.ContainsFunc(l, func(p forward.Listen) bool { return !p.Ports.All && p.Networks&asked.Networks != 0 }) {
		return append(tries, asked), nil
	}
	for _, p := range l {
		for _, r := range p.Ports.Ranges {
			for port := int(r.First); port <= int(r.Last) && len(tries) < maxTries && p.Networks&asked.Networks != 0; port++ {
				tries = append(tries, withPort(asked, uint16(port)))
			}
		}
	}
	return tries, nil
}

const (
	maxPlaces = 100
	maxTries  = 32
)

func withPort(l forward.Door, port uint16) forward.Door {
	l.Ports = forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}
	return l
}

// Let has nothing to do.
func (l Places) Let(forward.Door, bool) (func(bool), error) { return func(bool) {}, nil }

// Free has nothing to do.
func (l Places) Free(forward.Door) {}
