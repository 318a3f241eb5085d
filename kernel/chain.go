package kernel

import (
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// A rule is its statements in order.
type rule []statement

// A chain is a list of rules. A base chain hangs at a hook; the others are gone to from it.
type chain struct {
	name     string
	kind     string // "nat" or "filter" for a base chain, "" for the others
	hook     hook
	priority int32
	rules    []rule
}

// A hook is a place of the packet's way (linux/netfilter.h, nf_inet_hooks).
type hook uint32

const (
	hookPrerouting  hook = 0
	hookInput       hook = 1
	hookForward     hook = 2
	hookOutput      hook = 3
	hookPostrouting hook = 4
)

func (h hook) String() string {
	return map[hook]string{hookPrerouting: "prerouting", hookInput: "input", hookForward: "forward", hookOutput: "output", hookPostrouting: "postrouting"}[h]
}

// Priorities: Fairlead's translations stand just before those of other tables (dstnat is -100, srcnat 100), because a
// session is translated by the first that wants to. What is counted is what the host's firewall (filter, 0) lets through.
const (
	priorityDNAT   = -110
	prioritySNAT   = 90
	priorityCount  = 10
	priorityMangle = -150 // as nft(8) calls it
)

// sameInterfaces is the set of (name . name) of every interface: what comes in by one of them and leaves by it again.
const sameInterfaces = "same_interface"

// chains is every chain of the table, given the sets that have elements in their order. The number of rules grows with
// the number of sets, that is, with the shapes of the forwards and not with the forwards.
//
//	prerouting ─► local ─► translate                  a client from outside
//	output ─► own ─► loopback                         this host is the client
//	postrouting ─► source ─► hairpin                  whose address the target sees
//	forward, input, output ─► counting, passed        bytes, each way: a packet passes one of the three, once
//	forward ─► ended                                  what goes on of a pinhole's session that has ended
//
// No chain may be called "count": nft(8) 1.0.6 takes that for a keyword in a list with "ct helper set" in it.
func chains(sets []setID) []chain {
	opening := rule{ifMidstream(), accept()}
	toAddr := packetRules(sets, func(id setID) bool { return id.ByAddr })
	toOwnAddr := packetRules(sets, func(id setID) bool { return id.ByAddr && fromHere(id) })
	own := packetRules(sets, fromHere)
	loopback := packetRules(sets, func(id setID) bool {
		return fromHere(id) && (id.role == roleRedirect || id.role == roleHold)
	})
	out := []chain{
		{name: "local", rules: packetRules(sets, func(setID) bool { return true })},
		{name: "loopback", rules: loopback},
		{name: "own", rules: append([]rule{
			{ifLoopback(false), toChain(verdictGoto, "loopback")},
			{ifLoopback(true), toChain(verdictGoto, "loopback")},
		}, own...)},
		{name: "hairpin", rules: []rule{{ifSameInterface(sameInterfaces), masquerade()}, {ifFromThisHost(), masquerade()}}},
		{name: "source", rules: sourceRules(sets)},
		baseChain("prerouting", "nat", hookPrerouting, priorityDNAT,
			append([]rule{opening, {ifToThisHost(), toChain(verdictGoto, "local")}}, toAddr...)...),
		baseChain("output", "nat", hookOutput, priorityDNAT,
			append([]rule{opening, {ifToThisHost(), toChain(verdictGoto, "own")}}, toOwnAddr...)...),
		baseChain("postrouting", "nat", hookPostrouting, prioritySNAT, leavingRules(sets)...),
		{name: "counting", rules: countRules(sets, roleCount)},
	}
	out = append(out, countChains(sets)...)
	return append(spareChains(sets), out...)
}

// countChains are where packets are counted. Those of pinholes are not translated; where there are any, what is not is looked
// at, too.
func countChains(sets []setID) []chain {
	onward := []rule{{ifDNAT(), toChain(verdictGoto, "counting")}}
	fromOthers := []rule{{ifNotInterface(metaIIFName, "lo"), ifDNAT(), toChain(verdictGoto, "counting")}}
	var out []chain
	if passed := countRules(sets, rolePassed); len(passed) > 0 {
		out = append(out, chain{name: "passed", rules: passed},
			chain{name: "ended", rules: endedRules(sets)},
			baseChain("ended_forward", "filter", hookForward, priorityFilter, rule{ifState(stateNew), ifMidstream(), toChain(verdictGoto, "ended")}))
		onward, fromOthers = append(onward, rule{toChain(verdictGoto, "passed")}), append(fromOthers, rule{toChain(verdictGoto, "passed")})
	}
	return append(out, baseChain("count_forward", "filter", hookForward, priorityCount, onward...),
		baseChain("count_input", "filter", hookInput, priorityCount, fromOthers...),
		baseChain("count_output", "filter", hookOutput, priorityCount, onward...))
}

// endedRules answer TCP packets of a pinhole that belong to no session known with a reset, from whichever side: conntrack
// would take them for a new session, and one that was just ended would go on. Translated sessions need no such rule.
func endedRules(sets []setID) []rule {
	var out []rule
	for _, id := range sets {
		if id.role == rolePassed && id.network == forward.TCP {
			out = append(out, rule{ifFamily(id.V6), ifProtocol(id.network), ifMember(id, metaIIFName), rejectReset()},
				rule{ifFamily(id.V6), ifProtocol(id.network), ifReverse(id), rejectReset()})
		}
	}
	return out
}

func baseChain(name, kind string, h hook, priority int32, rules ...rule) chain {
	return chain{name: name, kind: kind, hook: h, priority: priority, rules: rules}
}

// fromHere reports whether set id applies to sessions that begin on this host. They come in by no interface; and "*"
// leaves out every port that has a socket, which the sender's own always is.
func fromHere(id setID) bool { return !id.ByInput && id.Ports != forward.PortAll }

func packetRules(sets []setID, wanted func(setID) bool) []rule {
	var out []rule
	for _, id := range sets {
		switch {
		case !id.role.ownsRule() || !wanted(id):
		case id.Ports == forward.PortAll:
			out = append(out, rule{toChain(verdictJump, spareChain(id))})
		default:
			out = append(out, packetRule(id))
		}
	}
	return out
}

// packetRule translates what the set has, or leaves alone what the relay holds.
func packetRule(id setID) rule {
	r := rule{ifFamily(id.V6), ifProtocol(id.network)}
	if id.role == roleHold {
		return append(r, ifMember(id, metaIIFName), accept())
	}
	if id.hasMembers() {
		r = append(r, ifMember(id.members(), metaIIFName))
	}
	if o, ok := id.object(); ok {
		r = append(r, o.attach())
	}
	return append(r, translate(id))
}

// spareChains has a chain for each set of "*": the ports that are to spare, because no program of this host has a socket
// there. It is asked for each session anew, so a program that starts later gets its port.
func spareChains(sets []setID) []chain {
	var out []chain
	for _, id := range sets {
		if id.Ports == forward.PortAll && id.role.ownsRule() {
			out = append(out, chain{name: spareChain(id), rules: []rule{{ifSocket(), back()}, packetRule(id)}})
		}
	}
	return out
}

func spareChain(id setID) string { return "spare_" + id.name() }

// leavingRules sends a session to the chain that decides its source. Where every forward has source = "auto", those that
// come in and leave by different interfaces, most of a gateway's, need no look into the big sets.
func leavingRules(sets []setID) []rule {
	decide := toChain(verdictGoto, "source")
	if slices.ContainsFunc(sets, func(id setID) bool { return id.role == roleKeep || id.role == roleRewrite }) {
		return []rule{{ifDNAT(), decide}}
	}
	return []rule{{ifNotDNAT(), accept()}, {ifSameInterface(sameInterfaces), decide}, {ifSentHere(), decide}}
}

func sourceRules(sets []setID) []rule {
	var out []rule
	for _, id := range sets {
		var then statement
		switch id.role {
		case roleKeep:
			then = accept()
		case roleAuto:
			then = toChain(verdictGoto, "hairpin")
		case roleRewrite:
			then = masquerade()
		default:
			continue
		}
		out = append(out, rule{ifFamily(id.V6), ifProtocol(id.network), ifMember(id, metaIIFName), then})
	}
	return out
}

// countRules looks each packet up once. Where the interface is part of the key, a packet to the client leaves by the one
// by which those from the client come in.
func countRules(sets []setID, of role) []rule {
	var out []rule
	for _, id := range sets {
		if id.role != of {
			continue
		}
		prefix := rule{ifFamily(id.V6), ifProtocol(id.network)}
		if !id.ByInput {
			out = append(out, append(prefix, ifMember(id, metaIIFName), accept()))
			continue
		}
		for direction, iface := range [...]uint32{directionOriginal: metaIIFName, directionReply: metaOIFName} {
			out = append(out, append(slices.Clone(prefix), ifDirection(byte(direction)), ifMember(id, iface), accept()))
		}
	}
	return out
}
