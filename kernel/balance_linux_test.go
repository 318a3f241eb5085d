package kernel_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// balanceLab is a gateway with two hosts behind it that both answer on a few ports.
func balanceLab(t *testing.T) (*netlab.Topology, carrier) {
	lab := netlab.Gateway(t)
	for _, port := range []int{8080, 8081, 9000, 9001, 9100, 9101} {
		lab.Server.Echo(t, fmt.Sprintf("[::]:%d", port))
		lab.Peer.Echo(t, fmt.Sprintf("[::]:%d", port))
	}
	return lab, newCarrier(t, lab.Host)
}

// answered calls to ("tcp/addr:port") and returns the node that answered.
func answered(t *testing.T, by *netlab.Node, from, to string) string {
	t.Helper()
	network, addr, _ := strings.Cut(to, "/")
	reply, err := by.CallFrom(context.Background(), network, from, addr)
	if err != nil {
		t.Errorf("%s → %s: %v", by, to, err)
	}
	return reply.Node
}

// shares counts who answers so many calls.
func shares(t *testing.T, by *netlab.Node, to string, calls int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range calls {
		out[answered(t, by, "", to)]++
	}
	return out
}

// TestRoundRobin has every round of sessions reach every target once, whatever the protocol, and whatever ports are mapped.
func TestRoundRobin(t *testing.T) {
	lab, c := balanceLab(t)
	c.apply(fwds(t,
		"three4 tcp+udp/0.0.0.0:80 192.168.1.10:8080,192.168.1.20:8080,192.168.1.20:8081 balance=round-robin",
		"three6 tcp+udp/[::]:80 [fd00:1::10]:8080,[fd00:1::20]:8080,[fd00:1::20]:8081 balance=round-robin",
		"range4 tcp+udp/0.0.0.0:8080-8081 192.168.1.10,192.168.1.20 balance=round-robin",
		"range6 tcp+udp/[::]:8080-8081 [fd00:1::10],[fd00:1::20] balance=round-robin",
		"shift4 tcp+udp/0.0.0.0:7000-7001 192.168.1.10:9000-9001,192.168.1.20:9100-9101 balance=round-robin source=rewrite",
		"shift6 tcp+udp/[::]:7000-7001 [fd00:1::10]:9000-9001,[fd00:1::20]:9100-9101 balance=round-robin source=rewrite",
		"some4 tcp+udp/0.0.0.0:90 192.168.1.10:8080,192.168.1.20:8080 balance=round-robin from=203.0.113.0/24 except=203.0.113.77/32",
		"dmz4 tcp+udp/0.0.0.0:* 192.168.1.10,192.168.1.20 balance=round-robin",
		"dmz6 tcp+udp/[::]:* fd00:1::10,fd00:1::20 balance=round-robin",
	))
	for _, network := range []string{"tcp", "udp"} {
		for _, to := range both(network, netlab.RouterWAN4, netlab.RouterWAN6, 80) {
			for _, caller := range []*netlab.Node{lab.Client, lab.Peer, lab.Host} { // from outside, by the hairpin, and this host itself
				if got := shares(t, caller, to, 9); got["server"] != 3 || got["peer"] != 6 {
					t.Errorf("%s → %s: %v, expected a third of the calls at the server", caller, to, got)
				}
			}
		}
		for _, port := range []int{8080, 8081, 7000, 7001, 90, 9000} {
			for _, to := range both(network, netlab.RouterWAN4, netlab.RouterWAN6, port) {
				if port == 90 && strings.Contains(to, "[") {
					continue
				}
				if got := shares(t, lab.Client, to, 4); got["server"] != 2 || got["peer"] != 2 {
					t.Errorf("%s: %v", to, got)
				}
			}
		}
	}
	for name, s := range c.stats() {
		if s.Total == 0 || s.BytesIn == 0 || s.BytesOut == 0 {
			t.Errorf("%s counted %+v", name, s)
		}
	}
	if got := c.stats()["three4"]; got.Total != 54 {
		t.Errorf("54 sessions were counted as %d", got.Total)
	}
}

// TestLockstep visits two forwards in turn, whose rule is one: each has sessions at both of its targets all the same. And
// sessions of another forward, or of none, do not disturb the turns.
func TestLockstep(t *testing.T) {
	lab, c := balanceLab(t)
	c.apply(fwds(t,
		"http 80 192.168.1.10:8080,192.168.1.20:8080 balance=round-robin",
		"https 443 192.168.1.10:8080,192.168.1.20:8080 balance=round-robin",
		"plain 81 192.168.1.10:8080"))
	at := "tcp/" + netlab.RouterWAN4 + ":"
	http, https := map[string]int{}, map[string]int{}
	for range 8 {
		http[answered(t, lab.Client, "", at+"80")]++
		https[answered(t, lab.Client, "", at+"443")]++
	}
	for _, got := range []map[string]int{http, https} {
		if got["server"] != 4 || got["peer"] != 4 {
			t.Errorf("in lockstep: %v and %v", http, https)
		}
	}
	alone := map[string]int{}
	for range 8 {
		alone[answered(t, lab.Client, "", at+"80")]++
		visit{by: lab.Client, to: at + "81", node: "server"}.check(t)
		visit{by: lab.Client, to: at + "82"}.check(t)
		if n := alone["server"] - alone["peer"]; n < -2 || n > 2 {
			t.Errorf("others disturb the turns: %v", alone)
		}
	}
}

// TestSourceBalance has every client keep its target: on other ports of the forward, and when the table is made anew.
func TestSourceBalance(t *testing.T) {
	lab, c := balanceLab(t)
	want := fwds(t,
		"sticky4 tcp+udp/0.0.0.0:80,8080-8081 192.168.1.10:8080,192.168.1.20:8081 balance=source",
		"sticky6 tcp+udp/[::]:80,8080-8081 [fd00:1::10]:8080,[fd00:1::20]:8081 balance=source",
		"some4 0.0.0.0:90 192.168.1.10:8080,192.168.1.20:8080 balance=source from=203.0.113.0/24 except=203.0.113.77/32")
	var clients4, clients6 []string
	for i := range 16 {
		clients4 = append(clients4, fmt.Sprintf("203.0.113.%d", 100+i))
		clients6 = append(clients6, fmt.Sprintf("2001:db8:1::a:%x", i))
		lab.Client.Address(t, "eth0", clients4[i]+"/24", clients6[i]+"/64")
	}
	at := map[string]string{}
	for round := range 2 {
		c.apply(want)
		for family, clients := range [][]string{clients4, clients6} {
			served := map[string]int{}
			for _, client := range clients {
				for _, port := range []int{80, 8080, 8081} {
					to := both("tcp", netlab.RouterWAN4, netlab.RouterWAN6, port)[family]
					node := answered(t, lab.Client, client, to)
					if at[client] == "" {
						at[client] = node
					}
					if node != at[client] {
						t.Errorf("round %d: %s → %s: %s, was at %s", round, client, to, node, at[client])
					}
				}
				served[at[client]]++
			}
			if served["server"] == 0 || served["peer"] == 0 {
				t.Errorf("every client has the same target: %v", served)
			}
		}
		for _, client := range clients4 {
			if node := answered(t, lab.Client, client, "tcp/"+netlab.RouterWAN4+":90"); node != at[client] {
				t.Errorf("from: %s is at %s, and was at %s", client, node, at[client])
			}
		}
		lab.Host.Run(t, "nft", "flush", "ruleset")
	}
}

// TestTargetsChange takes a target from the list: its TCP sessions finish there, its UDP flows move, and counters go on.
func TestTargetsChange(t *testing.T) {
	lab, c := balanceLab(t)
	c.apply(fwds(t, "web tcp+udp/80 192.168.1.10:8080,192.168.1.20:8080 balance=round-robin"))
	var conns []net.Conn
	for _, network := range []string{"tcp", "tcp", "udp", "udp"} { // one of each at each target
		conn, err := lab.Client.Dial(context.Background(), network, netlab.RouterWAN4+":80")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		say(t, conn, "hello", "hello")
	}
	where := func() (list []string) {
		_ = lab.Host.Do(func() error {
			sessions, err := c.Sessions()
			if err != nil {
				t.Error(err)
			}
			for _, s := range sessions {
				list = append(list, s.Forward+" "+s.Network.String()+" "+s.Target)
			}
			return nil
		})
		slices.Sort(list)
		return list
	}
	if got, want := where(), []string{"web tcp 192.168.1.10:8080", "web tcp 192.168.1.20:8080", "web udp 192.168.1.10:8080", "web udp 192.168.1.20:8080"}; !slices.Equal(got, want) {
		t.Fatalf("sessions: %v", got)
	}
	before := c.stats()["web"]
	c.apply(fwds(t, "web tcp+udp/80 192.168.1.10:8080,192.168.1.10:8081 balance=round-robin"))
	if after := c.stats()["web"]; after.Total < before.Total || after.BytesIn < before.BytesIn || after.BytesOut < before.BytesOut || before.Total != 4 {
		t.Errorf("counters: %+v, then %+v", before, after)
	}
	if got, want := where(), []string{"web tcp 192.168.1.10:8080", "web tcp 192.168.1.20:8080", "web udp 192.168.1.10:8080"}; !slices.Equal(got, want) {
		t.Errorf("sessions after the change: %v", got)
	}
	for _, conn := range conns[:2] {
		say(t, conn, "still", "still")
	}
	for _, conn := range conns[2:] {
		say(t, conn, "flow", "server")
	}
	c.apply(fwds(t, "web tcp+udp/80 192.168.1.10:8080"))
	c.apply(nil)
	if got := where(); len(got) > 0 {
		t.Errorf("sessions of a forward that is gone: %v", got)
	}
}
