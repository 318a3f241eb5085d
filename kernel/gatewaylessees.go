package kernel

import (
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// lesseesChain has a host of the LAN that calls another by the port of its lease seen as what it is outside (RFC 4787, REQ-9): from
// the address that was called, and from the external port that it has itself, by a lease or learned. Two consoles in one house
// know each other by that from a server. Who has none is left to the forwards' own rules.
//
// IPv6 that is translated is left as it is: see transports.
func (p *gatewayPlan) lesseesChain(sets []setID) chain {
	out := chain{name: "lessees"}
	if !p.translates(false) {
		return out
	}
	outside := statement{"ct original ip daddr", ct(ctDstIP, directionOriginal, reg32)}
	for network := range (forward.TCP | forward.UDP).Each {
		leased := gatewaySet(roleOutbound, false, network)
		if !slices.Contains(sets, leased) {
			continue
		}
		match := rule{ifFamily(false), ifProtocol(network), ifDNAT(), ifIn(destination(leased), leased)}
		from := func(id setID) {
			out.rules = append(out.rules, append(match[:len(match):len(match)], sourceNAT{}.at(outside, inMap(id))))
		}
		from(leased)
		if p.spec.Independent {
			from(gatewaySet(roleMapped, false, network))
		}
	}
	return out
}
