package table

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

// A forward that the kernel carries to another host is out of reach through 127.0.0.1 and ::1 of this host, because the kernel
// does not route packets with loopback addresses, and for clients of the other family than its target's, because it does
// not translate between the two. Companions make up for that: they listen there in the relay, for a forward that listens
// at every address. They are a courtesy, and give way to everything that somebody asked for: one that cannot
// listen is of no interest to anybody, and one on whose ports another forward needs to listen is taken away. Their names
// have a '/', which no other forward's has.
const (
	suffixLo4 = "/lo4"
	suffixLo6 = "/lo6"

	maxCompanions     = 128 // of all forwards together; who came first keeps its own
	maxCompanionPorts = 16  // a forward with more ports has none: each would be a listener
)

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// companions are those in the relay now, by the forwards that they accompany, in the order in which these came. They are looked at
// anew when something is another that they depend on, which leases are not.
type companions struct {
	list []accompanied

	alone, relay forward.List // what they were made for
	facts        kernel.Facts
	want         []*forward.Forward // all of them, sorted by name
	relayWith    forward.List       // relay and they
	otherFamily  map[string]bool    // the names of the forwards with one for clients of the other family
}

type accompanied struct {
	main *forward.Forward
	with []*forward.Forward
}

// update makes the companions fit what the carriers are to have: of the kernel's, those that may have some. It returns the legs that
// have ended.
func (c *companions) update(alone, relay forward.List, facts kernel.Facts) (ended []meterKey) {
	if alone.Same(c.alone) && relay.Same(c.relay) && facts.Equal(c.facts) {
		return nil
	}
	c.alone, c.relay, c.facts = alone, relay, facts
	before := c.list
	c.fit()
	c.want, c.otherFamily = nil, map[string]bool{}
	for _, a := range c.list {
		c.want = append(c.want, a.with...)
		for _, f := range a.with {
			if f.Listen.Addr.IsUnspecified() {
				c.otherFamily[a.main.Name] = true
			}
		}
	}
	slices.SortFunc(c.want, func(f, g *forward.Forward) int { return strings.Compare(f.Name, g.Name) })
	c.relayWith = add(relay, c.want)
	for _, a := range before {
		for _, f := range a.with {
			if _, still := slices.BinarySearchFunc(c.want, f.Name, compareName); !still {
				ended = append(ended, relayKey(f.Name))
			}
		}
	}
	return ended
}

// fit makes the list anew. Who was there stays, as far as that can be, and comes first.
func (c *companions) fit() {
	before := c.list
	c.list = nil
	var taken portSet
	n := 0
	place := func(main *forward.Forward, with []*forward.Forward) {
		if len(with) > 0 && n+len(with) <= maxCompanions && taken.add(main.Listen, true) {
			c.list = append(c.list, accompanied{main, with})
			n += len(with)
		}
	}
	if c.alone.Len() > 0 {
		for f := range c.relay.All() {
			if listensOnLoopback(f) {
				taken.add(f.Listen, false)
			}
		}
	}
	had := make(map[string]bool, len(before))
	for _, a := range before {
		had[a.main.Name] = true
		switch main := c.alone.Get(a.main.Name); main {
		case nil:
		case a.main:
			place(a.main, a.with)
		default:
			place(main, companionsOf(main, c.facts))
		}
	}
	for f := range c.alone.All() {
		if n >= maxCompanions {
			break
		}
		if !had[f.Name] {
			place(f, companionsOf(f, c.facts))
		}
	}
}

func compareName(f *forward.Forward, name string) int { return strings.Compare(f.Name, name) }

// mayHaveCompanions says, of f alone, whether it could have some. What listens at one address has none.
func mayHaveCompanions(f *forward.Forward) bool {
	return f.Carry == forward.CarryKernel && !f.Listen.Addr.IsValid() && f.Interface == "" && f.Source != forward.SourceKeep &&
		!f.Listen.Ports.All && f.Listen.Ports.Count() <= maxCompanionPorts && (f.Helper == forward.HelperNone || f.Helper.InRelay())
}

// companionsOf are those that f would have, or none.
func companionsOf(f *forward.Forward, facts kernel.Facts) []*forward.Forward {
	switch {
	case !mayHaveCompanions(f),
		!slices.ContainsFunc(f.To, func(t forward.Target) bool { return !t.IsLocal() && !facts.IsLocal(t.Addr) }): // the kernel redirects those itself
		return nil
	}
	var list []*forward.Forward
	for _, lo := range []struct {
		suffix   string
		loopback netip.Addr
		every    netip.Addr // of the family
	}{{suffixLo4, loopback4, netip.IPv4Unspecified()}, {suffixLo6, loopback6, netip.IPv6Unspecified()}} {
		addr, from, except := lo.loopback, []netip.Prefix(nil), []netip.Prefix(nil)
		if lo.every.Is4() != f.To[0].Addr.Is4() { // NeedsRelay has left targets of one family
			from, except = ofFamily(f.From, lo.every), ofFamily(f.Except, lo.every)
			if addr = lo.every; len(f.From) > 0 && len(from) == 0 {
				continue
			}
		} else if !f.Admits(addr) {
			continue
		}
		list = append(list, &forward.Forward{
			Name: f.Name + lo.suffix, Origin: f.Origin, To: f.To, Balance: f.Balance, Carry: forward.CarryRelay, From: from, Except: except, Helper: f.Helper,
			Listen: forward.Listen{Networks: f.Listen.Networks, Addr: addr, Ports: f.Listen.Ports},
		})
	}
	return list
}

func ofFamily(list []netip.Prefix, like netip.Addr) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return p.Addr().Is4() != like.Is4() })
}

// listensOnLoopback reports whether the relay's listener for f can be in the way of one on loopback, or the other way round.
func listensOnLoopback(f *forward.Forward) bool {
	addr := f.Listen.Addr
	return f.ListensAt() == forward.Host && !f.Listen.IsUnix() && (!addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback())
}

// A portSet is a set of ports of each protocol.
type portSet struct{ bits [2]*PortBits }

// add enters the ports of l. With onlyIfFree it enters all of them or, when one is there already, none, and says so.
func (s *portSet) add(l forward.Listen, onlyIfFree bool) bool {
	for network := range l.Networks.Each {
		bits := &s.bits[network>>1]
		if *bits == nil {
			*bits = new(PortBits)
		}
		for port := range l.Ports.Each {
			if onlyIfFree && (*bits).Has(port) {
				return false
			}
		}
	}
	for network := range l.Networks.Each {
		for port := range l.Ports.Each {
			s.bits[network>>1].Set(port)
		}
	}
	return true
}
