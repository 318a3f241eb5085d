package kernel

import (
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// Priorities of the gateway's chains. Its translations stand behind those of forwards, which go first; see gatewayPlan.
const (
	priorityBetween     = 85  // before prioritySNAT, which would show this host's own address
	priorityGatewaySNAT = 95  // behind prioritySNAT, before other tables' (srcnat, 100)
	priorityGatewayDNAT = -90 // behind everybody's (dstnat, -100): what nothing else claims
	priorityLearn       = 110 // sees what has been translated
	priorityFilter      = 0   // as nft(8) calls it; counters (10) see what is let through
)

// What is learned for endpoint-independent mapping is forgotten so long after the last packet that went out (RFC 4787,
// REQ-5: 2 minutes or more, 5 recommended; RFC 5382, REQ-5: 4 minutes for a TCP session that is opening or closing).
const learnedTimeout = 5 * time.Minute

// allPorts is the most that a set of external ports has.
const allPorts = 65535

// firstOrdinaryPort is the first port that anybody may use. What comes from those below is left to the kernel's own mapping
// (RFC 4787, REQ-3: such ports are not mapped to others by choice); they are those of this host's own services.
const firstOrdinaryPort = 1024

// flips are the bits that are turned over to find another external port for an internal one that is taken. All of them
// leave the port among the ordinary ones, and its parity as it was (RFC 4787, REQ-4).
var flips = [...]uint16{0x002, 0x004, 0x008, 0x010, 0x020, 0x040, 0x080, 0x100, 0x006, 0x00a}

// chains is every chain of the gateway's table, given the sets there are. A packet passes these, besides those of forwards:
//
//	arriving ─► stray                     what is for an inner address and comes from outside
//	prerouting ─► claim                   who owns the port that nobody else claims (independent)
//	forward ─► from_wan ─► closed         what comes in has to be an answer, a forward's, or a pinhole's
//	        ├► from_dmz
//	        └► to_wan
//	input ─► host                         the same for this host itself
//	postrouting ─► leave ─► translate ─► independent…     whose address and port the outside sees
//	            └► hairpin                              and the LAN, of a host that is called by its external port
//	between ─► lessees                    (postrouting) the same where that port is a lease's
//	learn ─► …                            what was translated to what (independent)
//	mss                                   (forward) sessions that are opened over the WAN
//	helpers_from ─► helpers               which of conntrack's helpers reads what the inside starts
func (p *gatewayPlan) chains(sets []setID) []chain {
	var out []chain
	_, helpers := gatewayHelpers(p.spec.Helpers, p.inside())
	for _, group := range [][]chain{p.natChains(sets), p.independentChains(sets), p.strayChains(), p.filterChains(sets), p.mssChains(), helpers} {
		out = append(out, group...)
	}
	return slices.DeleteFunc(out, func(c chain) bool { return len(c.rules) == 0 })
}

// inside is the interfaces that this host is the gateway of.
func (p *gatewayPlan) inside() []string { return slices.Concat(p.spec.LAN, p.spec.DMZ) }

// helpers is the objects that the rules attach.
func (p *gatewayPlan) helpers() []helperObject {
	objects, _ := gatewayHelpers(p.spec.Helpers, p.inside())
	return objects
}

// each is a rule for each interface: what goes by it goes on to then.
func each(key uint32, interfaces []string, then ...statement) []rule {
	var out []rule
	for _, name := range interfaces {
		out = append(out, append(rule{ifInterface(key, name)}, then...))
	}
	return out
}

// transports calls yield for TCP and UDP of each family that is made endpoint-independent: those that are translated, or those
// that are not. IPv6 that is translated (snat) is left as the kernel maps it: nft(8) 1.0.6 has no registers for the text.
func (p *gatewayPlan) transports(translated bool, yield func(id setID)) {
	for _, v6 := range []bool{false, true} {
		if p.translates(v6) != translated || v6 && translated {
			continue
		}
		for network := range (forward.TCP | forward.UDP).Each {
			yield(gatewaySet(0, v6, network))
		}
	}
}

func (p *gatewayPlan) natChains(sets []setID) []chain {
	var translate []rule
	for _, v6 := range []bool{false, true} {
		if !p.translates(v6) {
			continue
		}
		for network := range (forward.TCP | forward.UDP).Each {
			translate = append(translate, p.translatePorts(sets, v6, network)...)
		}
		translate = append(translate, rule{ifFamily(v6), p.nat(v6).plain(false)})
	}
	if translate == nil {
		return nil
	}
	leaving := each(metaOIFName, p.spec.WAN, toChain(verdictGoto, "leave"))
	hairpin, lessees := p.hairpinChain(sets), p.lesseesChain(sets)
	if len(hairpin.rules) > 0 {
		leaving = append(leaving, each(metaIIFName, p.spec.LAN, toChain(verdictGoto, "hairpin"))...)
	}
	var between chain
	if len(lessees.rules) > 0 {
		between = baseChain("between", "nat", hookPostrouting, priorityBetween, each(metaIIFName, p.spec.LAN, toChain(verdictGoto, "lessees"))...)
	}
	return []chain{
		lessees,
		between,
		{name: "translate", rules: translate},
		{name: "leave", rules: each(metaIIFName, p.inside(), toChain(verdictGoto, "translate"))},
		hairpin,
		baseChain("postrouting", "nat", hookPostrouting, priorityGatewaySNAT, leaving...),
	}
}

// translatePorts is the rules for sessions whose external port matters.
func (p *gatewayPlan) translatePorts(sets []setID, v6 bool, network forward.Networks) []rule {
	var out []rule
	match := rule{ifFamily(v6), ifProtocol(network)}
	add := func(more ...statement) { out = append(out, slices.Concat(match, more)) }
	if id := gatewaySet(roleOutbound, v6, network); slices.Contains(sets, id) {
		add(p.nat(v6).toPort(inMap(id)))
	}
	if p.spec.Independent && !v6 {
		add(toChain(verdictGoto, chainOf("independent", gatewaySet(0, v6, network))))
	} else if id := gatewaySet(roleClaimed, v6, network); slices.Contains(sets, id) {
		add(ifIn(claimed(sport(network, 0)), id), p.nat(v6).plain(true))
	}
	return out
}

// chainOf is the name of a chain for one family and protocol.
func chainOf(name string, t setID) string {
	return name + string(t.version()) + "_" + t.network.String()
}

func (p *gatewayPlan) mssChains() []chain {
	if !p.spec.ClampMSS {
		return nil
	}
	rules := append(each(metaIIFName, p.spec.WAN, clampMSS()), each(metaOIFName, p.spec.WAN, clampMSS())...)
	return []chain{baseChain("mss", "filter", hookForward, priorityMangle, rules...)}
}
