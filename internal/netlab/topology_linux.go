package netlab

// A Topology is a network in which something is to be forwarded: a client outside, a router, and a LAN with two servers.
type Topology struct {
	*Lab
	Client *Node // outside; has the addresses Client and Client2 of each family
	Router *Node // the LAN's default gateway
	Host   *Node // where the forwarding is done: the router itself (Gateway) or a machine of the LAN (OneArmed)
	Server *Node // in the LAN
	Peer   *Node // in the LAN, too: a second server, or the LAN's own client

	Front4, Front6 string // the addresses of Host that Client calls
}

// The addresses of every topology. The WAN is 203.0.113.0/24 and 2001:db8:1::/64, the LAN 192.168.1.0/24 and fd00:1::/64.
const (
	Client4    = "203.0.113.10"
	Client6    = "2001:db8:1::10"
	Client4b   = "203.0.113.20"
	Client6b   = "2001:db8:1::20"
	RouterWAN4 = "203.0.113.1"
	RouterWAN6 = "2001:db8:1::1"

	RouterLAN4 = "192.168.1.1"
	RouterLAN6 = "fd00:1::1"
	Host4      = "192.168.1.2" // in OneArmed
	Host6      = "fd00:1::2"
	Server4    = "192.168.1.10"
	Server6    = "fd00:1::10"
	Peer4      = "192.168.1.20"
	Peer6      = "fd00:1::20"
)

// Gateway is a client, a router that does the forwarding (interfaces "wan" and "lan"), and a LAN behind it. The client has
// no route to the LAN, and nothing translates addresses until a test says so.
func Gateway(tb TB) *Topology {
	tb.Helper()
	t, _ := routed(tb)
	t.Host, t.Front4, t.Front6 = t.Router, RouterWAN4, RouterWAN6
	t.Router.Route(tb, "default", Client4)
	t.Router.Route(tb, "default", Client6)
	return t
}

// OneArmed is a machine with one interface ("eth0") that does the forwarding and is not the gateway: the router knows
// nothing of it, and the servers' default route does not lead through it. The client reaches the LAN through the router.
func OneArmed(tb TB) *Topology {
	tb.Helper()
	t, lan := routed(tb)
	t.Host, t.Front4, t.Front6 = t.Lab.Node("host"), Host4, Host6
	member(tb, lan, t.Host, Host4, Host6)
	t.Client.Route(tb, "default", RouterWAN4)
	t.Client.Route(tb, "default", RouterWAN6)
	return t
}

func routed(tb TB) (*Topology, *Switch) {
	tb.Helper()
	l := New(tb)
	t := &Topology{Lab: l, Client: l.Node("client"), Router: l.Node("router"), Server: l.Node("server"), Peer: l.Node("peer")}
	t.Router.Forwarding(tb)
	l.Link(
		End{Node: t.Client, Interface: "eth0", Addrs: []string{Client4 + "/24", Client6 + "/64", Client4b + "/24", Client6b + "/64"}},
		End{Node: t.Router, Interface: "wan", Addrs: []string{RouterWAN4 + "/24", RouterWAN6 + "/64"}})
	lan := l.Switch("lan")
	lan.Attach(End{Node: t.Router, Interface: "lan", Addrs: []string{RouterLAN4 + "/24", RouterLAN6 + "/64"}})
	member(tb, lan, t.Server, Server4, Server6)
	member(tb, lan, t.Peer, Peer4, Peer6)
	return t, lan
}

// member makes n a machine of the LAN, with the router as its gateway.
func member(tb TB, lan *Switch, n *Node, addr4, addr6 string) {
	tb.Helper()
	lan.Attach(End{Node: n, Interface: "eth0", Addrs: []string{addr4 + "/24", addr6 + "/64"}})
	n.Route(tb, "default", RouterLAN4)
	n.Route(tb, "default", RouterLAN6)
}
