package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/relay/head"
)

// errandFor is what a head may do for a client that calls f from an address.
func errandFor(t *testing.T, f *forward.Forward, from string) *errand {
	t.Helper()
	r := New(Options{Nodes: func(string) (node.Node, error) { return host.New(), nil }})
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	s := &stream{near: near}
	s.client, s.local = netip.MustParseAddrPort(from), netip.MustParseAddr("127.0.0.1")
	if err := newTask(f).enter(s, f); err != nil {
		t.Fatal(err)
	}
	return newErrand(r, s, f, s.client)
}

func rules(t *testing.T, texts ...string) []forward.Rule {
	t.Helper()
	var list []forward.Rule
	for _, s := range texts {
		r, err := forward.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// A node may let the world call what was to be its loopback: sshd does with GatewayPorts=yes.
func TestLoginOfThoseWhoCallFromBeyond(t *testing.T) {
	f := fwd(t, "p", "127.0.0.1:1080", "socks")
	f.At = "far"
	if errandFor(t, f, "127.0.0.1:5000").NeedsLogin() {
		t.Error("a client of loopback has to log in")
	}
	if !errandFor(t, f, "203.0.113.9:5000").NeedsLogin() {
		t.Error("a client from beyond does not have to log in")
	}
	f.Anyone = true
	if errandFor(t, f, "203.0.113.9:5000").NeedsLogin() {
		t.Error("anyone has to log in")
	}
}

// What a name means is known to the node alone, but for those that every resolver takes for its own machine or for an address.
func TestNamesThatLeadInward(t *testing.T) {
	f := fwd(t, "p", "192.0.2.1:1080", "socks")
	f.Via = "far"
	stranger, local := errandFor(t, f, "203.0.113.9:5000"), errandFor(t, f, "127.0.0.1:5000")
	for _, name := range []string{
		"localhost", "LocalHost.", "a.localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "10.1", "0", "0x7f000001.", "127.0.0.1.",
		"ip6-localhost", "localhost.localdomain",
	} {
		if _, err := stranger.targets(t.Context(), name, 80); !errors.Is(err, head.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := local.targets(t.Context(), name, 80); err != nil {
			t.Errorf("%s, for a client of this host: %v", name, err)
		}
	}
	for _, name := range []string{"example.com", "localhost.example.com", "1.example", "0x7f.example.com", "xn--fa-hia.de", "1e100.net"} {
		if _, err := stranger.targets(t.Context(), name, 80); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.Policy.Permit = rules(t, "localhost:80")
	if _, err := stranger.targets(t.Context(), "localhost", 80); err != nil {
		t.Errorf("localhost, permitted: %v", err)
	}
}

// Who waits for anybody (SOCKS BIND for 0.0.0.0) is called by those alone whom he might call.

func TestBindForAnybody(t *testing.T) {
	f := fwd(t, "p", "127.0.0.1:1080", "socks")
	call := func(l net.Listener) bool {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		accepted := make(chan bool, 1)
		go func() {
			peer, err := l.Accept()
			if err == nil {
				peer.Close()
			}
			accepted <- err == nil
		}()
		_, _ = c.Read(make([]byte, 1)) // until it is closed, here or there
		l.Close()
		return <-accepted
	}
	listen := func(from string) net.Listener {
		l, err := errandFor(t, f, from).Listen(t.Context(), "0.0.0.0", 21)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if !call(listen("127.0.0.1:5000")) {
		t.Error("nobody may call")
	}
	if call(listen("203.0.113.9:5000")) {
		t.Error("this host calls a client from beyond")
	}
	f.Policy.Deny = rules(t, "127.0.0.0/8")
	if call(listen("127.0.0.1:5000")) {
		t.Error("one calls to whom the client may not go")
	}
	f.Policy = forward.Policy{Permit: rules(t, "127.0.0.1:21")}
	if !call(listen("203.0.113.9:5000")) {
		t.Error("one may not call to whom the client may go")
	}
	f.Policy = forward.Policy{Permit: rules(t, "192.0.2.7")}
	if call(listen("127.0.0.1:5000")) {
		t.Error("one calls who is not among the permitted")
	}
}

// A proxy is not called by itself, whichever way its address is written.
func TestProxyLeadsBack(t *testing.T) {
	r := start(t, host.New(), Options{Heads: func(*forward.Forward) head.Head {
		return headFunc(func(context.Context, net.Conn, head.Env) (head.Outcome, error) { return head.Outcome{}, nil })
	}})
	four, every := freePort(t), freePort(t)
	apply(t, r, fwd(t, "four", "127.0.0.1:"+four, "socks"), fwd(t, "every", every, "socks"), fwd(t, "plain", freePort(t), "127.0.0.1:1"))
	for _, test := range []struct {
		addr, port string
		back       bool
	}{
		{"127.0.0.1", four, true}, {"0.0.0.0", four, true}, {"::", four, true}, {"::ffff:127.0.0.1", four, true}, {"127.0.0.2", four, false},
		{"192.0.2.1", four, false}, {"127.0.0.2", every, true}, {"::1", every, true}, {"0.0.0.0", every, true}, {"192.0.2.1", every, false},
	} {
		port, _ := strconv.ParseUint(test.port, 10, 16)
		if back := r.leadsBack(netip.MustParseAddr(test.addr), uint16(port)); back != test.back {
			t.Errorf("%s, port of %s: %v", test.addr, map[bool]string{true: "one address", false: "all"}[test.port == four], back)
		}
	}
}

// Who dials on when the client is gone is not counted: nobody would take that back.
func TestErrandThatIsOver(t *testing.T) {
	f := fwd(t, "p", "127.0.0.1:1080", "socks")
	e := errandFor(t, f, "127.0.0.1:5000")
	if where, reached := e.end(); where != "" || reached {
		t.Errorf("%q, %v", where, reached)
	}
	e.note("192.0.2.1:80", true)
	e.s.task.leave(e.s)
	if s := e.s.task.stats(); s.Open != 0 || s.Total != 0 {
		t.Errorf("%+v", s)
	}
}

// A rule about everything, such as "*:443", says which ports, and not that this host and its networks are among it.
func TestInwardTakesANamedRule(t *testing.T) {
	f := fwd(t, "p", "192.0.2.1:1080", "socks")
	e := errandFor(t, f, "203.0.113.9:5000")
	for rule, want := range map[string]bool{
		"*:443": false, "*": false, "10.1.0.0/16": true, "10.1.0.1:443": true, "db.internal": true, "*.internal:443": true, "0.0.0.0/0": true,
	} {
		f.Policy.Permit = rules(t, rule)
		if err := e.judge("db.internal", netip.MustParseAddr("10.1.0.1"), 443); (err == nil) != want {
			t.Errorf("a private address with %s: %v", rule, err)
		}
	}
	f.Policy.Permit = rules(t, "*:443")
	if err := e.judge("example.com", netip.MustParseAddr("1.1.1.1"), 443); err != nil {
		t.Errorf("a public address: %v", err)
	}
	if err := errandFor(t, f, "127.0.0.1:5000").judge("db.internal", netip.MustParseAddr("10.1.0.1"), 443); err != nil {
		t.Errorf("a client of this host: %v", err)
	}
}
