package kernel_test

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// TestIndependentUDP asks two servers which port a console leaves from, and has a third party call it there, as STUN
// (RFC 5780, section 4.3 and 4.4) would tell the kind of NAT.
func TestIndependentUDP(t *testing.T) {
	h := newHome(t)
	for _, n := range []*netlab.Node{h.one, h.two} {
		n.Echo(t, "[::]:3478")
		n.Echo(t, "[::]:3479")
	}
	c, g := newCarrier(t, h.gate), newGateway(t, h.gate, "")
	spec := h.router()
	spec.Independent = true
	forwards := fwds(t, "taken udp/6000 "+zoe4+":6000", "lease udp/7000 "+bob4+":7001 outbound")
	c.apply(forwards)
	g.apply(spec, nil, forwards)
	ann, bob := newPhone(t, h.ann, at(ann4, 3074)), newPhone(t, h.bob, at(bob4, 3074))
	first := map[phone]netip.AddrPort{}
	for _, server := range []string{at(one4, 3478), at(two4, 3478), at(one4, 3479), at(two4, 3479)} {
		for _, p := range []phone{ann, bob} {
			me := p.ask(server)
			if was, asked := first[p]; asked && me != was {
				t.Errorf("%s is %s for %s, and was %s", p.conn.LocalAddr(), me, server, was)
			}
			first[p] = me
		}
	}
	if first[ann] == first[bob] || first[ann].String() != at(gate4, 3074) || first[bob].Port()%2 != 0 {
		t.Errorf("seen as %v and %v", first[ann], first[bob])
	}
	stranger := newPhone(t, h.two, at(two4, 9999))
	for p, me := range first {
		stranger.send(me.String(), "hello "+me.String())
		if text, from := p.receive(); text != "hello "+me.String() || from != at(two4, 9999) {
			t.Errorf("%s received %q from %q", me, text, from)
		}
		p.send(at(two4, 9999), "and back")
		if text, from := stranger.receive(); text != "and back" || from != me.String() {
			t.Errorf("the stranger received %q from %q, expected it from %s", text, from, me)
		}
	}
	// The LAN's own call each other by what they are outside, and are seen as that.
	ann.send(first[bob].String(), "hairpin")
	if text, from := bob.receive(); text != "hairpin" || from != first[ann].String() {
		t.Errorf("bob received %q from %q, expected it from %s", text, from, first[ann])
	}
	bob.send(first[ann].String(), "and back")
	if text, from := ann.receive(); text != "and back" || from != first[bob].String() {
		t.Errorf("ann received %q from %q, expected it from %s", text, from, first[bob])
	}
	// A port that a forward has, or a lease, is not learned: the forward keeps its traffic, and nobody else leaves from it.
	if got := newPhone(t, h.ann, at(ann4, 6000)).ask(at(one4, 3478)); got.Port() == 6000 {
		t.Errorf("left from the port of a forward: %s", got)
	}
	if got := newPhone(t, h.bob, at(bob4, 7001)).ask(at(one4, 3478)); got.Port() != 7000 {
		t.Errorf("the lease's client left from %s", got)
	}
	if got := newPhone(t, h.ann, at(ann4, 7000)).ask(at(one4, 3478)); got.Port() == 7000 {
		t.Errorf("left from the port of a lease: %s", got)
	}
	// What nobody has sent from stays closed, and a program of the gateway keeps its port.
	h.gate.Echo(t, "[::]:3075")
	closed(t, visit{by: h.one, to: udp(gate4, 3080)}, visit{by: h.one, to: udp(gate4, 3075)})

	// IPv6 is not translated: whoever has sent something out is reached there.
	six := newPhone(t, h.ann, at(ann6, 3074))
	stranger6 := newPhone(t, h.two, at(two6, 9999))
	stranger6.send(at(ann6, 3074), "too early")
	if got := six.ask(at(one6, 3478)); got.String() != at(ann6, 3074) {
		t.Errorf("seen as %s", got)
	}
	stranger6.send(at(ann6, 3074), "hello")
	if text, from := six.receive(); text != "hello" || from != at(two6, 9999) {
		t.Errorf("received %q from %q", text, from)
	}
	// The DMZ is not the outside.
	zoe6 := newPhone(t, h.zoe, at(zoe6, 1111))
	zoe6.send(at(ann6, 3074), "from the dmz")
	six.silent("from the DMZ")

	// A forward that takes a learned port has it at once.
	c.apply(and(forwards, fwds(t, "new udp/3074 "+zoe4+":3074 from="+one4+"/32")...))
	g.apply(spec, nil, and(forwards, fwds(t, "new udp/3074 "+zoe4+":3074 from="+one4+"/32")...))
	newPhone(t, h.two, at(two4, 9998)).send(at(gate4, 3074), "not admitted")
	ann.silent("at the port of a forward")
	// Who had it leaves from another, and the same one everywhere.
	h.one.Echo(t, "[::]:3480")
	h.two.Echo(t, "[::]:3480")
	if a, b := ann.ask(at(one4, 3480)), ann.ask(at(two4, 3480)); a.Port() == 3074 || a != b {
		t.Errorf("ann has lost her port, and is %s and %s", a, b)
	}

	// The rules written anew, a table adopted: what was learned stays.
	next := newGateway(t, h.gate, "")
	_ = h.gate.Do(g.Close)
	next.apply(spec, listens("22"), nil)
	stranger.send(first[bob].String(), "still there?")
	if text, _ := bob.receive(); text != "still there?" {
		t.Errorf("received %q", text)
	}
}

// TestIndependentTCP does the same with connections from one port (RFC 5382, REQ-1 and REQ-3).
func TestIndependentTCP(t *testing.T) {
	h := newHome(t)
	h.one.Echo(t, "[::]:3478")
	h.two.Echo(t, "[::]:3478")
	g := newGateway(t, h.gate, "")
	spec := h.router()
	spec.Independent = true
	g.apply(spec, nil, nil)
	seen := map[*netlab.Node]string{}
	for _, server := range []string{at(one4, 3478), at(two4, 3478)} {
		for n, addr := range map[*netlab.Node]string{h.ann: at(ann4, 5000), h.bob: at(bob4, 5000)} {
			conn, err := dialAgain(n, addr, server)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			buf := make([]byte, 200)
			k, _ := conn.Read(buf)
			_, me, _ := strings.Cut(strings.TrimSpace(string(buf[:k])), "you are ")
			if was := seen[n]; was != "" && was != me {
				t.Errorf("%s is %s for %s, and was %s", n, me, server, was)
			}
			seen[n] = me
		}
	}
	if seen[h.ann] == seen[h.bob] {
		t.Errorf("both are %s", seen[h.ann])
	}
	var ln net.Listener
	err := h.bob.Do(func() (err error) {
		ln, err = (&net.ListenConfig{Control: reusePort}).Listen(context.Background(), "tcp", at(bob4, 5000))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := h.two.Dial(ctx, "tcp", seen[h.bob])
	if err != nil {
		t.Fatalf("a third party calls %s: %v", seen[h.bob], err)
	}
	conn.Close()
}

// dialAgain connects from a port that other connections are from.
func dialAgain(n *netlab.Node, from, to string) (conn net.Conn, err error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)), Control: reusePort, Timeout: 20 * time.Second}
	err = n.Do(func() error { conn, err = d.Dial("tcp", to); return err })
	return conn, err
}

func reusePort(_, _ string, raw syscall.RawConn) (err error) {
	_ = raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	})
	return err
}

// TestIndependentAtOnce has two hosts send their first packets from the same ports at the same moment: each gets a port of its own.
func TestIndependentAtOnce(t *testing.T) {
	h := newHome(t)
	h.one.Echo(t, "[::]:3478")
	g := newGateway(t, h.gate, "")
	spec := h.router()
	spec.Independent = true
	g.apply(spec, nil, nil)
	const first, count = 20000, 300
	var hosts [2][]phone
	for port := first; port < first+count; port++ {
		hosts[0], hosts[1] = append(hosts[0], newPhone(t, h.ann, at(ann4, port))), append(hosts[1], newPhone(t, h.bob, at(bob4, port)))
	}
	var both sync.WaitGroup
	var arrived atomic.Int64
	for _, phones := range hosts {
		both.Go(func() {
			for i, p := range phones {
				arrived.Add(1)
				for spin := 0; arrived.Load() < 2*int64(i+1); spin++ { // they meet before each packet
					if spin > 100_000 { // on one processor they never do
						runtime.Gosched()
					}
				}
				p.send(at(one4, 9), "to nobody: a server would not keep up")
			}
		})
	}
	both.Wait()
	seen := map[netip.AddrPort]string{}
	for i := range count {
		for _, phones := range hosts {
			p := phones[i]
			me := p.ask(at(one4, 3478))
			if other := seen[me]; other != "" {
				t.Errorf("%s and %s are both %s", p.conn.LocalAddr(), other, me)
			}
			seen[me] = p.conn.LocalAddr().String()
		}
	}
	list := func(name string) int {
		return strings.Count(h.gate.Run(t, "nft", "list", "map", "inet", kernel.DefaultGatewayTable, name), "expires")
	}
	if owners, mapped := list("owner4_udp"), list("mapped4_udp"); owners != 2*count || mapped != 2*count {
		t.Errorf("%d external ports have an owner, and %d internal ones an external port; want %d", owners, mapped, 2*count)
	}
}
