package kernel

import "strings"

// How packets to addresses that this host only stands in for reach its sockets: a rule of nftables marks those that a
// transparent socket waits for, and policy routing delivers what is marked here.
//
//	target's answer to the client's address ──► prerouting: a transparent socket? mark it ──► rule: marked ──► table: local
const (
	// KeepMark is the one bit of a packet's mark (SO_MARK, fwmark) that is used; the others are left as they are. Its
	// neighbours have users: Kubernetes 0x4000 and 0x8000, podman 0x2000, Tailscale 0xff0000, Cilium 0x1e00.
	KeepMark = 0x80
	// KeepRoutes is the number of the routing table.
	KeepRoutes = 64080
	// KeepProtocol is the origin that the rules and routes bear (rtnetlink(7), rtm_protocol), so that they are told from
	// everybody else's.
	KeepProtocol = 250

	// The preferences of the policy rules: before the main table and before those of VPNs, which would send the packets out.
	keepSkipPriority   = 640
	keepLookupPriority = 641
	keepResumePriority = 642
)

// keepSuffix ends the names of the nftables tables that mark packets. Each process that needs it has one, named after its
// carrier's, so that they show who still needs the routes, which all share.
const keepSuffix = "_keep"

// keepLayout stands in the comment of such a table; one with another comment is made anew.
const keepLayout = "fairlead keep 1"

// keepLock is the name that is claimed while one process changes what all share.
const keepLock = DefaultTable + keepSuffix + ".lock"

// isKeepTable reports whether a table is one of Fairlead's that mark packets.
func isKeepTable(name string) bool {
	return name == DefaultTable+keepSuffix || strings.HasPrefix(name, foregroundPrefix) && strings.HasSuffix(name, keepSuffix)
}

// keepChain marks what a transparent socket waits for, ICMP errors about its packets included. A socket that listens on
// every address is somebody else's proxy. The look at the session's state lets everything through; it is there because it
// has the kernel put fragments together first, of which only the first names its port.
func keepChain() chain {
	return baseChain("prerouting", "filter", hookPrerouting, priorityMangle,
		rule{ifAnyState(), ifTransparentSocket(), setMark(KeepMark)})
}
