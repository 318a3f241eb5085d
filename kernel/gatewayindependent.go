package kernel

import (
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// Endpoint-independent mapping and filtering (RFC 4787, REQ-1 and REQ-8; RFC 5382, REQ-1 and REQ-3).
//
// The kernel maps sessions and not hosts: whoever sends to two servers from one port may leave from two, and an answer of a
// third is nobody's. Here two maps are learned from what leaves, for each protocol:
//
//	mapped:  internal address and port → external port      every later session from there leaves from it
//	owner:   external port → internal address and port      what comes to it, and nobody else claims, is led there
//
// An external port has one owner, also where the first packets of two hosts pass at the same moment. It is the internal port where that is free; else a few others are looked at, and when all
// of those are taken, too, the session is mapped as the kernel does it and nothing is learned. A mapping lasts as long as
// packets leave by it, whoever began their session. Where nothing is translated only the filtering is left to do: "spoken"
// has who has sent something out.

func (p *gatewayPlan) independentChains(sets []setID) []chain {
	if !p.spec.Independent {
		return nil
	}
	var out []chain
	var claim, learned []rule
	p.transports(true, func(t setID) {
		match := rule{ifFamily(t.V6), ifProtocol(t.network)}
		claim = append(claim, slices.Concat(match, p.ifUnclaimed(sets, t, dport(t.network)), rule{p.ifToOutside(t.V6), leadToOwner(gatewaySet(roleOwner, t.V6, t.network))}))
		learned = append(learned, append(match, toChain(verdictGoto, chainOf("learn", t))))
		out = append(out, p.independentChain(sets, t), p.learnChain(sets, t))
	})
	p.transports(false, func(t setID) {
		if !p.filters() {
			return
		}
		id := gatewaySet(roleSpoken, t.V6, t.network)
		spoke := learn("update", id, inSet(id), nil)
		learned = append(learned, rule{ifFamily(t.V6), ifProtocol(t.network), ifDirection(directionOriginal), spoke},
			rule{ifFamily(t.V6), ifProtocol(t.network), ifDirection(directionReply), ifIn(inSet(id), id), spoke})
	})
	out = append(out, chain{name: "learned", rules: learned}, chain{name: "inside", rules: each(metaIIFName, p.inside(), toChain(verdictGoto, "learned"))},
		baseChain("learn", "filter", hookPostrouting, priorityLearn, each(metaOIFName, p.spec.WAN, toChain(verdictGoto, "inside"))...))
	if claim == nil {
		return out
	}
	// From the LAN only what is for the outside's address: its own of this host is for this host.
	claim = append([]rule{{ifMidstream(), accept()}, {ifSocket(), accept()}}, claim...)
	back := append([]rule{{ifAddrOfInput(true), accept()}}, rule{toChain(verdictGoto, "claim")})
	enter := append(each(metaIIFName, p.spec.WAN, toChain(verdictGoto, "claim")), each(metaIIFName, p.spec.LAN, toChain(verdictGoto, "claim_back"))...)
	return append(out, chain{name: "claim", rules: claim}, chain{name: "claim_back", rules: back},
		baseChain("prerouting", "nat", hookPrerouting, priorityGatewayDNAT, enter...))
}

// hairpinChain has a host of the LAN that calls another by its external port seen as what it is outside, too (RFC 4787,
// REQ-9): from the address that was called, and from its own external port where it has one.
func (p *gatewayPlan) hairpinChain(sets []setID) chain {
	out := chain{name: "hairpin"}
	if !p.spec.Independent {
		return out
	}
	p.transports(true, func(t setID) {
		owner, mapped := gatewaySet(roleOwner, t.V6, t.network), gatewaySet(roleMapped, t.V6, t.network)
		called := func(reg uint32) statement {
			return statement{"ct original proto-dst", ct(ctProtoDst, directionOriginal, reg)}
		}
		match := rule{ifFamily(t.V6), ifProtocol(t.network), ifDNAT(), ifIn(called, owner)}
		nat, outside := sourceNAT{v6: t.V6}, statement{"ct original ip daddr", ct(ctDstIP, directionOriginal, reg32)}
		if id := gatewaySet(roleOutbound, t.V6, t.network); slices.Contains(sets, id) {
			out.rules = append(out.rules, append(match[:len(match):len(match)], nat.at(outside, inMap(id))))
		}
		out.rules = append(out.rules, append(match[:len(match):len(match)], nat.at(outside, inMap(mapped))),
			append(match[:len(match):len(match)], nat.from(outside)))
	})
	return out
}

// independentChain picks the external port of a session of one family and protocol.
func (p *gatewayPlan) independentChain(sets []setID, t setID) chain {
	nat := p.nat(t.V6)
	owner, mapped := gatewaySet(roleOwner, t.V6, t.network), gatewaySet(roleMapped, t.V6, t.network)
	free := func(flip uint16) rule {
		port := sport(t.network, flip)
		return append(p.ifUnclaimed(sets, t, port), ifNotIn(port, owner), draw(gatewaySet(roleDrawn, t.V6, t.network), port))
	}
	rules := []rule{{nat.toPort(inMap(mapped))}}
	if id := gatewaySet(roleClaimed, t.V6, t.network); slices.Contains(sets, id) {
		rules = append(rules, rule{ifSportBelow(t.network, firstOrdinaryPort), ifIn(claimed(sport(t.network, 0)), id), nat.plain(true)})
	}
	rules = append(rules, rule{ifSportBelow(t.network, firstOrdinaryPort), nat.plain(false)}, append(free(0), nat.plain(false)))
	for _, flip := range flips {
		rules = append(rules, append(free(flip), nat.toPort(sport(t.network, flip))))
	}
	return chain{name: chainOf("independent", t), rules: append(matchAll(t, rules), rule{ifFamily(t.V6), nat.plain(true)})}
}

// learnChain remembers how a session was translated: a new one whose port nobody has, and one whose mapping is known. What
// became a forward's port since is not renewed.
func (p *gatewayPlan) learnChain(sets []setID, t setID) chain {
	owner, mapped := gatewaySet(roleOwner, t.V6, t.network), gatewaySet(roleMapped, t.V6, t.network)
	port := sport(t.network, 0)
	first := slices.Concat(rule{ifState(stateNew), ifDirection(directionOriginal)}, p.ifUnclaimed(sets, t, port), rule{ifNotIn(port, owner)})
	inner := originalSource(t, directionOriginal)
	rules := []rule{
		{ifSportBelow(t.network, firstOrdinaryPort), accept()},
		append(first, learn("add", owner, port, inner), learn("add", mapped, inner, port), accept()),
	}
	for _, direction := range []int{directionOriginal, directionReply} {
		inner := originalSource(t, direction)
		rules = append(rules, slices.Concat(rule{ifDirection(byte(direction))}, p.ifUnclaimed(sets, t, port), rule{ifIn(port, owner), ifIn(inner, mapped),
			learn("update", owner, port, inner), learn("update", mapped, inner, port)}))
	}
	return chain{name: chainOf("learn", t), rules: matchAll(t, rules)}
}

// matchAll has every rule match the family and protocol by itself: nft(8) wants to see them where it lists ports.
func matchAll(t setID, rules []rule) []rule {
	for i, r := range rules {
		rules[i] = slices.Concat(rule{ifFamily(t.V6), ifProtocol(t.network)}, r)
	}
	return rules
}

// ifUnclaimed matches packets whose port is no forward's. Where no forward has one, it is nothing.
func (p *gatewayPlan) ifUnclaimed(sets []setID, t setID, port value) rule {
	if id := gatewaySet(roleClaimed, t.V6, t.network); slices.Contains(sets, id) {
		return rule{ifNotIn(claimed(port), id)}
	}
	return nil
}

// ifToOutside matches packets to the address that the outside sees.
func (p *gatewayPlan) ifToOutside(v6 bool) statement {
	if addr := p.nat(v6).addr; addr.IsValid() {
		return ifDaddr(addr)
	}
	return ifToThisHost()
}

// leadToOwner leads a packet to the owner of the port that it is for.
func leadToOwner(owner setID) statement {
	const natDNAT = 1 // NFT_NAT_DNAT
	family, network := "ip", owner.network.String()
	addrSize := uint32(1)
	if owner.V6 {
		family, addrSize = "ip6", 4
	}
	return statement{"dnat " + family + " to " + network + " dport map @" + owner.name(), concat(
		payload(payloadTransport, 2, 2, reg32), lookupMap(owner.name(), reg32, reg32),
		expr("nat", be32(1, natDNAT), be32(2, familyOf(owner.V6)), be32(3, reg32), be32(5, reg32+addrSize)))}
}

// inSet is the key of set id as the packet has it.
func inSet(id setID) value {
	return func(reg uint32) statement { return loadKeyAt(id, metaIIFName, reg) }
}

// gatewaySet is the set of one role for a family and a protocol.
func gatewaySet(r role, v6 bool, network forward.Networks) setID {
	id := setID{role: r, Shape: forward.Shape{V6: v6}, network: network}
	switch r {
	case roleOutbound, roleMapped, roleSpoken, roleAwaited: // whole addresses
		id.FromBits = 32
		if v6 {
			id.FromBits = 128
		}
	}
	return id
}
