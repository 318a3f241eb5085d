package grant

import (
	"math/bits"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/table"
)

// maxProbes is how many ports that nobody has are tried, one after the other, because programs of this host may have them.
const maxProbes = 64

// allowed is the external ports that a client may have; with all, every one.
type allowed struct {
	all  bool
	bits *table.PortBits
}

func (a allowed) has(port uint16) bool { return a.all || a.bits.Has(port) }

// none reports whether it is no port at all.
func (a allowed) none() bool {
	if a.all {
		return false
	}
	for _, w := range a.bits {
		if w != 0 {
			return false
		}
	}
	return true
}

// A policy is what a spec says, with what is looked at for each request.
type policy struct {
	*portmap.Spec
	given allowed // the ports that it gives at all
}

// newPolicy is the policy of s, or nil.
func newPolicy(s *portmap.Spec) *policy {
	if s == nil {
		return nil
	}
	p := &policy{s, allowed{all: true}}
	if len(s.Ports.Ranges) > 0 {
		p.given = allowed{bits: new(table.PortBits)}
		p.given.bits.Add(s.Ports)
	}
	return p
}

// allowedOf is the external ports of a transport that s lets c have: those that s gives at all, of these the ones that a rule of
// Allow names, or all without rules, and of these the ones that no rule of Deny does. The ports of a pinhole are the client's own,
// and s does not give them. What it returns must not be changed.
func allowedOf(s *policy, c portmap.Client, network forward.Networks, pinhole bool) allowed {
	a := s.given
	if pinhole {
		a = allowed{all: true}
	}
	if len(s.Allow) > 0 {
		a = a.only(s.Allow, c, network)
	}
	for _, r := range s.Deny {
		switch {
		case !r.Fits(c, network):
		case everyPort(r.Ports):
			return allowed{bits: new(table.PortBits)}
		default:
			a = a.copied()
			a.bits.Remove(r.Ports)
		}
	}
	return a
}

// only is what of a the rules that fit name.
func (a allowed) only(rules []portmap.Rule, c portmap.Client, network forward.Networks) allowed {
	named := new(table.PortBits)
	for _, r := range rules {
		switch {
		case !r.Fits(c, network):
		case everyPort(r.Ports):
			return a
		default:
			named.Add(r.Ports)
		}
	}
	if !a.all {
		for i := range named {
			named[i] &= a.bits[i]
		}
	}
	return allowed{bits: named}
}

func (a allowed) copied() allowed {
	out := allowed{bits: new(table.PortBits)}
	if a.all {
		for i := range out.bits {
			out.bits[i] = ^uint64(0)
		}
		out.bits[0] &^= 1 // there is no port 0
		return out
	}
	*out.bits = *a.bits
	return out
}

func everyPort(p forward.Ports) bool { return p.All || len(p.Ranges) == 0 }

// and is what both allow.
func (a allowed) and(b allowed) allowed {
	switch {
	case a.all:
		return b
	case b.all:
		return a
	}
	out := a.copied()
	for i := range out.bits {
		out.bits[i] &= b.bits[i]
	}
	return out
}

// nearest is the free port next to want, want itself first, then those above it, then those below; ok is asked about each.
func nearest(want uint16, may allowed, used, taken *table.PortBits, ok func(port uint16) bool) (uint16, bool) {
	free := func(word int) uint64 {
		w := ^used[word]
		if !may.all {
			w &= may.bits[word]
		}
		if taken != nil {
			w &^= taken[word]
		}
		if word == 0 {
			w &^= 1 // there is no port 0
		}
		return w
	}
	probes := 0
	try := func(port int) bool {
		probes++
		return ok(uint16(port))
	}
	at := int(want)
	for word := at / 64; word < len(used) && probes < maxProbes; word++ {
		w := free(word)
		if word == at/64 {
			w &= ^uint64(0) << (at % 64)
		}
		for ; w != 0 && probes < maxProbes; w &= w - 1 {
			if port := word*64 + bits.TrailingZeros64(w); try(port) {
				return uint16(port), true
			}
		}
	}
	probes = 0
	for word := at / 64; word >= 0 && probes < maxProbes; word-- {
		w := free(word)
		if word == at/64 {
			w &= 1<<(at%64) - 1
		}
		for w != 0 && probes < maxProbes {
			top := 63 - bits.LeadingZeros64(w)
			if try(word*64 + top) {
				return uint16(word*64 + top), true
			}
			w &^= 1 << top
		}
	}
	return 0, false
}
