package forward

import (
	"fmt"
	"net/netip"
	"slices"
)

// NeedsRelay says why f's own wording rules the kernel carrier out on every host, or "". Reasons that depend on the host
// (no privilege, no routing) are the planner's.
func (f *Forward) NeedsRelay() string {
	switch {
	case f.ListensAt() != Host:
		return "it listens at node " + f.At
	case f.DialsFrom() != Host:
		return "it dials from node " + f.Via
	case f.ByName():
		return ChosenByName
	case f.Dynamic() != HeadNone:
		return "each client says itself where it goes"
	case f.Listen.IsUnix():
		return "it listens on a unix socket"
	case f.Listen.Addr.IsValid() && f.Listen.Addr.IsLoopback():
		return "it listens on loopback, where only programs of this host call"
	case f.keyTooLong():
		return "from, an address and an interface together are too long a key for the kernel's maps"
	case f.MaxConnections > 0:
		return "max_connections is counted by the relay"
	case f.MaxPerSource > 0:
		return "max_per_source is counted by the relay"
	case f.Bandwidth > 0:
		return "bandwidth is shaped by the relay"
	case f.SendProxy > 0:
		return "send_proxy writes into the stream"
	case len(f.AcceptProxy) > 0:
		return "accept_proxy reads from the stream"
	case !f.PassivePorts.IsZero():
		return "passive_ports are listened at by the relay"
	}
	if reason := f.relayKey(); reason != "" {
		return reason
	}
	for _, t := range f.To {
		if reason := f.targetNeedsRelay(t); reason != "" {
			return reason
		}
	}
	return f.balanceNeedsRelay()
}

// RelayCannotKeep says why the relay cannot let f's targets see their clients' addresses, as far as its wording tells, or
// "". The kernel carrier may.
func (f *Forward) RelayCannotKeep() string {
	switch {
	case f.Listen.IsUnix():
		return "clients of a unix socket have no address"
	case f.DialsFrom() != Host:
		return "it dials from node " + f.Via + ", which has addresses of its own alone"
	case f.Listen.Addr.IsLoopback() && len(f.AcceptProxy) == 0:
		return "it listens on loopback, where clients have the address of this host"
	}
	for _, t := range f.To {
		switch {
		case t.IsUnix():
			return fmt.Sprintf("target %s is a unix socket, whose clients have no address", t)
		case t.IsLocal(), t.Addr.IsLoopback():
			return fmt.Sprintf("target %s is on this host; its answers to a client's address would leave past the relay", t)
		case t.Addr.IsValid() && !f.hasClientsLike(t.Addr):
			return fmt.Sprintf("no client of the same IP family as target %s comes in", t)
		}
	}
	return ""
}

// hasClientsLike reports whether clients of addr's IP family can come in; what a PROXY header says of them is not known.
func (f *Forward) hasClientsLike(addr netip.Addr) bool {
	same := func(a netip.Addr) bool { return a.Is4() == addr.Is4() }
	if len(f.AcceptProxy) > 0 {
		return true
	}
	if l := f.Listen.Addr; l.IsValid() && !same(l) {
		return false
	}
	return len(f.From) == 0 || slices.ContainsFunc(f.From, func(p netip.Prefix) bool { return same(p.Addr()) })
}

func (f *Forward) targetNeedsRelay(t Target) string {
	which := "the target"
	if len(f.To) > 1 {
		which = "target " + t.String()
	}
	switch {
	case t.IsUnix():
		return which + " is a unix socket"
	case t.Host != "":
		return which + " is a host name, looked up for each session"
	case t.Addr.IsLoopback():
		return which + " is on loopback, where the kernel does not route"
	case t.Addr.IsValid() && f.Listen.Addr.IsValid() && t.Addr.Is4() != f.Listen.Addr.Is4():
		return "the kernel does not translate between IPv4 and IPv6"
	}
	return ""
}

// keyTooLong reports whether f's claims name so much at once that the key in the kernel would be too long: of IPv6, longer
// than the 64 bytes of its registers; with a slot for each of several targets, of more parts than nft(8) 1.0.6 can list.
func (f *Forward) keyTooLong() bool {
	byAddr := f.Listen.Addr.IsValid() && !f.Listen.Addr.IsUnspecified()
	return len(f.From)+len(f.Except) > 0 && byAddr && f.Interface != "" && (f.Listen.Addr.Is6() || len(f.To) > 1)
}

// A PortMapping is how the ports of clients become those of a target.
type PortMapping uint8

// The port mappings.
const (
	PortsStay  PortMapping = iota // the same ones
	PortsJoin                     // all to one
	PortsShift                    // each to another that depends on it
)

// PortMapping is how clients' ports become those of target t.
func (f *Forward) PortMapping(t Target) PortMapping {
	switch {
	case f.Shifted(t):
		return PortsShift
	case !t.Ports.IsZero() && t.Ports.First == t.Ports.Last:
		return PortsJoin
	}
	return PortsStay
}

// What the kernel carrier takes on: its maps have an element for each turn of each port.
const (
	maxKernelTargets  = 32
	maxKernelElements = 1 << 17
)

// Turns is after how many sessions the order in which the kernel takes n targets in turn begins anew: the least power of n
// that is n squared or more and 16 or more.
func Turns(n int) int {
	turns := n * n
	for n > 1 && turns < 16 {
		turns *= n
	}
	return turns
}

// balanceNeedsRelay says why the kernel cannot pick one of f's targets, each of which it could carry to, or "".
func (f *Forward) balanceNeedsRelay() string {
	if len(f.To) < 2 {
		return ""
	}
	switch {
	case f.Balance == BalanceFailover:
		return `balance = "failover" has to see which target answers`
	case f.Balance == BalanceLeast:
		return `balance = "least" has to count open sessions`
	case len(f.To) > maxKernelTargets:
		return fmt.Sprintf("it has %d targets; the kernel balances %d", len(f.To), maxKernelTargets)
	}
	first := f.To[0]
	shifted := 0
	for _, t := range f.To {
		switch {
		case t.IsLocal():
			return fmt.Sprintf("target %s is a port of this host; the kernel balances other hosts", t)
		case t.Addr.Is4() != first.Addr.Is4():
			return "its targets are of both IP families"
		case f.listensOnRanges() && f.PortMapping(t) != f.PortMapping(first):
			return fmt.Sprintf("targets %s and %s map its ports differently", first, t)
		case f.Shifted(t):
			shifted = f.Listen.Ports.Count()
		}
	}
	if shifted*Turns(len(f.To)) > maxKernelElements {
		return fmt.Sprintf("shifting %d ports to %d targets is too much for the kernel's maps", shifted, len(f.To))
	}
	return ""
}

// listensOnRanges reports whether f listens on more than single ports.
func (f *Forward) listensOnRanges() bool {
	return f.Listen.Ports.All || f.Listen.Ports.Count() != len(f.Listen.Ports.Ranges)
}
