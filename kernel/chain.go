package kernel

import (
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
	hookOutput      hook = 3
	hookPostrouting hook = 4
)

func (h hook) String() string {
	return map[hook]string{hookPrerouting: "prerouting", hookInput: "input", hookOutput: "output", hookPostrouting: "postrouting"}[h]
}

// Priorities: Fairlead's translations stand just before those of other tables (dstnat is -100, srcnat 100), because a
// session is translated by the first that wants to. Counting comes after each.
const (
	priorityDNAT     = -110
	priorityCountIn  = -90
	prioritySNAT     = 90
	priorityCountOut = 110
)

// sameInterfaces is the set of (name . name) of every interface: what comes in by one of them and leaves by it again.
const sameInterfaces = "same_interface"

// chains is every chain of the table, given the sets that have elements in their order. The number of rules grows with
// the number of sets, that is, with the shapes of the forwards and not with the forwards.
//
//	prerouting ─► local ─► translate                  a client from outside
//	output ─► own ─► loopback                         this host is the client
//	postrouting ─► source ─► hairpin                  whose address the target sees
//	count_*  ─► in / out                              bytes, each way
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
		{name: "in", rules: countRules(sets, roleIn, metaIIFName)},
		{name: "out", rules: countRules(sets, roleOut, metaOIFName)},
		baseChain("prerouting", "nat", hookPrerouting, priorityDNAT,
			append([]rule{opening, {ifToThisHost(), toChain(verdictGoto, "local")}}, toAddr...)...),
		baseChain("output", "nat", hookOutput, priorityDNAT,
			append([]rule{opening, {ifToThisHost(), toChain(verdictGoto, "own")}}, toOwnAddr...)...),
		baseChain("postrouting", "nat", hookPostrouting, prioritySNAT, rule{ifDNAT(), toChain(verdictGoto, "source")}),
		baseChain("count_prerouting", "filter", hookPrerouting, priorityCountIn,
			rule{ifNotInterface(metaIIFName, "lo"), ifTranslated(0), toChain(verdictGoto, "in")}),
		baseChain("count_output", "filter", hookOutput, priorityCountIn, rule{ifTranslated(0), toChain(verdictGoto, "in")}),
		baseChain("count_postrouting", "filter", hookPostrouting, priorityCountOut,
			rule{ifNotInterface(metaOIFName, "lo"), ifTranslated(1), toChain(verdictGoto, "out")}),
		baseChain("count_input", "filter", hookInput, priorityCountOut, rule{ifTranslated(1), toChain(verdictGoto, "out")}),
	}
	return append(spareChains(sets), out...)
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
		case id.role.perSession() || !wanted(id):
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
	return append(r, translate(id))
}

// spareChains has a chain for each set of "*": the ports that are to spare, because no program of this host has a socket
// there. It is asked for each session anew, so a program that starts later gets its port.
func spareChains(sets []setID) []chain {
	var out []chain
	for _, id := range sets {
		if id.Ports == forward.PortAll && !id.role.perSession() {
			out = append(out, chain{name: spareChain(id), rules: []rule{{ifSocket(), back()}, packetRule(id)}})
		}
	}
	return out
}

func spareChain(id setID) string { return "spare_" + id.name() }

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

func countRules(sets []setID, r role, iface uint32) []rule {
	var out []rule
	for _, id := range sets {
		if id.role == r {
			out = append(out, rule{ifFamily(id.V6), ifProtocol(id.network), ifMember(id, iface), accept()})
		}
	}
	return out
}
