package publish

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// The bounds of what is wished for. Each port of each transport is a mapping of its own at the gateway.
const (
	MaxPorts        = 64
	MaxWishes       = 1024
	DefaultLifetime = time.Hour
	MinLifetime     = 2 * time.Minute // RFC 6887, section 15
	MaxLifetime     = 7 * 24 * time.Hour
)

// A Wish is ports of this host that are to be reached from outside.
type Wish struct {
	Name     string           // unique among the wishes
	Networks forward.Networks // TCP, UDP or both
	Ports    []forward.Range  // that this host listens on
	Addr     netip.Addr       // that it listens on; not valid: all of them, 0.0.0.0 and ::: all of that family
	External uint16           // the first external port; 0: the same as the internal ones
	Random   bool             // any external port will do
	Lifetime time.Duration    // of a lease, which is renewed until the wish is gone; 0: DefaultLifetime
	Describe string           // is shown by the gateway; "": the name of this program and the port
}

// Equal reports whether w and v wish for the same.
func (w Wish) Equal(v Wish) bool {
	return w.Name == v.Name && w.Networks == v.Networks && slices.Equal(w.Ports, v.Ports) && w.Addr == v.Addr && w.External == v.External &&
		w.Random == v.Random && w.Lifetime == v.Lifetime && w.Describe == v.Describe
}

// Validate says what no gateway could grant.
func (w Wish) Validate() error {
	n := 0
	for _, r := range w.Ports {
		n += r.Count()
		if w.External != 0 && !w.Random && int(w.External)+int(r.Last)-int(w.Ports[0].First) > 65535 {
			return fmt.Errorf("the external ports from %d on would go beyond 65535", w.External)
		}
	}
	switch {
	case w.Name == "":
		return errors.New("what is to be published needs a name")
	case w.Networks&(forward.TCP|forward.UDP) == 0:
		return errors.New("neither tcp nor udp is to be published")
	case n == 0:
		return errors.New("no port is to be published")
	case n > MaxPorts:
		return fmt.Errorf("%d ports are too many to publish: gateways map each by itself, and %d is the most", n, MaxPorts)
	case w.Lifetime != 0 && (w.Lifetime < MinLifetime || w.Lifetime > MaxLifetime):
		return fmt.Errorf("a lifetime of %v: it is between %v and %v", w.Lifetime, MinLifetime, MaxLifetime)
	}
	return nil
}

// An item is one port of a wish: a mapping at each gateway, for each transport.
type item struct {
	networks forward.Networks
	internal uint16
	external uint16 // that is wished for; 0: any
}

func (w Wish) items() []item {
	var list []item
	for _, r := range w.Ports {
		for port := int(r.First); port <= int(r.Last); port++ {
			it := item{networks: w.Networks, internal: uint16(port), external: uint16(port)}
			switch {
			case w.Random:
				it.external = 0
			case w.External != 0:
				it.external = w.External + it.internal - w.Ports[0].First
			}
			list = append(list, it)
		}
	}
	return list
}

func (w Wish) lifetime() time.Duration {
	if w.Lifetime == 0 {
		return DefaultLifetime
	}
	return w.Lifetime
}

// takes reports whether the wish is for a family of addresses, and so for mappings from such addresses.
func (w Wish) takes(local netip.Addr) bool {
	switch {
	case !w.Addr.IsValid():
		return true
	case w.Addr.IsUnspecified():
		return w.Addr.Is4() == local.Is4()
	}
	return w.Addr == local
}

// A Phase is how far a wish has come.
type Phase uint8

// The phases.
//
//	searching ──► open ◄──► limited ◄──► failed, and from each to each other as gateways come and go
const (
	Searching Phase = iota // nothing is known yet
	Open                   // each port has an endpoint that the internet reaches, as far as gateways can tell
	Limited                // there are mappings, but the outermost has an address that the internet does not reach, or some ports have none
	Failed                 // there is no mapping; it is tried again
)

func (p Phase) String() string { return [...]string{"searching", "open", "limited", "failed"}[p] }

// An Endpoint is where one port is reached from outside.
type Endpoint struct {
	Network  forward.Networks // TCP or UDP
	Public   netip.AddrPort
	Internal netip.AddrPort
	Protocol portmap.Protocol // "": nobody had to be asked, the host has a public address
	Gateways []netip.Addr     // that were asked, from the nearest to the one that has the address
	Expires  time.Time        // when the first of their leases ends unless it is renewed; zero: never
	Verified bool             // the gateways were asked afterwards, and said that the mapping is there
}

// Global reports whether the internet reaches the endpoint, as far as its address tells.
func (e Endpoint) Global() bool { return ReachOf(e.Public.Addr()) == Public }

// A State is what has become of a wish.
type State struct {
	Name      string
	Phase     Phase
	Endpoints []Endpoint // IPv4 first, by internal port; those that the internet reaches before those that it does not
	Problem   *Problem   // the worst there is, nil for none. An open wish may have one, too: a port that was taken instead of another
	Since     time.Time  // when the phase began
}

// Protocol is that of the first endpoint, which is the one to show where there is room for one.
func (s State) Protocol() portmap.Protocol {
	if len(s.Endpoints) == 0 {
		return ""
	}
	return s.Endpoints[0].Protocol
}

// Expires is when the first lease ends, zero for never.
func (s State) Expires() time.Time {
	var first time.Time
	for _, e := range s.Endpoints {
		if first.IsZero() || !e.Expires.IsZero() && e.Expires.Before(first) {
			first = e.Expires
		}
	}
	return first
}

// Verified reports whether all endpoints are.
func (s State) Verified() bool {
	return len(s.Endpoints) > 0 && !slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return !e.Verified })
}
