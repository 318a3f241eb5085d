package kernel

import (
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// Ports that a gateway's own protocols use.
var (
	portDNS          = forward.Range{First: 53, Last: 53}
	portDHCPServer   = forward.Range{First: 67, Last: 67}   // RFC 2131, section 4.1
	portDHCPClient   = forward.Range{First: 68, Last: 68}   // the same
	portDHCPv6Client = forward.Range{First: 546, Last: 546} // RFC 8415, section 7.2
	portDHCPv6Server = forward.Range{First: 547, Last: 547} // the same
)

// Types of ICMP (RFC 792) and ICMPv6 (IANA).
const (
	icmpEcho   = 8
	icmp6Echo  = 128 // RFC 4890, section 4.3.1: not to be dropped
	icmp6MLD   = 130 // to 132 (RFC 2710), and 133 to 136 are router and neighbour discovery (RFC 4861)
	icmp6ND    = 136
	icmp6IND   = 141 // and 142: inverse neighbour discovery (RFC 3122)
	icmp6MLDv2 = 143 // RFC 3810
)

// filterChains decides what may pass and what may reach this host. Sessions once let in go on whatever changes; so do the
// errors about them, and what conntrack's helpers expect.
//
// A host of the DMZ reaches the outside, and what anybody outside reaches by a forward; of this host only DNS, DHCP and ping
// besides. Neither the LAN nor any other network of this host (a VPN, containers) is open to it.
func (p *gatewayPlan) filterChains(sets []setID) []chain {
	known := rule{ifState(stateEstablished | stateRelated), accept()}
	var toWAN, passing, entering []rule
	if p.translates(false) || p.translates(true) || p.spec.Protect { // an invalid packet is not translated, and would show an inner address
		toWAN = append(toWAN, rule{ifState(stateInvalid), drop()})
	}
	if p.spec.Protect { // or a session that was ended would begin again with the next packet from inside
		toWAN = append(toWAN, rule{ifState(stateNew), ifMidstream(), rejectReset()})
	}
	out := []chain{{name: "to_wan", rules: toWAN}}
	if p.filters() {
		out = append(out, chain{name: "closed", rules: p.closedRules(sets)}, chain{name: "host", rules: p.hostRules(sets)})
	}
	switch {
	case p.spec.Protect:
		// With br_netfilter, hosts of one bridge that talk to each other pass here.
		out = append(out, chain{name: "from_wan", rules: append(within(p.spec.WAN, ifBridge()), rule{toChain(verdictGoto, "closed")})})
		entering = each(metaIIFName, p.spec.WAN, toChain(verdictGoto, "host_wan"))
	case p.filters():
		out = append(out, chain{name: "from_wan", rules: each(metaOIFName, p.spec.DMZ, toChain(verdictGoto, "closed"))})
	}
	if p.filters() {
		passing = each(metaIIFName, p.spec.WAN, toChain(verdictGoto, "from_wan"))
		passing = append(passing, each(metaIIFName, p.spec.DMZ, toChain(verdictGoto, "from_dmz"))...)
		entering = append(entering, each(metaIIFName, p.spec.DMZ, toChain(verdictGoto, "host_dmz"))...)
	}
	if p.spec.Protect {
		rules := []rule{
			{ifFamily(false), ifProtocol(forward.UDP), ifDport(forward.UDP, portDHCPClient), accept()},
			{ifFamily(true), ifProtocol(forward.UDP), ifDport(forward.UDP, portDHCPv6Client), accept()},
		}
		out = append(out, chain{name: "host_wan", rules: append(rules, rule{toChain(verdictGoto, "host")})})
	}
	if len(p.spec.DMZ) > 0 {
		out = append(out, p.dmzChains(sets, len(toWAN) > 0)...)
	}
	if len(toWAN) > 0 {
		passing = append(passing, each(metaOIFName, p.spec.WAN, toChain(verdictGoto, "to_wan"))...)
	}
	if len(passing) > 0 {
		passing = append([]rule{known}, passing...)
	}
	if len(entering) > 0 {
		entering = append([]rule{known}, entering...)
	}
	return append(out, baseChain("forward", "filter", hookForward, priorityFilter, passing...),
		baseChain("input", "filter", hookInput, priorityFilter, entering...))
}

// inner is the networks whose addresses mean the inside where the outside sees another (RFC 1918).
var inner = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}

// strayChains drops what comes in by the WAN for an inner address of this host on another interface, before any forward sees it: a
// neighbour outside may have a route by this host to it, and what listens there, forwards among them, is meant for the inside.
func (p *gatewayPlan) strayChains() []chain {
	if !p.spec.Protect || !p.translates(false) {
		return nil
	}
	var rules []rule
	for _, n := range inner {
		rules = append(rules, rule{ifFamily(false), ifDaddrIn(n), ifToThisHost(), ifAddrOfInput(false), drop()})
	}
	return []chain{{name: "stray", rules: rules},
		baseChain("arriving", "filter", hookPrerouting, priorityMangle, each(metaIIFName, p.spec.WAN, toChain(verdictGoto, "stray"))...)}
}

func (p *gatewayPlan) dmzChains(sets []setID, checksWAN bool) []chain {
	leave := accept()
	if checksWAN {
		leave = toChain(verdictGoto, "to_wan")
	}
	fromDMZ := append(within(p.spec.DMZ), each(metaOIFName, p.spec.WAN, leave)...)
	services := []rule{
		{ifProtocol(forward.TCP), ifDport(forward.TCP, portDNS), accept()},
		{ifProtocol(forward.UDP), ifDport(forward.UDP, portDNS), accept()},
		{ifFamily(false), ifProtocol(forward.UDP), ifDport(forward.UDP, portDHCPServer), accept()},
		{ifFamily(true), ifProtocol(forward.UDP), ifDport(forward.UDP, portDHCPv6Server), accept()},
	}
	fromDMZ = append(fromDMZ, rule{ifState(stateInvalid), drop()}, rule{ifDNAT(), accept()})
	fromDMZ = append(fromDMZ, p.pinholeRules(sets)...)
	return []chain{
		{name: "from_dmz", rules: append(fromDMZ, rule{drop()})},
		{name: "host_dmz", rules: append(services, rule{toChain(verdictGoto, "host")})},
	}
}

// within lets through what leaves by the interface by which it came in, and fits more.
func within(interfaces []string, more ...statement) []rule {
	var out []rule
	for _, name := range interfaces {
		out = append(out, slices.Concat(rule{ifInterface(metaIIFName, name), ifInterface(metaOIFName, name)}, more, rule{accept()}))
	}
	return out
}

// closedRules lets into a network what a forward has let in, and drops the rest.
func (p *gatewayPlan) closedRules(sets []setID) []rule {
	out := append([]rule{{ifState(stateInvalid), drop()}, {ifDNAT(), accept()}}, p.pinholeRules(sets)...)
	for _, id := range sets {
		if id.role == roleSpoken {
			out = append(out, rule{ifFamily(id.V6), ifProtocol(id.network), ifIn(destination(id), id), accept()})
		}
	}
	// Hosts behind a translation are not to be found from outside. Those with addresses of their own are (RFC 4890, section 4.3.1).
	for _, v6 := range []bool{false, true} {
		if !p.translates(v6) {
			out = append(out, rule{ifEcho(v6), accept()})
		}
	}
	return append(out, rule{drop()})
}

func ifEcho(v6 bool) statement {
	if v6 {
		return ifICMP(true, icmp6Echo, icmp6Echo)
	}
	return ifICMP(false, icmpEcho, icmpEcho)
}

func (p *gatewayPlan) pinholeRules(sets []setID) []rule {
	var out []rule
	for _, id := range sets {
		if id.role == rolePinhole {
			out = append(out, hole(id))
		}
	}
	return out
}

// hostRules lets in to this host what it needs to be a host, what forwards listen for, and what is open. Discovery has no
// state to conntrack, so it comes before what is invalid.
func (p *gatewayPlan) hostRules(sets []setID) []rule {
	out := []rule{
		{ifICMP(true, icmp6MLD, icmp6ND), accept()}, {ifICMP(true, icmp6IND, icmp6MLDv2), accept()}, {ifL4("igmp", protoIGMP), accept()},
		{ifState(stateInvalid), drop()},
		{ifEcho(false), accept()}, {ifEcho(true), accept()},
		{ifDNAT(), accept()},
	}
	for _, id := range sets {
		if id.role == roleHold || id.role == roleAwaited {
			out = append(out, hole(id))
		}
	}
	for _, l := range p.open {
		out = append(out, openRules(l)...)
	}
	return append(out, rule{drop()})
}

// hole lets in what set id has. A session begins with its first packet: what goes on in the middle was ended here.
func hole(id setID) rule {
	transport := ifProtocol(id.network)
	if id.role == rolePinhole && id.network == forward.TCP {
		transport = ifOpening()
	}
	return rule{ifFamily(id.V6), transport, ifMember(id, metaIIFName), accept()}
}

func openRules(l forward.Listen) []rule {
	var out []rule
	for network := range l.Networks.Each {
		match := rule{ifProtocol(network)}
		switch {
		case !l.Addr.IsValid():
		case l.Addr.IsUnspecified():
			match = append(rule{ifFamily(l.Addr.Is6())}, match...)
		default:
			match = append(rule{ifFamily(l.Addr.Is6()), ifDaddr(l.Addr)}, match...)
		}
		if l.Ports.All {
			out = append(out, append(match, accept()))
		}
		for _, r := range l.Ports.Ranges {
			out = append(out, append(match[:len(match):len(match)], ifDport(network, r), accept()))
		}
	}
	return out
}
