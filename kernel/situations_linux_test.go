package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// fwd makes a forward for the kernel from "name listen to key=value…".
func fwd(t testing.TB, spec string) *forward.Forward {
	t.Helper()
	words := strings.Fields(spec)
	f := &forward.Forward{Name: words[0], Carry: forward.CarryKernel}
	var err error
	if f.Listen, err = forward.ParseListen(words[1]); err != nil {
		t.Fatal(err)
	}
	for s := range strings.SplitSeq(words[2], ",") {
		target, err := forward.ParseTarget(s)
		if err != nil {
			t.Fatal(err)
		}
		f.To = append(f.To, target)
	}
	for _, w := range words[3:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "from":
			f.From = prefixes(t, value)
		case "except":
			f.Except = prefixes(t, value)
		case "interface":
			f.Interface = value
		case "source":
			if f.Source, err = forward.ParseSource(value); err != nil {
				t.Fatal(err)
			}
		case "balance":
			if f.Balance, err = forward.ParseBalance(value); err != nil {
				t.Fatal(err)
			}
		case "helper":
			if f.Helper, err = forward.ParseHelper(value); err != nil {
				t.Fatal(err)
			}
		case "hold":
			f.Carry = forward.CarryRelay
		case "outbound":
			f.Outbound = true
		}
	}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	return f
}

func prefixes(t testing.TB, list string) (out []netip.Prefix) {
	for s := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func fwds(t testing.TB, specs ...string) []*forward.Forward {
	t.Helper()
	var out []*forward.Forward
	for _, s := range specs {
		out = append(out, fwd(t, s))
	}
	slices.SortFunc(out, func(a, b *forward.Forward) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// carrier is a Carrier that works in the topology's host.
type carrier struct {
	*kernel.Carrier
	t    testing.TB
	host *netlab.Node
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newCarrier(t testing.TB, host *netlab.Node) carrier {
	c := carrier{kernel.New(kernel.Options{Log: testLog(t)}), t, host}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (c carrier) apply(want []*forward.Forward) {
	c.t.Helper()
	_ = c.host.Do(func() error {
		for name, err := range c.Apply(context.Background(), forward.ListOf(want...)) {
			c.t.Errorf("%s: %v", name, err)
		}
		return nil
	})
}

func (c carrier) stats() (s map[string]forward.Stats) {
	_ = c.host.Do(func() error { s = c.Stats(); return nil })
	return s
}

// A visit is a call and what must come of it.
type visit struct {
	by   *netlab.Node
	from string // the caller's own address; "" is any
	to   string // "tcp/addr:port" or "udp/…"
	node string // the node that answers, or several, one of which does: "server peer"; "" is nobody
	seen string // what the server sees: "client" (the caller's own address), "host" (not the caller's), "" (either)
}

func (v visit) check(t *testing.T) {
	t.Helper()
	network, addr, _ := strings.Cut(v.to, "/")
	got, err := v.by.CallFrom(context.Background(), network, v.from, addr)
	switch {
	case v.node == "" && err == nil:
		t.Errorf("%s → %s: answered by %s, expected nobody", v.by, v.to, got.Node)
	case v.node == "":
	case err != nil:
		t.Errorf("%s → %s: %v", v.by, v.to, err)
	case !slices.Contains(strings.Fields(v.node), got.Node):
		t.Errorf("%s → %s: answered by %s, expected %s", v.by, v.to, got.Node, v.node)
	case v.seen == "client" && got.You != got.Me:
		t.Errorf("%s → %s: the server saw %s, the client is %s", v.by, v.to, got.You, got.Me)
	case v.seen == "host" && got.You.Addr() == got.Me.Addr():
		t.Errorf("%s → %s: the server saw the client's own address %s", v.by, v.to, got.You)
	}
}

// both gives a visit's address for IPv4 and IPv6.
func both(network, addr4, addr6 string, port int) []string {
	return []string{fmt.Sprintf("%s/%s:%d", network, addr4, port), fmt.Sprintf("%s/[%s]:%d", network, addr6, port)}
}

func TestGateway(t *testing.T) {
	lab := netlab.Gateway(t)
	for _, port := range []int{8080, 9000, 9003, 27015, 27030, 700, 22} {
		lab.Server.Echo(t, fmt.Sprintf("[::]:%d", port))
	}
	lab.Peer.Echo(t, "[::]:8080")
	lab.Peer.Echo(t, "[::]:5000")
	lab.Host.Echo(t, "[::]:8443")
	lab.Host.Echo(t, "[::]:2222")
	c := newCarrier(t, lab.Host)
	c.apply(fwds(t,
		"web4 tcp+udp/0.0.0.0:80 192.168.1.10:8080",
		"web6 tcp+udp/[::]:80 [fd00:1::10]:8080",
		"shift4 tcp+udp/0.0.0.0:7000-7003 192.168.1.10:9000-9003",
		"shift6 tcp+udp/[::]:7000-7003 [fd00:1::10]:9000-9003",
		"same4 tcp+udp/0.0.0.0:27015-27030 192.168.1.10",
		"same6 tcp+udp/[::]:27015-27030 [fd00:1::10]",
		"onto4 tcp+udp/0.0.0.0:600-609,611 192.168.1.10:700",
		"onto6 tcp+udp/[::]:600-609,611 [fd00:1::10]:700",
		"app tcp+udp/443 :8443",
		"who 3389 192.168.1.10:8080",
		"who-b 3389 192.168.1.20:8080 from="+netlab.Client4b+"/32",
		"wide 3390 192.168.1.10:8080 from=203.0.113.0/24 except="+netlab.Client4b+"/32",
		"lan-only 3391 192.168.1.10:8080 interface=lan",
		"alias 3392 192.168.1.10:8080",
		"alias-wan "+netlab.RouterWAN4+":3392 192.168.1.20:8080",
		"rewritten 3393 192.168.1.10:8080 source=rewrite",
		"held 3394 192.168.1.10:8080 from="+netlab.Client4b+"/32 hold",
		"holder 3394 192.168.1.20:8080",
		"dmz4 tcp+udp/0.0.0.0:* 192.168.1.20",
		"dmz6 tcp+udp/[::]:* fd00:1::20",
	))
	lab.Host.Echo(t, "0.0.0.0:3394")
	for _, network := range []string{"tcp", "udp"} {
		for port, node := range map[int]string{80: "server", 7000: "server", 7003: "server", 27015: "server", 27030: "server", 600: "server",
			609: "server", 611: "server", 5000: "peer", 610: ""} {
			for _, to := range both(network, netlab.RouterWAN4, netlab.RouterWAN6, port) {
				visit{by: lab.Client, to: to, node: node, seen: "client"}.check(t)
			}
		}
		// Hairpin: a host of the LAN, the server itself, and the gateway use the public address.
		for _, to := range both(network, netlab.RouterWAN4, netlab.RouterWAN6, 80) {
			visit{by: lab.Peer, to: to, node: "server", seen: "host"}.check(t)
			visit{by: lab.Server, to: to, node: "server", seen: "host"}.check(t)
			visit{by: lab.Host, to: to, node: "server"}.check(t)
		}
		for _, to := range append(both(network, netlab.RouterWAN4, netlab.RouterWAN6, 443), both(network, "127.0.0.1", "::1", 443)...) {
			if !strings.Contains(to, "127.") && !strings.Contains(to, "::1]:443") || strings.Contains(to, "2001") {
				visit{by: lab.Client, to: to, node: "router", seen: "client"}.check(t)
			}
			visit{by: lab.Host, to: to, node: "router"}.check(t)
		}
		for _, to := range both(network, netlab.RouterWAN4, netlab.RouterWAN6, 2222) { // a program of the gateway keeps its port
			visit{by: lab.Client, to: to, node: "router"}.check(t)
			visit{by: lab.Host, to: to, node: "router"}.check(t)
		}
	}
	at := "tcp/" + netlab.RouterWAN4 + ":"
	for _, v := range []visit{
		{by: lab.Client, from: netlab.Client4, to: at + "3389", node: "server", seen: "client"},
		{by: lab.Client, from: netlab.Client4b, to: at + "3389", node: "peer", seen: "client"},
		{by: lab.Client, from: netlab.Client4, to: at + "3390", node: "server"},
		{by: lab.Client, from: netlab.Client4b, to: at + "3390"},
		{by: lab.Client, to: at + "3391"},
		{by: lab.Peer, to: "tcp/" + netlab.RouterLAN4 + ":3391", node: "server"},
		{by: lab.Client, to: at + "3392", node: "peer"},
		{by: lab.Peer, to: "tcp/" + netlab.RouterLAN4 + ":3392", node: "server"},
		{by: lab.Client, to: at + "3393", node: "server", seen: "host"},
		{by: lab.Client, from: netlab.Client4, to: at + "3394", node: "peer"},
		{by: lab.Client, from: netlab.Client4b, to: at + "3394", node: "router"},
	} {
		v.check(t)
	}
	for name, s := range c.stats() {
		if name != "held" && (s.Total == 0 || s.BytesIn == 0 || s.BytesOut == 0) {
			t.Errorf("%s counted %+v", name, s)
		}
	}
}

func TestOneArmed(t *testing.T) {
	lab := netlab.OneArmed(t)
	lab.Host.Forwarding(t)
	lab.Server.Echo(t, "[::]:8080")
	lab.Peer.Echo(t, "[::]:8080")
	c := newCarrier(t, lab.Host)
	c.apply(fwds(t, "web4 tcp+udp/0.0.0.0:80 192.168.1.10:8080", "web6 tcp+udp/[::]:80 [fd00:1::10]:8080",
		"pair4 tcp+udp/0.0.0.0:81 192.168.1.10:8080,192.168.1.20:8080 balance=round-robin",
		"pair6 tcp+udp/[::]:81 [fd00:1::10]:8080,[fd00:1::20]:8080 balance=round-robin"))
	for _, network := range []string{"tcp", "udp"} {
		for _, to := range both(network, netlab.Host4, netlab.Host6, 80) {
			visit{by: lab.Client, to: to, node: "server", seen: "host"}.check(t)
			visit{by: lab.Peer, to: to, node: "server", seen: "host"}.check(t)
			visit{by: lab.Host, to: to, node: "server"}.check(t)
		}
		for _, to := range both(network, netlab.Host4, netlab.Host6, 81) {
			for range 2 { // one of the two leads a caller of the LAN to itself
				visit{by: lab.Client, to: to, node: "server peer", seen: "host"}.check(t)
				visit{by: lab.Peer, to: to, node: "server peer", seen: "host"}.check(t)
				visit{by: lab.Host, to: to, node: "server peer"}.check(t)
			}
		}
	}
}

// say sends text and waits for an answer with want in it.
func say(t *testing.T, conn net.Conn, text, want string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for !strings.Contains(string(got), want) {
		buf := make([]byte, 2048)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("waiting for %q after %q: %v", want, got, err)
		}
		got = append(got, buf[:n]...)
	}
}

// TestSessions ends one session of two, and checks that a changed target moves UDP flows and leaves TCP sessions.
func TestSessions(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	lab.Peer.Echo(t, "[::]:8080")
	c := newCarrier(t, lab.Host)
	c.apply(fwds(t, "web tcp+udp/80 192.168.1.10:8080", "other 81 192.168.1.10:8080"))
	open := func(network string) net.Conn {
		conn, err := lab.Client.Dial(context.Background(), network, netlab.RouterWAN4+":80")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	one, two, flow := open("tcp"), open("tcp"), open("udp")
	say(t, one, "one", "one")
	say(t, two, "two", "two")
	say(t, flow, "flow", "server")
	var list []forward.Session
	_ = lab.Host.Do(func() (err error) { list, err = c.Sessions(); return err })
	if len(list) != 3 {
		t.Fatalf("sessions: %+v", list)
	}
	if got := c.stats()["web"]; got.Open != 3 || got.Total != 3 {
		t.Errorf("stats: %+v", got)
	}
	before := c.stats()["web"]
	c.apply(fwds(t, "web tcp+udp/80 192.168.1.20:8080", "other 81 192.168.1.10:8080"))
	if after := c.stats()["web"]; after.Total < before.Total || after.BytesIn < before.BytesIn || after.BytesOut < before.BytesOut {
		t.Errorf("counters went back: %+v, then %+v", before, after)
	}
	say(t, one, "still", "still")
	say(t, flow, "flow", "peer")
	for _, s := range list {
		if s.Client == one.LocalAddr().String() && s.Network == forward.TCP {
			if err := lab.Host.Do(func() error { return c.Kill(s.ID) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, _ = one.Write([]byte("x"))
	if n, err := one.Read(make([]byte, 16)); err == nil {
		t.Errorf("a killed session still answers (%d bytes)", n)
	}
	say(t, two, "alive", "alive")
	c.apply(fwds(t, "other 81 192.168.1.10:8080"))
	_, _ = two.Write([]byte("x"))
	if n, err := two.Read(make([]byte, 16)); err == nil {
		t.Errorf("a session of a removed forward still answers (%d bytes)", n)
	}
}

// TestAdopt replaces the carrier as a restarted daemon would: sessions and counters go on, what went meanwhile is removed.
func TestAdopt(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	first := newCarrier(t, lab.Host)
	first.apply(fwds(t, "a 80 192.168.1.10:8080", "b 81 192.168.1.10:8080", "c 82 192.168.1.10:8080 from=203.0.113.0/24"))
	conn, err := lab.Client.Dial(context.Background(), "tcp", netlab.RouterWAN4+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	gone, err := lab.Client.Dial(context.Background(), "tcp", netlab.RouterWAN4+":82")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	handles := lab.Host.Run(t, "nft", "-a", "list", "tables")
	second := newCarrier(t, lab.Host)
	_ = lab.Host.Do(func() error { // two daemons cannot keep one table
		var taken *kernel.TakenError
		if bad := second.Apply(context.Background(), forward.ListOf(fwds(t, "a 80 192.168.1.20:8080")...)); !errors.As(bad["a"], &taken) || taken.PID != os.Getpid() {
			t.Errorf("while another keeps the table: %v", bad)
		}
		return first.Close()
	})
	second.apply(fwds(t, "a 80 192.168.1.10:8080", "b 81 192.168.1.10:8081"))
	if now := lab.Host.Run(t, "nft", "-a", "list", "tables"); now != handles {
		t.Errorf("the table was made anew: %s, then %s", handles, now)
	}
	if got := second.stats()["a"]; got.Total != 1 || got.Open != 1 {
		t.Errorf("a counts %+v after the restart", got)
	}
	visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":82"}.check(t)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	_ = lab.Host.Do(second.Clear)
	if out := lab.Host.Run(t, "nft", "list", "ruleset"); strings.Contains(out, "fairlead") {
		t.Errorf("left behind: %s", out)
	}
}

// TestFlushed takes the table away behind the carrier's back: the next Apply puts it back, and totals do not go back.
func TestFlushed(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	c := newCarrier(t, lab.Host)
	want := fwds(t, "web 80 192.168.1.10:8080")
	c.apply(want)
	at := visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":80", node: "server"}
	at.check(t)
	before := c.stats()["web"]
	lab.Host.Run(t, "nft", "flush", "ruleset")
	c.apply(want)
	at.check(t)
	if after := c.stats()["web"]; after.Total != before.Total+1 || after.BytesIn <= before.BytesIn {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// TestForeign checks that another program's tables are as they were, whatever is applied here.
func TestForeign(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Host.Nft(t, `table inet theirs {
	chain c {
		type nat hook prerouting priority -100
		tcp dport 1 dnat ip to 192.0.2.1:1
	}
	set s {
		type ipv4_addr
		elements = { 192.0.2.1 }
	}
}
table ip nat {
	chain PREROUTING {
		type nat hook prerouting priority -100
	}
}
`)
	before := lab.Host.Run(t, "nft", "-a", "list", "ruleset")
	c := newCarrier(t, lab.Host)
	c.apply(fwds(t, "web 80 192.168.1.10:8080"))
	c.apply(fwds(t, "web 80 192.168.1.20:8080"))
	if err := lab.Host.Do(c.Clear); err != nil {
		t.Fatal(err)
	}
	if after := lab.Host.Run(t, "nft", "-a", "list", "ruleset"); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// TestForeignTableOfOurName refuses to touch a table that somebody else called fairlead.
func TestForeignTableOfOurName(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Host.Nft(t, "table inet fairlead {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n}\n")
	c := newCarrier(t, lab.Host)
	_ = lab.Host.Do(func() error {
		bad := c.Apply(context.Background(), forward.ListOf(fwds(t, "web 80 192.168.1.10:8080")...))
		if len(slices.Collect(maps.Keys(bad))) != 1 || !strings.Contains(bad["web"].Error(), "not made by fairlead") {
			t.Errorf("got %v", bad)
		}
		return nil
	})
}

// TestStrangers has another program translate sessions of the same port: they keep their source, are not listed, and are
// not ended by a change here.
func TestStrangers(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8443")
	lab.Client.Route(t, "198.51.100.0/24", netlab.RouterWAN4)
	lab.Host.Nft(t, `table ip theirs {
	chain c {
		type nat hook prerouting priority -100
		ip daddr 198.51.100.1 tcp dport 443 dnat to 192.168.1.10:8443
	}
}
`)
	c := newCarrier(t, lab.Host)
	c.apply(fwds(t, "web 443 192.168.1.20:443 source=rewrite", "dmz * 192.168.1.20"))
	visit{by: lab.Client, to: "tcp/198.51.100.1:443", node: "server", seen: "client"}.check(t)
	conn, err := lab.Client.Dial(context.Background(), "tcp", "198.51.100.1:443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = lab.Host.Do(func() error {
		if list, err := c.Sessions(); err != nil || len(list) != 0 {
			t.Errorf("sessions: %+v, %v", list, err)
		}
		return nil
	})
	c.apply(nil)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 1024)
	for got := ""; !strings.HasSuffix(got, "x"); {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("a stranger's session ended: %v", err)
		}
		got += string(buf[:n])
	}
}
