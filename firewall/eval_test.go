package firewall

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestDoubt has rules that ask for what is not understood: what they would do is one possibility, what follows is another, and
// a culprit is named only where every way ends with it.
func TestDoubt(t *testing.T) {
	const perhaps = "-m strange "
	tests := []struct {
		name, rules, policy string
		want                result
		chain               string
	}{
		{"nothing", "", "ACCEPT", passes, ""},
		{"the policy", "", "DROP", dropped, "INPUT"},
		{"perhaps accepted, else dropped", "-A INPUT " + perhaps + "-j ACCEPT", "DROP", undecided, ""},
		{"perhaps dropped, else accepted", "-A INPUT " + perhaps + "-j DROP", "ACCEPT", undecided, ""},
		{"dropped either way", "-A INPUT " + perhaps + "-j DROP", "DROP", dropped, "INPUT"},
		{"accepted either way", "-A INPUT " + perhaps + "-j ACCEPT", "ACCEPT", passes, ""},
		{"another port before what is not understood", "-A INPUT -p tcp --dport 81 " + perhaps + "-j DROP", "ACCEPT", passes, ""},
		{"no verdict", "-A INPUT " + perhaps, "ACCEPT", passes, ""},
		{"a log", "-A INPUT " + perhaps + "-j LOG", "DROP", dropped, "INPUT"},
		{"perhaps to a chain that drops", "-A INPUT " + perhaps + "-j a\n-A a -j DROP", "ACCEPT", undecided, ""},
		{"perhaps to a chain that says nothing", "-A INPUT " + perhaps + "-j a\n-A a -p udp -j DROP", "ACCEPT", passes, ""},
		{"to a chain that perhaps accepts", "-A INPUT -j a\n-A a " + perhaps + "-j ACCEPT\n-A INPUT -j DROP", "ACCEPT", undecided, ""},
		{"to a chain that perhaps returns, and drops both ways", "-A INPUT -j a\n-A a " + perhaps + "-j RETURN\n-A a -j DROP", "DROP", dropped, "a"},
		{"to a chain that perhaps returns", "-A INPUT -j a\n-A a " + perhaps + "-j RETURN\n-A a -j DROP", "ACCEPT", undecided, ""},
		{"goto does not come back", "-A INPUT -g a\n-A INPUT -j DROP\n-A a -p udp -j DROP", "ACCEPT", passes, ""},
		{"jump comes back", "-A INPUT -j a\n-A INPUT -j DROP\n-A a -p udp -j DROP", "ACCEPT", dropped, "INPUT"},
		{"return in a base chain is its policy", "-A INPUT -j RETURN\n-A INPUT -j ACCEPT", "DROP", dropped, "INPUT"},
		{"accepted before", "-A INPUT -p tcp --dport 80 -j ACCEPT\n-A INPUT " + perhaps + "-j DROP", "DROP", passes, ""},
		{"a target that is not understood", "-A INPUT -j NFQUEUE", "DROP", undecided, ""},
		{"a loop", "-A INPUT -j a\n-A a -j b\n-A b -j a", "DROP", undecided, ""},
		{"inverted", "-A INPUT ! -i wan -j ACCEPT", "DROP", dropped, "INPUT"},
		{"inverted and true", "-A INPUT ! -i lan -j ACCEPT", "DROP", passes, ""},
		{"inverted and not understood", "-A INPUT ! --strange 5 -j ACCEPT", "DROP", undecided, ""},
		{"a mark nobody has set", "-A INPUT -m mark --mark 0x1/0x1 -j ACCEPT", "DROP", dropped, "INPUT"},
		{"a mark that may be restored", "-A INPUT -j CONNMARK --restore-mark\n-A INPUT -m mark --mark 0x1/0x1 -j ACCEPT", "DROP", undecided, ""},
		{"the mark of the session", "-A INPUT -m connmark --mark 0x1/0x1 -j ACCEPT", "DROP", undecided, ""},
		{"syn", "-A INPUT -p tcp ! --syn -m conntrack --ctstate NEW -j DROP", "ACCEPT", passes, ""},
		{"flags", "-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", "ACCEPT", dropped, "INPUT"},
		{"ports", "-A INPUT -p tcp -m multiport --dports 22,79:81 -j ACCEPT", "DROP", passes, ""},
		{"a source", "-A INPUT -s 198.51.100.0/255.255.255.0 -j ACCEPT", "DROP", passes, ""},
		{"a comment", `-A INPUT -m comment --comment "a \"b\" -j DROP" -j ACCEPT`, "DROP", passes, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := fmt.Sprintf("*filter\n:INPUT %s [0:0]\n:a - [0:0]\n:b - [0:0]\n%s\nCOMMIT\n", test.policy, test.rules)
			rs := newRuleset()
			if err := parseSave(rs, text, false, true); err != nil {
				t.Fatal(err)
			}
			rs.finish()
			for j := range func(yield func(journey) bool) {
				testHost.journeys(fwd(t, "web 0.0.0.0:80 192.168.1.10:80 relay"), yield)
			} {
				left := budget
				e := evaluator{rs: rs, budget: &left}
				got, at := e.run(j.packets[1])
				if got != test.want || got == dropped && at.chain.id.chain != test.chain {
					t.Errorf("got %v in %v, expected %v in %q", got, at.chain, test.want, test.chain)
				}
			}
		})
	}
}

// TestBudget has a ruleset with more rules than are looked at: nothing is known then.
func TestBudget(t *testing.T) {
	rs := newRuleset()
	text := "*filter\n:INPUT DROP\n" + strings.Repeat("-A INPUT -p tcp --dport 1 -j ACCEPT\n", 100)
	if err := parseSave(rs, text, false, true); err != nil {
		t.Fatal(err)
	}
	rs.finish()
	for left, want := range map[int]result{100: undecided, 101: dropped} {
		for j := range func(yield func(journey) bool) {
			testHost.journeys(fwd(t, "web 0.0.0.0:80 192.168.1.10:80 relay"), yield)
		} {
			e := evaluator{rs: rs, budget: &left}
			if got, _ := e.run(j.packets[1]); got != want {
				t.Errorf("got %v, expected %v", got, want)
			}
		}
	}
}

// TestClients wants packets of those who come, by where they come in.
func TestClients(t *testing.T) {
	tests := []struct{ forward, want string }{
		{"a 80 192.168.1.10:80 relay", "198.51.100.77 wan, 2001:db8:ffff::77 wan"},
		{"a 80 192.168.1.10:80", "198.51.100.77 wan"},
		{"a 80 192.168.1.10:80 from=192.168.1.0/24", "192.168.1.1 lan"},
		{"a 80 192.168.1.10:80 from=192.168.1.77/32,10.0.0.0/8", "192.168.1.77 lan, 10.0.0.1 wan"},
		{"a 80 192.168.1.10:80 interface=lan", "192.168.1.2 lan"},
		{"a 192.168.1.1:80 192.168.1.10:80", "192.168.1.2 lan"},
		{"a 127.0.0.1:80 192.168.1.10:80 relay", ""},
		{"a unix:/run/x 192.168.1.10:80 relay", ""},
	}
	for _, test := range tests {
		var got []string
		for j := range func(yield func(journey) bool) { testHost.journeys(fwd(t, test.forward), yield) } {
			got = append(got, j.client.addr.String()+" "+j.client.in)
		}
		if s := strings.Join(slices.Compact(got), ", "); s != test.want {
			t.Errorf("%s: clients %s, expected %s", test.forward, s, test.want)
		}
	}
	lan := Host{Addrs: testHost.Addrs[2:4]} // no default route
	var got []string
	for j := range func(yield func(journey) bool) { lan.journeys(fwd(t, "a 80 :8080 relay"), yield) } {
		got = append(got, j.client.addr.String()+" "+j.client.in)
	}
	if s := strings.Join(got, ", "); s != "192.168.1.2 lan, fd00:1::2 lan" {
		t.Errorf("without a default route: %s", s)
	}
}
