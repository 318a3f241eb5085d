package kernel

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// TestSessionsThatLeaveElsewhere has leases come, and sessions that began before they did.
func TestSessionsThatLeaveElsewhere(t *testing.T) {
	lease := func(external, internal string) *forward.Forward {
		at, to := netip.MustParseAddrPort(external), netip.MustParseAddrPort(internal)
		one := func(port uint16) forward.Ports {
			return forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}
		}
		return &forward.Forward{Name: "lease " + external, Carry: forward.CarryKernel, Outbound: true,
			Listen: forward.Listen{Networks: forward.TCP | forward.UDP, Addr: at.Addr(), Ports: one(at.Port())},
			To:     []forward.Target{{Addr: to.Addr(), Ports: forward.Range{First: to.Port(), Last: to.Port()}}}}
	}
	var l lateLeases
	l.add([]*forward.Forward{lease("198.51.100.1:4000", "192.168.1.22:4000")},
		[]*forward.Forward{lease("198.51.100.1:3074", "192.168.1.20:3074"), lease("198.51.100.1:3075", "192.168.1.21:3074")})
	p := leasePurger{gone: l.gone, now: l.now}
	p.index()
	for _, c := range []struct {
		network      forward.Networks
		client, seen string
		status       uint32
		state        byte
		stale        bool
	}{
		{forward.UDP, "192.168.1.20:3074", "198.51.100.1:3074", statusSrcNAT, 0, false},
		{forward.UDP, "192.168.1.20:3074", "198.51.100.1:1234", statusSrcNAT, 0, true},
		{forward.UDP, "192.168.1.21:3074", "198.51.100.1:3074", statusSrcNAT, 0, true},
		{forward.UDP, "192.168.1.21:3074", "198.51.100.1:3075", statusSrcNAT, 0, false},
		{forward.UDP, "192.168.1.22:3074", "198.51.100.1:3074", statusSrcNAT, 0, true}, // who has no lease, and somebody's port
		{forward.UDP, "192.168.1.22:3074", "198.51.100.1:5555", statusSrcNAT, 0, false},
		{forward.UDP, "192.168.1.22:4000", "198.51.100.1:4000", statusSrcNAT, 0, false},               // of a lease that is gone: nobody else has its port
		{forward.UDP, "192.168.1.20:3074", "192.168.1.20:3074", 0, 0, false},                          // to a DMZ, say
		{forward.UDP, "192.168.1.20:3074", "192.168.1.1:3074", statusSrcNAT | statusDstNAT, 0, false}, // to a forward
		{forward.TCP, "192.168.1.20:3074", "198.51.100.1:1234", statusSrcNAT, tcpStateEstablished, false},
		{forward.TCP, "192.168.1.20:3074", "198.51.100.1:1234", statusSrcNAT, 1, true},
	} {
		server := netip.MustParseAddrPort("203.0.113.9:3478")
		s := session{network: c.network, client: netip.MustParseAddrPort(c.client), seen: netip.MustParseAddrPort(c.seen), listened: server, target: server,
			status: c.status, tcpState: c.state}
		if got := p.stale(s); got != c.stale {
			t.Errorf("%s %s seen as %s (status %#x): stale is %v", c.network, c.client, c.seen, c.status, got)
		}
	}
}
