package e2e

import (
	"sync"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A home is a LAN and a DMZ behind a gateway, which is not set up as one: fairlead is to do that.
//
//	wan 198.41.0.9 ── 198.41.0.4 router 192.168.1.1 ── (lan) anna .20, ben .21
//	                                    192.168.50.1 ── (dmz) server .2
type home struct {
	*netlab.Lab
	wan, router, anna, ben, server *netlab.Node
}

// The addresses of a home. That of the WAN looks public: clients of UPnP want one.
const (
	wanAddr, outerAddr    = "198.41.0.9", "198.41.0.4"
	wanAddr6, outerAddr6  = "2001:4860:1::9", "2001:4860:1::4"
	annaAddr, benAddr     = "192.168.1.20", "192.168.1.21"
	annaAddr6, benAddr6   = "2001:4860:2::20", "2001:4860:2::21"
	serverAddr, innerAddr = "192.168.50.2", "192.168.1.1"
)

func newHome(t testing.TB) home {
	t.Helper()
	l := netlab.New(t)
	h := home{Lab: l, wan: l.Node("wan"), router: l.Node("router"), anna: l.Node("anna"), ben: l.Node("ben"), server: l.Node("server")}
	l.Link(netlab.End{Node: h.wan, Interface: "eth0", Addrs: []string{wanAddr + "/24", wanAddr6 + "/64"}},
		netlab.End{Node: h.router, Interface: "wan", Addrs: []string{outerAddr + "/24", outerAddr6 + "/64"}})
	lan := l.Switch("lan")
	lan.Attach(netlab.End{Node: h.router, Interface: "lan", Addrs: []string{innerAddr + "/24", "2001:4860:2::1/64"}})
	lan.Attach(netlab.End{Node: h.anna, Interface: "eth0", Addrs: []string{annaAddr + "/24", annaAddr6 + "/64"}})
	lan.Attach(netlab.End{Node: h.ben, Interface: "eth0", Addrs: []string{benAddr + "/24", benAddr6 + "/64"}})
	l.Link(netlab.End{Node: h.server, Interface: "eth0", Addrs: []string{serverAddr + "/24"}},
		netlab.End{Node: h.router, Interface: "dmz", Addrs: []string{"192.168.50.1/24"}})
	for _, n := range []*netlab.Node{h.anna, h.ben} {
		n.Route(t, "default", innerAddr)
		n.Route(t, "default", "2001:4860:2::1")
	}
	h.server.Route(t, "default", "192.168.50.1")
	h.wan.Route(t, "2001:4860:2::/64", outerAddr6) // IPv6 is not translated
	h.wan.Route(t, "192.168.0.0/16", outerAddr)    // which a WAN has not: protect is to keep it out all the same
	return h
}

const homeConfig = `
[gateway]
wan = "wan"
lan = "lan"
open = "2200"

[dmz]
interfaces = "dmz"

[gateway.portmap]

[forward.web]
listen = "80"
to = "` + annaAddr + `:8080"

[forward.relayed]
listen = "81"
to = "` + annaAddr + `:8080"
carry = "relay"

[forward.inner]
listen = "` + innerAddr + `:82"
to = "` + annaAddr + `:8080"

[forward.innerrelayed]
listen = "` + innerAddr + `:83"
to = "` + annaAddr + `:8080"
carry = "relay"

[forward.hole]
listen = "[` + annaAddr6 + `]:8443"
to = "` + annaAddr6 + `"

[forward.dmz]
listen = "tcp+udp/*"
interface = "wan"
to = "` + serverAddr + `"
`

// TestHome has fairlead make a gateway of a host that is none, and sees who reaches whom then, before it and after it.
func TestHome(t *testing.T) {
	needs(t, "curl", "nft")
	h := newHome(t)
	for _, at := range []string{annaAddr + ":8080", "[" + annaAddr6 + "]:8443", "[" + annaAddr6 + "]:8444", annaAddr + ":9000"} {
		h.anna.Echo(t, at)
	}
	h.router.Echo(t, ":2200")
	h.router.Echo(t, ":2201")
	h.server.Echo(t, ":7000")
	h.wan.Echo(t, ":5000")
	before := h.router.Run(t, "sh", "-c", "nft list ruleset; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.wan.accept_ra")
	d := up(t, h.router, homeConfig)
	d.expect("web kernel up", "relayed relay up", "hole kernel up", "dmz kernel up")
	var calls sync.WaitGroup
	for _, c := range []struct {
		from    *netlab.Node
		network string
		to      string
		sees    string // the address that the target sees; "": it is not reached
	}{
		{h.wan, "tcp", outerAddr + ":80", wanAddr},
		{h.wan, "tcp", outerAddr + ":81", "192.168.1.1"},
		{h.wan, "tcp", innerAddr + ":82", ""}, // an address of the LAN is the LAN's, whatever a neighbour outside has for a route
		{h.wan, "tcp", innerAddr + ":83", ""},
		{h.ben, "tcp", innerAddr + ":82", innerAddr},
		{h.ben, "tcp", innerAddr + ":83", innerAddr},
		{h.wan, "tcp", "[" + annaAddr6 + "]:8443", wanAddr6},
		{h.wan, "tcp", "[" + annaAddr6 + "]:8444", ""},
		{h.wan, "tcp", annaAddr + ":9000", ""},
		{h.wan, "tcp", outerAddr + ":2200", wanAddr},
		{h.wan, "tcp", outerAddr + ":2201", ""},
		{h.wan, "tcp", outerAddr + ":7000", wanAddr},
		{h.wan, "udp", outerAddr + ":7000", wanAddr},
		{h.wan, "tcp", serverAddr + ":7000", ""}, // not by its own address
		{h.anna, "tcp", wanAddr + ":5000", outerAddr},
		{h.anna, "udp", wanAddr + ":5000", outerAddr},
		{h.anna, "tcp", "[" + wanAddr6 + "]:5000", annaAddr6},
		{h.server, "tcp", wanAddr + ":5000", outerAddr},
		{h.server, "tcp", annaAddr + ":9000", ""},
		{h.server, "tcp", innerAddr + ":2201", ""},
		{h.anna, "tcp", serverAddr + ":7000", annaAddr},
		{h.anna, "tcp", innerAddr + ":2201", annaAddr},
		{h.ben, "tcp", outerAddr + ":80", innerAddr}, // hairpin
	} {
		calls.Go(func() { // at once: who is dropped waits for three seconds
			reply, err := c.from.Call(t.Context(), c.network, c.to)
			switch {
			case c.sees == "" && err == nil:
				t.Errorf("%s reaches %s %s", c.from, c.network, c.to)
			case c.sees != "" && err != nil:
				t.Errorf("%s does not reach %s %s: %v", c.from, c.network, c.to, err)
			case c.sees != "" && reply.You.Addr().String() != c.sees:
				t.Errorf("%s at %s %s is seen as %s, want %s", c.from, c.network, c.to, reply.You, c.sees)
			}
		})
	}
	calls.Wait()
	d.run("down")
	after := h.router.Run(t, "sh", "-c", "nft list ruleset; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.wan.accept_ra")
	if before != after {
		t.Errorf("before:\n%s\nafter down:\n%s", before, after)
	}
}
