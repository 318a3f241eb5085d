package kernel_test

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestGatewayProtects has a gateway with everything closed, but for a forward by the kernel, one by the relay, a redirect to
// the gateway itself, and a port that is open.
func TestGatewayProtects(t *testing.T) {
	h := newHome(t)
	for _, n := range []*netlab.Node{h.one, h.ann, h.zoe, h.gate} {
		n.Echo(t, "[::]:8080")
	}
	h.gate.Echo(t, "[::]:2222") // sshd
	h.gate.Echo(t, "[::]:90")   // the relay
	h.gate.Echo(t, "[::]:53")
	h.gate.Echo(t, "[::]:8443")
	c, g := newCarrier(t, h.gate), newGateway(t, h.gate, t.TempDir())
	forwards := fwds(t, "web tcp+udp/80 "+ann4+":8080", "zone tcp+udp/81 "+zoe4+":8080", "relayed tcp+udp/90 "+ann4+":8080 hold", "app tcp+udp/443 :8443",
		"few 91 "+ann4+":8080 hold from="+two4+"/32", "outward 192.168.1.1:5000 "+one4+":8080")
	h.gate.Echo(t, "[::]:91")
	c.apply(forwards)
	g.apply(h.router(), listens("2222"), forwards)

	for _, network := range []string{"tcp", "udp"} {
		for port, node := range map[int]string{80: "ann", 81: "zoe", 90: "gate", 443: "gate"} {
			visit{by: h.one, to: network + "/" + at(gate4, port), node: node, seen: "client"}.check(t)
		}
	}
	for _, v := range []visit{
		{by: h.one, to: tcp(gate4, 2222), node: "gate"}, {by: h.one, to: tcp(gate6, 2222), node: "gate"}, {by: h.one, to: tcp(gate6, 90), node: "gate"},
		{by: h.two, to: tcp(gate4, 91), node: "gate"},
		// Out, translated where it is IPv4.
		{by: h.ann, to: tcp(one4, 8080), node: "one", seen: "host"}, {by: h.ann, to: udp(one4, 8080), node: "one", seen: "host"},
		{by: h.ann, to: tcp(one6, 8080), node: "one", seen: "client"}, {by: h.zoe, to: udp(one4, 8080), node: "one", seen: "host"},
		{by: h.zoe, to: tcp(one6, 8080), node: "one", seen: "client"}, {by: h.gate, to: tcp(one4, 8080), node: "one", seen: "client"},
		// Inside, and to the gateway.
		{by: h.ann, to: tcp(zoe4, 8080), node: "zoe", seen: "client"}, {by: h.ann, to: tcp("192.168.1.1", 8080), node: "gate"},
		{by: h.gate, to: tcp("127.0.0.1", 8080), node: "gate"}, {by: h.gate, to: tcp(zoe4, 8080), node: "zoe"},
		// The DMZ reaches what anybody reaches, and DNS.
		{by: h.zoe, to: udp("192.168.2.1", 53), node: "gate"}, {by: h.zoe, to: tcp("2001:db8:3::1", 53), node: "gate"},
		{by: h.zoe, to: tcp(gate4, 80), node: "ann"}, {by: h.zoe, to: tcp("192.168.2.1", 90), node: "gate"},
		{by: h.ann, to: tcp(gate4, 81), node: "zoe"},
		// By forwards that the LAN calls: back into it, and out.
		{by: h.bob, to: tcp(gate4, 80), node: "ann", seen: "host"}, {by: h.ann, to: udp(gate4, 80), node: "ann", seen: "host"},
		{by: h.ann, to: tcp("192.168.1.1", 5000), node: "one", seen: "host"},
	} {
		v.check(t)
	}
	var shut []visit
	for _, network := range []string{"tcp/", "udp/"} {
		for _, to := range []string{at(gate4, 8080), at(gate6, 8080), at(gate4, 53), at(ann4, 8080), at(ann6, 8080), at(zoe4, 8080), at(zoe6, 8080), at("192.168.1.1", 8080),
			at("2001:db8:2::1", 8080), at(gate4, 8443)} {
			shut = append(shut, visit{by: h.one, to: network + to})
		}
		for _, to := range []string{at(ann4, 8080), at(ann6, 8080), at("192.168.2.1", 8080), at(gate4, 8080), at("192.168.1.1", 8080), at("2001:db8:3::1", 8080)} {
			shut = append(shut, visit{by: h.zoe, to: network + to})
		}
	}
	shut = append(shut, visit{by: h.one, to: tcp(gate4, 91)}, visit{by: h.zoe, to: tcp(gate4, 91)})
	closed(t, shut...)
	for _, to := range []string{gate4, gate6, ann6, zoe6} {
		pings(t, h.one, to, true)
	}
	for _, to := range []string{ann4, zoe4} { // who is translated is not to be found
		pings(t, h.one, to, false)
	}
	pings(t, h.ann, one4, true)
	pings(t, h.ann, one6, true)
	pings(t, h.zoe, one4, true)
	pings(t, h.zoe, "192.168.2.1", true)
	pings(t, h.zoe, ann4, false)

	// A forward that goes takes its hole with it; one that comes opens its own and no other.
	forwards = fwds(t, "web tcp+udp/80 "+ann4+":8080", "dark tcp+udp/8080 "+ann4+":8080 hold")
	c.apply(forwards)
	g.apply(h.router(), nil, forwards)
	visit{by: h.one, to: tcp(gate4, 80), node: "ann"}.check(t)
	visit{by: h.one, to: tcp(gate4, 8080), node: "gate"}.check(t)
	closed(t, visit{by: h.one, to: tcp(gate4, 90)}, visit{by: h.one, to: udp(gate4, 90)}, visit{by: h.one, to: tcp(gate4, 443)}, visit{by: h.one, to: tcp(gate4, 2222)})
}

// TestGatewayAgainstNmap has a scanner say which ports are open.
func TestGatewayAgainstNmap(t *testing.T) {
	if _, err := exec.LookPath("nmap"); err != nil {
		t.Skip("nmap is not installed")
	}
	h := newHome(t)
	h.ann.Echo(t, "[::]:8080")
	h.gate.Echo(t, "[::]:22")
	h.gate.Echo(t, "[::]:1900")
	c, g := newCarrier(t, h.gate), newGateway(t, h.gate, "")
	forwards := fwds(t, "web 80 "+ann4+":8080")
	c.apply(forwards)
	g.apply(h.router(), nil, forwards)
	out := h.one.Run(t, "nmap", "-n", "-Pn", "-sS", "--max-retries", "0", "--max-rtt-timeout", "200ms", "--initial-rtt-timeout", "100ms", "-p", "22,53,80,443,1900,8080", "-oG", "-", gate4)
	if !strings.Contains(out, "80/open/tcp") || strings.Count(out, "/filtered/") != 5 {
		t.Errorf("nmap says:\n%s", out)
	}
	out = h.one.Run(t, "nmap", "-6", "-n", "-Pn", "-sS", "--max-retries", "0", "--max-rtt-timeout", "200ms", "--initial-rtt-timeout", "100ms", "-p", "22,80,1900", "-oG", "-", gate6)
	if strings.Count(out, "/filtered/") != 3 {
		t.Errorf("nmap says:\n%s", out)
	}
}

// TestGatewayErrors has errors about sessions come through: a port that nobody has, and a path that is too narrow.
func TestGatewayErrors(t *testing.T) {
	h := newHome(t)
	g := newGateway(t, h.gate, "")
	g.apply(h.router(), nil, nil)
	for _, to := range []string{at(one4, 9), at(one6, 9)} {
		conn, err := h.ann.Dial(t.Context(), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("x"))
		if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("to %s: %v", to, err)
		}
	}
	h.gate.Run(t, "ip", "link", "set", "wan", "mtu", "1400")
	for _, to := range []string{one4, one6} {
		out, _ := h.ann.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1420", to).CombinedOutput()
		if text := strings.ToLower(string(out)); !strings.Contains(text, "mtu=1400") && !strings.Contains(text, "mtu = 1400") && !strings.Contains(text, "mtu: 1400") {
			t.Errorf("%s", out)
		}
	}
}

// TestGatewayNeighbours forgets the neighbours on the WAN: they are found again.
func TestGatewayNeighbours(t *testing.T) {
	h := newHome(t)
	g := newGateway(t, h.gate, "")
	g.apply(h.router(), nil, nil)
	for _, n := range []*netlab.Node{h.gate, h.one} {
		n.Run(t, "ip", "-6", "neigh", "flush", "all")
	}
	pings(t, h.one, gate6, true)
	h.gate.Run(t, "ip", "-6", "neigh", "flush", "all")
	pings(t, h.gate, one6, true)
}

// TestGatewayTakesItsOwnAddress has what configures the WAN come through: DHCP of both families, and router advertisements,
// which the kernel would not take of itself once it is a router.
func TestGatewayTakesItsOwnAddress(t *testing.T) {
	h := newHome(t)
	h.gate.Sysctl(t, "net.ipv6.conf.wan.accept_ra", "1")
	g := newGateway(t, h.gate, "")
	g.apply(h.router(), nil, nil)
	for _, v := range []struct{ client, server, to string }{{at("0.0.0.0", 68), at(one4, 67), at(gate4, 68)}, {at("::", 546), at(one6, 547), at(gate6, 546)}} {
		client := newPhone(t, h.gate, v.client)
		newPhone(t, h.one, v.server).send(v.to, "an offer")
		if text, from := client.receive(); text != "an offer" || from != v.server {
			t.Errorf("at %s: %q from %q", v.to, text, from)
		}
	}
	var raw net.PacketConn
	on(t, h.one, "open a raw socket", func() (err error) {
		raw, err = net.ListenPacket("ip6:ipv6-icmp", "::")
		return err
	})
	defer raw.Close()
	conn, err := raw.(*net.IPConn).SyscallConn()
	if err == nil {
		err = conn.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255) })
	}
	if err != nil {
		t.Fatal(err)
	}
	advertisement := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // RFC 4861, section 4.2: a router for 1800 s
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(h.gate.Run(t, "ip", "-6", "route", "show", "default"), "proto ra") {
		if time.Now().After(deadline) {
			t.Fatal("the router advertisement was not taken")
		}
		// Not before the sender has its link-local address.
		_ = h.one.Do(func() error {
			_, err := raw.WriteTo(advertisement, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: "eth0"})
			return err
		})
		time.Sleep(20 * time.Millisecond)
	}
}

// TestGatewayClampsMSS captures what opens sessions over a WAN with a smaller MTU.
func TestGatewayClampsMSS(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("tcpdump is not installed")
	}
	h := newHome(t)
	for _, n := range []*netlab.Node{h.one, h.ann} {
		n.Echo(t, "[::]:8080")
	}
	h.gate.Run(t, "ip", "link", "set", "wan", "mtu", "1400")
	c, g := newCarrier(t, h.gate), newGateway(t, h.gate, "")
	forwards := fwds(t, "web 80 "+ann4+":8080", "hole ["+ann6+"]:8080 "+ann6)
	c.apply(forwards)
	g.apply(h.router(), nil, forwards)
	for _, v := range []struct {
		on   *netlab.Node
		call visit
		mss  int
	}{
		{h.one, visit{by: h.ann, to: tcp(one4, 8080), node: "one"}, 1400 - 40}, {h.one, visit{by: h.ann, to: tcp(one6, 8080), node: "one"}, 1400 - 60},
		{h.ann, visit{by: h.one, to: tcp(gate4, 80), node: "ann"}, 1400 - 40}, {h.ann, visit{by: h.one, to: tcp(ann6, 8080), node: "ann"}, 1400 - 60},
	} {
		caller, answer := capture(t, v.on, "tcp[13] & 18 = 2 or ip6[53] & 18 = 2"), capture(t, v.call.by, "tcp[13] & 18 = 18 or ip6[53] & 18 = 18")
		v.call.check(t)
		for what, p := range map[string]*netlab.Process{"SYN": caller, "SYN and ACK": answer} {
			_, got, _ := strings.Cut(p.WaitOutput(t, `mss \d+[,\]]`), " ")
			if n, _ := strconv.Atoi(got[:len(got)-1]); n != v.mss {
				t.Errorf("%s → %s: the %s that arrives says mss %d, expected %d", v.call.by, v.call.to, what, n, v.mss)
			}
		}
	}
}

// capture starts to write down packets of a kind, and waits until it does.
func capture(t *testing.T, n *netlab.Node, filter string) *netlab.Process {
	t.Helper()
	p := n.Start(t, "tcpdump", "-n", "-i", "eth0", "-U", "-l", "-v", "--immediate-mode", filter)
	p.WaitOutput(t, "listening on")
	return p
}

// TestGatewayAddress has everything leave from addresses that were asked for, of both families.
func TestGatewayAddress(t *testing.T) {
	h := newHome(t)
	const extra4, extra6 = "203.0.113.77", "2001:db8:1::77"
	h.gate.Address(t, "wan", extra4+"/24", extra6+"/64")
	h.one.Echo(t, "[::]:8080")
	g := newGateway(t, h.gate, "")
	spec := h.router()
	spec.Masquerade, spec.SNAT = false, []netip.Addr{netip.MustParseAddr(extra4), netip.MustParseAddr(extra6)}
	lease := fwds(t, "a udp/4000 "+ann4+":3074 outbound", "b udp/[::]:4001 ["+ann6+"]:3074 outbound")
	g.apply(spec, nil, lease)
	for to, want := range map[string]string{at(one4, 8080): extra4, at(one6, 8080): extra6} {
		got, err := h.ann.Call(t.Context(), "tcp", to)
		if err != nil || got.You.Addr().String() != want {
			t.Errorf("to %s: seen as %v (%v), expected %s", to, got.You, err, want)
		}
	}
	if got := newPhone(t, h.ann, at(ann4, 3074)).ask(at(one4, 8080)); got.String() != at(extra4, 4000) {
		t.Errorf("seen as %s", got)
	}
	if got := newPhone(t, h.ann, at(ann6, 3074)).ask(at(one6, 8080)); got.String() != at(extra6, 4001) {
		t.Errorf("seen as %s", got)
	}
}

// TestLeasePorts is two consoles of the same make: each has a port of its own outside, both ways, whoever calls first.
func TestLeasePorts(t *testing.T) {
	h := newHome(t)
	h.one.Echo(t, "[::]:8080")
	h.two.Echo(t, "[::]:8080")
	c, g := newCarrier(t, h.gate), newGateway(t, h.gate, "")
	forwards := fwds(t, "a tcp+udp/3074 "+ann4+":3074 outbound", "b tcp+udp/3075 "+bob4+":3074 outbound")
	c.apply(forwards)
	g.apply(h.router(), nil, forwards)
	ann, bob, zoe := newPhone(t, h.ann, at(ann4, 3074)), newPhone(t, h.bob, at(bob4, 3074)), newPhone(t, h.zoe, at(zoe4, 3074))
	for _, server := range []string{at(one4, 8080), at(two4, 8080)} {
		// Somebody without a lease calls first, and does not get a port that has an owner.
		if got := zoe.ask(server); got.Port() == 3074 || got.Port() == 3075 {
			t.Errorf("zoe left from %s", got)
		}
		if a, b := ann.ask(server), bob.ask(server); a.String() != at(gate4, 3074) || b.String() != at(gate4, 3075) {
			t.Errorf("at %s they are %s and %s", server, a, b)
		}
	}
	caller := newPhone(t, h.two, at(two4, 5555))
	for port, p := range map[int]phone{3074: ann, 3075: bob} {
		caller.send(at(gate4, port), fmt.Sprintf("for %d", port))
		if text, from := p.receive(); text != fmt.Sprintf("for %d", port) || from != at(two4, 5555) {
			t.Errorf("%q from %s", text, from)
		}
	}
	// The LAN's own call each other by their leases, and are seen as what they are outside; who has no lease is this host.
	ann.send(at(gate4, 3075), "hairpin")
	if text, from := bob.receive(); text != "hairpin" || from != at(gate4, 3074) {
		t.Errorf("bob received %q from %s", text, from)
	}
	bob.send(at(gate4, 3074), "and back")
	if text, from := ann.receive(); text != "and back" || from != at(gate4, 3075) {
		t.Errorf("ann received %q from %s", text, from)
	}
	newPhone(t, h.ann, at(ann4, 3079)).send(at(gate4, 3075), "without a lease")
	if text, from := bob.receive(); text != "without a lease" || !strings.HasPrefix(from, "192.168.1.1:") {
		t.Errorf("bob received %q from %s", text, from)
	}
	// Two leases for one port: who came first decides, and then the other.
	more := append(forwards, fwds(t, "c udp/4000 "+ann4+":3074 outbound")...)
	g.apply(h.router(), nil, more)
	g.apply(h.router(), nil, more[1:])
	h.one.Echo(t, "[::]:8081")
	if got := ann.ask(at(one4, 8081)); got.String() != at(gate4, 4000) {
		t.Errorf("after the first lease ended: %s", got)
	}
}
