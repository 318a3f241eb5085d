package pmpserver

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

const (
	gateway4  = "192.168.1.1"
	gateway4b = "192.168.1.2"
	gateway6  = "2001:db8:1::1"
	client4   = "192.168.1.10"
	client6   = "2001:db8:1::10"
	wan4      = "203.0.113.9"
)

// A home is a gateway with a client of its LAN, and a stranger on the WAN who has one of the LAN's addresses, too.
type home struct {
	lab                       *netlab.Lab
	gateway, client, stranger *netlab.Node
	lan                       *netlab.Switch
	desk                      *fakeDesk
	server                    *Server
	places                    atomic.Pointer[[]portmap.Place]
	stop                      func()
}

func newHome(t testing.TB) *home {
	l := netlab.New(t)
	h := &home{lab: l, gateway: l.Node("gateway"), client: l.Node("client"), stranger: l.Node("stranger"), desk: newDesk(), lan: l.Switch("switch")}
	h.lan.Attach(netlab.End{Node: h.gateway, Interface: "lan", Addrs: []string{gateway4 + "/24", gateway4b + "/24", gateway6 + "/64"}})
	h.lan.Attach(netlab.End{Node: h.client, Interface: "eth0", Addrs: []string{client4 + "/24", client6 + "/64"}})
	l.Link(netlab.End{Node: h.gateway, Interface: "wan", Addrs: []string{wan4 + "/24", "2001:db8:2::9/64"}},
		netlab.End{Node: h.stranger, Interface: "eth0", Addrs: []string{"203.0.113.20/24", "192.168.1.66/32", "2001:db8:2::20/64"}})
	h.client.Route(t, "default", gateway4)
	h.client.Route(t, "default", gateway6)
	h.stranger.Route(t, "192.168.1.0/24", wan4)
	h.gateway.Sysctl(t, "net.ipv4.conf.all.rp_filter", "0") // nothing but the server keeps a stranger out
	h.gateway.Sysctl(t, "net.ipv4.conf.wan.rp_filter", "0")
	h.serve(h.place(t, "lan", gateway4+"/24", gateway4b+"/24", gateway6+"/64"))
	h.server = New(Options{Desk: h.desk, Places: func() []portmap.Place { return *h.places.Load() }, Spec: portmap.Spec{Protocols: both}})
	h.stop = start(t, h.server, h.gateway.Do)
	eventually(t, "the port is taken", func() bool {
		return h.gateway.Listening("udp", pcp.ServerPort) && h.gateway.Listening("udp6", pcp.ServerPort)
	})
	return h
}

func (h *home) serve(list ...portmap.Place) { h.places.Store(&list) }

func (h *home) place(t testing.TB, name string, prefixes ...string) portmap.Place {
	t.Helper()
	p := portmap.Place{}
	if err := h.gateway.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err == nil {
			p.Interface = *i
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, s := range prefixes {
		p.Addrs = append(p.Addrs, netip.MustParsePrefix(s))
	}
	return p
}

// local6 is the link-local address of an interface, and its index.
func local6(t testing.TB, n *netlab.Node, name string) (addr netip.Addr, index int) {
	t.Helper()
	if err := n.Do(func() error {
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		index = i.Index
		list, err := i.Addrs()
		for _, a := range list {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				addr = p.Addr()
			}
		}
		return err
	}); err != nil || !addr.IsValid() {
		t.Fatalf("%s has no link-local address on %s (%v)", n, name, err)
	}
	return addr, index
}

func dialFrom(t testing.TB, n *netlab.Node, network, from, to string) host {
	t.Helper()
	conn, err := n.DialFrom(t.Context(), network, from, net.JoinHostPort(to, fmt.Sprint(pcp.ServerPort)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return host{t, conn}
}

// requestOf is a MAP of UDP port 4000 by a client.
func requestOf(client string) []byte {
	a := netip.MustParseAddr(client)
	r := pcp.Request{Opcode: pcp.Map, Lifetime: 600, Client: a, Mapping: pcp.Mapping{Nonce: [12]byte{7}, Protocol: pcp.ProtocolUDP, Internal: 4000}}
	return pcp.AppendRequest(nil, &r)
}

// TestAnswersComeFromTheAddressThatWasAsked uses connected sockets, which take answers from there alone.
func TestAnswersComeFromTheAddressThatWasAsked(t *testing.T) {
	h := newHome(t)
	for _, to := range []string{gateway4, gateway4b, wan4} { // the last one is asked by way of the LAN
		c := dialFrom(t, h.client, "udp4", client4, to)
		if b := c.ask([]byte{0, 0}); len(b) != 12 {
			t.Errorf("%s answers %x", to, b)
		}
		if r := parse(t, c.ask(requestOf(client4))); r.Code != pcp.Success || r.External.String() != wan4+":4000" {
			t.Errorf("%s answers %+v", to, r)
		}
	}
	c := dialFrom(t, h.client, "udp6", client6, gateway6)
	if r := parse(t, c.ask(requestOf(client6))); r.Code != pcp.Success || r.External.String() != "["+client6+"]:4000" || r.Lifetime != 600 {
		t.Errorf("over IPv6 comes %+v", r)
	}
	if m, ok := h.desk.ByKey(portmap.Key{Network: 2, Internal: netip.MustParseAddrPort("[" + client6 + "]:4000")}); !ok || m.Interface != "lan" {
		t.Errorf("the pinhole is %+v", m)
	}
	if r := parse(t, c.ask([]byte{0, 0})); r.Code != pcp.UnsuppVersion {
		t.Errorf("NAT-PMP over IPv6: %+v", r)
	}
	other := pcp.AppendRequest(nil, &pcp.Request{Opcode: pcp.Map, Lifetime: 600, Client: netip.MustParseAddr(client6), Mapping: pcp.Mapping{
		Protocol: pcp.ProtocolTCP, Internal: 80, External: netip.MustParseAddrPort("[::]:8080"),
	}, Options: pcp.Options{PreferFailure: true}})
	if r := parse(t, c.ask(other)); r.Code != pcp.CannotProvideExternal {
		t.Errorf("a pinhole of another port: %+v", r)
	}

	// By the link-local addresses, which is how hosts know their router.
	router, _ := local6(t, h.gateway, "lan")
	mine, index := local6(t, h.client, "eth0")
	c = dialFrom(t, h.client, "udp6", "", fmt.Sprintf("%s%%%d", router, index))
	if r := parse(t, c.ask(pcp.AppendRequest(nil, &pcp.Request{Client: mine}))); r.Code != pcp.Success || r.Epoch != 256 {
		t.Errorf("ANNOUNCE between link-local addresses: %+v", r)
	}
	if r := parse(t, c.ask(requestOf(mine.String()))); r.Code != pcp.NotAuthorized {
		t.Errorf("a mapping of a link-local address: %+v", r)
	}
}

// TestNothingIsAnsweredElsewhere asks from the WAN every address of the gateway, from an address of the LAN, too.
func TestNothingIsAnsweredElsewhere(t *testing.T) {
	h := newHome(t)
	dialFrom(t, h.client, "udp4", client4, gateway4).ask([]byte{0, 0})
	eventually(t, "the answer is counted", func() bool { return h.server.Stats().Answers > 0 })
	before := h.server.Stats()
	var asked []host
	for _, c := range []struct{ network, from, to string }{
		{"udp4", "203.0.113.20", wan4}, {"udp4", "203.0.113.20", gateway4}, {"udp4", "192.168.1.66", gateway4}, {"udp4", "192.168.1.66", wan4},
		{"udp6", "2001:db8:2::20", "2001:db8:2::9"},
	} {
		a := dialFrom(t, h.stranger, c.network, c.from, c.to)
		a.send(requestOf(c.from))
		a.send([]byte{0, 0})
		asked = append(asked, a)
	}
	eventually(t, "they have come in", func() bool { return h.server.Stats().Foreign >= 10 })
	for _, a := range asked {
		if b := a.receive(silence / 5); b != nil {
			t.Errorf("%v is answered with %x", a.conn.LocalAddr(), b)
		}
	}
	if after := h.server.Stats(); after.Requests != before.Requests || after.Answers != before.Answers || len(h.desk.Of(netip.Addr{})) != 0 {
		t.Errorf("%+v became %+v", before, after)
	}
	// What is sent to everybody is nobody's, also in the LAN.
	conn, err := h.client.ListenPacket("udp4", client4+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, to := range []string{"224.0.0.1", "192.168.1.255"} {
		if _, err := conn.WriteTo([]byte{0, 0}, &net.UDPAddr{IP: net.ParseIP(to), Port: pcp.ServerPort}); err != nil && !strings.Contains(err.Error(), "permission denied") {
			t.Fatal(err)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(silence))
	if n, from, err := conn.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d octets from %v", n, from)
	}
}

// TestOthersAddresses asks in the LAN in the name of hosts that are elsewhere: a host of another network, and this host itself.
func TestOthersAddresses(t *testing.T) {
	h := newHome(t)
	dialFrom(t, h.client, "udp4", client4, gateway4).ask([]byte{0, 0})
	before := h.server.Stats()
	for _, from := range []string{"192.168.7.7", "203.0.113.77", "2001:db8:77::7"} {
		network, to, bits := "udp4", gateway4, "/32"
		if strings.Contains(from, ":") {
			network, to, bits = "udp6", gateway6, "/128"
		}
		h.client.Run(t, "ip", "addr", "add", from+bits, "dev", "eth0", "nodad")
		a := dialFrom(t, h.client, network, from, to)
		a.send(requestOf(from))
		a.send([]byte{0, 0})
	}
	eventually(t, "they have come in", func() bool { return h.server.Stats().Foreign >= before.Foreign+6 })
	if after := h.server.Stats(); after.Requests != before.Requests || len(h.desk.Of(netip.Addr{})) != 0 {
		t.Errorf("%+v became %+v", before, after)
	}
}

// A listener hears announcements.
func listener(t testing.TB, n *netlab.Node, network, addr string) net.PacketConn {
	t.Helper()
	conn, err := n.ListenPacket(network, fmt.Sprintf("%s:%d", addr, pcp.ClientPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestAnnouncements(t *testing.T) {
	h := newHome(t)
	four, six := listener(t, h.client, "udp4", "0.0.0.0"), listener(t, h.client, "udp6", "[::]")
	outside4, outside6 := listener(t, h.stranger, "udp4", "0.0.0.0"), listener(t, h.stranger, "udp6", "[::]")
	hear := func(conn net.PacketConn, want []byte) (from []string) {
		t.Helper()
		b := make([]byte, 200)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for len(from) < 2 {
			n, a, err := conn.ReadFrom(b)
			if err != nil {
				t.Fatalf("%x is not announced: %v", want, err)
			}
			source := a.(*net.UDPAddr)
			if bytes.Equal(b[:n], want) && source.Port == pcp.ServerPort && !slices.Contains(from, source.IP.String()) {
				from = append(from, source.IP.String())
			}
		}
		slices.Sort(from)
		return from
	}
	router, _ := local6(t, h.gateway, "lan")
	for _, c := range []struct {
		change func()
		epoch  uint32
		nat    natpmp.Response
	}{
		{func() {}, 256, natpmp.Response{Epoch: 256, Address: netip.MustParseAddr(wan4)}},
		{func() { h.desk.change(netip.MustParseAddr("198.51.100.1"), 300) }, 300, natpmp.Response{Epoch: 300, Address: netip.MustParseAddr("198.51.100.1")}},
		{func() { h.desk.change(netip.Addr{}, 0) }, 0, natpmp.Response{Code: natpmp.NetworkFailure}},
	} {
		c.change()
		// Each family by a run of its own, since the later one is repeated less and less often.
		if from := hear(four, natpmp.AppendResponse(nil, &c.nat)); !slices.Equal(from, []string{gateway4, gateway4b}) {
			t.Errorf("announced by %v", from)
		}
		text := pcp.AppendResponse(nil, &pcp.Response{Epoch: c.epoch})
		if from := hear(four, text); !slices.Equal(from, []string{gateway4, gateway4b}) {
			t.Errorf("announced by %v", from)
		}
		if from := hear(six, text); !slices.Equal(from, []string{gateway6, router.String()}) {
			t.Errorf("announced by %v", from)
		}
	}
	for _, conn := range []net.PacketConn{outside4, outside6} {
		_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, from, err := conn.ReadFrom(make([]byte, 100)); err == nil {
			t.Errorf("the WAN hears %d octets from %v", n, from)
		}
	}
}

// TestInterfacesComeAndGo has a second LAN while the server runs.
func TestInterfacesComeAndGo(t *testing.T) {
	h := newHome(t)
	lan := (*h.places.Load())[0]
	guest := h.lab.Node("guest")
	h.lab.Link(netlab.End{Node: h.gateway, Interface: "guests", Addrs: []string{"192.168.2.1/24"}},
		netlab.End{Node: guest, Interface: "eth0", Addrs: []string{"192.168.2.10/24"}})
	c := dialFrom(t, guest, "udp4", "192.168.2.10", "192.168.2.1")
	c.send([]byte{0, 0})
	if b := c.receive(silence); b != nil {
		t.Fatalf("answered with %x", b)
	}
	h.serve(lan, h.place(t, "guests", "192.168.2.1/24"))
	c.ask(requestOf("192.168.2.10"))
	if m, ok := h.desk.ByKey(portmap.Key{Network: 2, Internal: netip.MustParseAddrPort("192.168.2.10:4000")}); !ok || m.Interface != "guests" {
		t.Errorf("the mapping is %+v", m)
	}
	h.serve(lan)
	for c.receive(silence) != nil {
	}
	c.send([]byte{0, 0})
	if b := c.receive(silence); b != nil {
		t.Errorf("answered with %x", b)
	}
	h.lab.Gone(guest)
	dialFrom(t, h.client, "udp4", client4, gateway4).ask([]byte{0, 0})
}

// TestNatpmpc is miniupnp's client.
func TestNatpmpc(t *testing.T) {
	if _, err := exec.LookPath("natpmpc"); err != nil {
		if os.Getenv(netlab.RequireEnv) == "require" {
			t.Fatal(err)
		}
		t.Skip("natpmpc is not installed")
	}
	h := newHome(t)
	natpmpc := func(args ...string) string { return h.client.Run(t, "natpmpc", args...) } // it finds the gateway by the default route
	for _, c := range []struct{ args, want string }{
		{"", "Public IP address : " + wan4},
		{"-g " + gateway4b, "Public IP address : " + wan4},
		{"-a 8999 8080 tcp 3600", "Mapped public port 8999 protocol TCP to local port 8080 lifetime 3600"},
		{"-a 8999 8081 tcp 3600", "Mapped public port 9000 protocol TCP to local port 8081 lifetime 3600"},
		{"-a 8999 8080 udp 60", "Mapped public port 8999 protocol UDP to local port 8080 lifetime 120"},
		{"-a 0 8080 tcp 0", "Mapped public port 0 protocol TCP to local port 8080 lifetime 0"},
	} {
		if out := natpmpc(strings.Fields(c.args)...); !strings.Contains(strings.ReplaceAll(out, "lif"+"time", "lifetime"), c.want) { // it says it so
			t.Errorf("natpmpc %s says\n%swithout %q", c.args, out, c.want)
		}
	}
	if left := h.desk.Of(netip.Addr{}); len(left) != 2 {
		t.Errorf("left are %+v", left)
	}
	natpmpc("-a", "0", "0", "tcp", "0")
	natpmpc("-a", "0", "0", "udp", "0")
	if left := h.desk.Of(netip.Addr{}); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
}
