package kernel_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A home is a network behind a gateway that is not one yet. Everybody has a route to everybody, as a neighbour on the WAN
// with bad intentions would set up: what does not come through was stopped.
//
//	one, two (203.0.113.10, .20) ── wan ┐            ┌ lan ── ann, bob (192.168.1.10, .20; 2001:db8:2::10, ::20)
//	                                     └─ gate (.1)─┤
//	                                                  └ dmz ── zoe (192.168.2.10; 2001:db8:3::10)
type home struct {
	*netlab.Lab
	one, two, gate, ann, bob, zoe *netlab.Node
	lan, dmz                      *netlab.Switch
}

const (
	ann4, ann6   = "192.168.1.10", "2001:db8:2::10"
	bob4, bob6   = "192.168.1.20", "2001:db8:2::20"
	zoe4, zoe6   = "192.168.2.10", "2001:db8:3::10"
	gate4, gate6 = netlab.RouterWAN4, netlab.RouterWAN6
	one4, one6   = netlab.Client4, netlab.Client6
	two4, two6   = netlab.Client4b, netlab.Client6b
)

func newHome(t *testing.T) *home {
	t.Helper()
	t.Parallel() // each has namespaces of its own, and waits for what does not come
	lab := netlab.New(t)
	h := &home{Lab: lab, one: lab.Node("one"), two: lab.Node("two"), gate: lab.Node("gate"), ann: lab.Node("ann"), bob: lab.Node("bob"), zoe: lab.Node("zoe")}
	wan := lab.Switch("wan")
	h.lan, h.dmz = lab.Switch("lan"), lab.Switch("dmz")
	end := func(n *netlab.Node, iface, addr4, addr6 string) netlab.End {
		return netlab.End{Node: n, Interface: iface, Addrs: []string{addr4 + "/24", addr6 + "/64"}}
	}
	wan.Attach(end(h.one, "eth0", one4, one6))
	wan.Attach(end(h.two, "eth0", two4, two6))
	wan.Attach(end(h.gate, "wan", gate4, gate6))
	h.lan.Attach(end(h.gate, "lan", "192.168.1.1", "2001:db8:2::1"))
	h.lan.Attach(end(h.ann, "eth0", ann4, ann6))
	h.lan.Attach(end(h.bob, "eth0", bob4, bob6))
	h.dmz.Attach(end(h.gate, "dmz", "192.168.2.1", "2001:db8:3::1"))
	h.dmz.Attach(end(h.zoe, "eth0", zoe4, zoe6))
	for _, n := range []*netlab.Node{h.one, h.two} {
		n.Route(t, "default", gate4)
		n.Route(t, "default", gate6)
	}
	for _, n := range []*netlab.Node{h.ann, h.bob} {
		n.Route(t, "default", "192.168.1.1")
		n.Route(t, "default", "2001:db8:2::1")
	}
	h.zoe.Route(t, "default", "192.168.2.1")
	h.zoe.Route(t, "default", "2001:db8:3::1")
	return h
}

// router is the usual gateway.
func (h *home) router() *forward.Gateway {
	return &forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, DMZ: []string{"dmz"}, Masquerade: true, Protect: true, ClampMSS: true}
}

// closed checks that nobody answers any of the visits. They are made at once, since each takes its time.
func closed(t *testing.T, visits ...visit) {
	t.Helper()
	const patience = 400 * time.Millisecond // a slow machine makes the test see less, not fail
	var all sync.WaitGroup
	for _, v := range visits {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			network, addr, _ := strings.Cut(v.to, "/")
			if got, err := v.by.CallFrom(ctx, network, v.from, addr); err == nil {
				t.Errorf("%s → %s: answered by %s, expected nobody", v.by, v.to, got.Node)
			}
		})
	}
	all.Wait()
}

// pings checks that the host answers to a ping, or does not.
func pings(t *testing.T, from *netlab.Node, to string, answers bool) {
	t.Helper()
	wait := "1"
	if answers { // which may take long on a machine with much to do
		wait = "10"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	err := from.Command(ctx, "ping", "-n", "-c", "1", "-W", wait, to).Run()
	if (err == nil) != answers {
		t.Errorf("%s pings %s: %v", from, to, err)
	}
}

// sysctl reads a setting of a host.
func sysctl(t *testing.T, n *netlab.Node, key string) (value string) {
	t.Helper()
	_ = n.Do(func() error {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		if err != nil {
			t.Error(err)
		}
		value = strings.TrimSpace(string(b))
		return nil
	})
	return value
}

// A phone is a UDP socket from which many are called, as of a console.
type phone struct {
	t    *testing.T
	conn net.PacketConn
}

func newPhone(t *testing.T, n *netlab.Node, addr string) phone {
	t.Helper()
	conn, err := n.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return phone{t, conn}
}

// ask sends a datagram to an echo server, and returns as whom it saw the phone.
func (p phone) ask(to string) netip.AddrPort {
	p.t.Helper()
	p.send(to, "who am I?")
	text, _ := p.receive()
	_, after, _ := strings.Cut(text, "you are ")
	me, _, _ := strings.Cut(after, "\n")
	addr, err := netip.ParseAddrPort(me)
	if err != nil {
		p.t.Fatalf("answer of %s: %q", to, text)
	}
	return addr
}

func (p phone) send(to, text string) {
	p.t.Helper()
	if _, err := p.conn.WriteTo([]byte(text), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
		p.t.Fatal(err)
	}
}

// receive waits for a datagram, and returns it and who sent it; nothing is "".
func (p phone) receive() (text, from string) {
	p.t.Helper()
	return p.within(10 * time.Second)
}

// silent checks that no datagram comes, in a while.
func (p phone) silent(why string) {
	p.t.Helper()
	if text, from := p.within(300 * time.Millisecond); text != "" {
		p.t.Errorf("%s: received %q from %s", why, text, from)
	}
}

func (p phone) within(patience time.Duration) (text, from string) {
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 2048)
	n, addr, err := p.conn.ReadFrom(buf)
	if err != nil {
		return "", ""
	}
	return string(buf[:n]), addr.String()
}

func at(addr string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String()
}

func tcp(addr string, port int) string { return fmt.Sprintf("tcp/%s", at(addr, port)) }
func udp(addr string, port int) string { return fmt.Sprintf("udp/%s", at(addr, port)) }

// soon is when a test gives up waiting for what is not to come.
func soon() time.Time { return time.Now().Add(500 * time.Millisecond) }
