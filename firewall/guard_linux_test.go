package firewall

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// keep is Keep in the node's namespace.
func keep(t *testing.T, n *netlab.Node, g *Guard, auto bool, list ...*forward.Forward) (out map[string]Obstacle) {
	t.Helper()
	host := testHost
	host.Indexes = nil // those of the namespace
	err := n.Do(func() (err error) {
		out, err = g.Keep(context.Background(), list, host, auto)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newGuard(t *testing.T) *Guard {
	return New(Options{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
}

func clearAll(t *testing.T, n *netlab.Node, g *Guard) {
	t.Helper()
	if err := n.Do(func() error { return g.Clear(context.Background()) }); err != nil {
		t.Fatal(err)
	}
}

// ruleset is all of nftables as text, without what is counted.
func ruleset(t *testing.T, n *netlab.Node) string {
	t.Helper()
	return n.Run(t, "nft", "-s", "list", "ruleset")
}

// TestKeep has the firewalls of testdata accept forwards that they drop, and wants them as they were afterwards.
func TestKeep(t *testing.T) {
	tests := []struct {
		ruleset, forward string
		where            []string // table and chain, and the last words of the rule before ours; "": ours is the first
		remains          bool
	}{
		{"ufw", "both 8080 192.168.1.10:80 relay", []string{"ip filter ufw-user-input: ufw-user-limit-accept", "ip6 filter ufw6-user-input: ufw6-user-limit-accept"}, false},
		{"ufw", "denied 4444 192.168.1.10:80 relay", nil, true},
		{"ufw", "pinhole tcp/[fd00:1::10]:80 [fd00:1::10]:80", []string{"ip6 filter ufw6-user-forward: "}, false},
		{"firewalld", "relayed 8080 192.168.1.10:80 relay", []string{`inet firewalld filter_IN_public_allow: accept`}, false},
		{"firewalld", "pinhole tcp/[fd00:1::10]:443 [fd00:1::10]:443", []string{"inet firewalld filter_FWD_public_allow: accept"}, false},
		{"docker", "web 80 192.168.1.10:8080", []string{"ip filter DOCKER-USER: "}, false},
		{"docker20", "web 80 192.168.1.10:8080 from=198.51.100.0/24", []string{"ip filter DOCKER-USER: "}, false},
		{"libvirt", "isolated 80 192.168.123.10:80", []string{"ip filter LIBVIRT_FWI: ", "ip filter LIBVIRT_FWO: "}, false},
		{"libvirtnft", "vm 80-90 192.168.122.10", []string{"ip libvirt_network guest_input: "}, false},
		{"fw4", "all * 192.168.1.10 interface=wan", []string{"inet fw4 forward_wan: jump accept_to_lan"}, false},
		{"fw4", "relayed 203.0.113.1:8080 192.168.1.10:8080 relay", []string{"inet fw4 input_wan: accept"}, false},
		{"plain", "echo 0.0.0.0:7 192.168.1.77:7", nil, true},
	}
	for _, test := range tests {
		t.Run(test.ruleset+"/"+strings.Fields(test.forward)[0], func(t *testing.T) {
			n := labHost(t)
			loadText(t, n, test.ruleset)
			before := ruleset(t, n)
			g, f := newGuard(t), fwd(t, test.forward)
			if found := keep(t, n, g, false, f); len(found) != 1 {
				t.Fatalf("found %v, expected an obstacle", found)
			}
			if ruleset(t, n) != before {
				t.Error("looking changed the rules")
			}
			if found := keep(t, n, g, true, f); (len(found) > 0) != test.remains {
				t.Errorf("there remains %v", found)
			}
			if got := ourPlaces(t, n); strings.Join(got, "\n") != strings.Join(test.where, "\n") {
				t.Errorf("the rules are at\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(test.where, "\n"))
			}
			once := ruleset(t, n)
			keep(t, n, g, true, f)
			if ruleset(t, n) != once {
				t.Error("a second look changed the rules")
			}
			again := newGuard(t) // another process, after a kill
			keep(t, n, again, true, f)
			if got := ruleset(t, n); got != once {
				t.Errorf("another process changed the rules:\n%s\nthey were\n%s", got, once)
			}
			keep(t, n, again, true)
			if got := ruleset(t, n); got != before {
				t.Errorf("with the forward gone the rules are\n%s\nthey were\n%s", got, before)
			}
			keep(t, n, again, true, f)
			clearAll(t, n, newGuard(t))
			if got := ruleset(t, n); got != before {
				t.Errorf("cleared, the rules are\n%s\nthey were\n%s", got, before)
			}
		})
	}
}

// ourPlaces says where rules of ours are, each with the end of the rule before it.
func ourPlaces(t *testing.T, n *netlab.Node) (out []string) {
	t.Helper()
	rs, err := readDump(t, n).Parse()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rs.edits(nil) {
		id := e.chain
		var lines []string
		if isIptables(rs, id.tableID) {
			program := map[byte]string{familyIPv4: "iptables-nft", familyIPv6: "ip6tables-nft"}[id.family]
			lines = strings.Split(strings.TrimSpace(n.Run(t, program, "-t", id.name, "-S", id.chain)), "\n")
		} else {
			lines = strings.Split(n.Run(t, "nft", "-s", "list", "chain", familyNames[id.family], id.name, id.chain), "\n")
		}
		for i, line := range lines {
			if !strings.Contains(line, Comment) || strings.Contains(line, "!fw4") {
				continue
			}
			last, _, _ := strings.Cut(lines[i-1], ` comment "`)
			words := strings.Fields(last)
			end := words[len(words)-1]
			if end == "{" || strings.HasPrefix(last, "-N") {
				end = ""
			} else if len(words) > 1 && (words[len(words)-2] == "jump" || words[len(words)-1] == "DROP") {
				end = words[len(words)-2] + " " + end
			}
			out = append(out, id.String()+": "+end)
		}
	}
	return out
}

// TestReloaded has the rule come back after the other firewall has written its rules anew.
func TestReloaded(t *testing.T) {
	n := labHost(t)
	loadText(t, n, "ufw")
	g, f := newGuard(t), fwd(t, "web 80 192.168.1.10:80")
	keep(t, n, g, true, f)
	n.Run(t, "iptables-nft", "-F", "ufw-user-forward")
	if found := keep(t, n, g, true, f); len(found) > 0 || len(ourPlaces(t, n)) != 1 {
		t.Errorf("after a flush there remains %v, and rules are at %v", found, ourPlaces(t, n))
	}
	n.Run(t, "iptables-nft", "-A", "ufw-user-forward", "-d", "192.168.1.77", "-j", "DROP")
	if keep(t, n, g, true, f); len(ourPlaces(t, n)) != 1 || !strings.HasSuffix(ourPlaces(t, n)[0], "-j DROP") {
		t.Errorf("with a rule more, ours is at %v, expected it behind that", ourPlaces(t, n))
	}
	n.Run(t, "nft", "delete", "table", "inet", MarkTable)
	keep(t, n, g, true, f)
	if list := n.Run(t, "nft", "list", "table", "inet", MarkTable); !strings.Contains(list, "tcp . 80") {
		t.Errorf("the table of marks is\n%s", list)
	}
	n.Run(t, "nft", "flush", "ruleset")
	if found := keep(t, n, g, true, f); len(found) > 0 || strings.TrimSpace(ruleset(t, n)) != "" {
		t.Errorf("without a firewall there remains %v and\n%s", found, ruleset(t, n))
	}
}

// TestManyForwards has sets that take more than one transaction, and changes them.
func TestManyForwards(t *testing.T) {
	n := labHost(t)
	loadText(t, n, "ufw")
	g := newGuard(t)
	var list []*forward.Forward
	for port := 10000; port < 15000; port++ {
		f := fwd(t, "x 1 192.168.1.10:9")
		f.Name = "f" + string(rune('0'+port%10)) + strings.Repeat("x", port%7)
		f.Listen.Ports = forward.Ports{Ranges: []forward.Range{{First: uint16(port), Last: uint16(port)}}}
		list = append(list, f)
	}
	keep(t, n, g, true, list...)
	count := func() int {
		return strings.Count(n.Run(t, "nft", "list", "set", "inet", MarkTable, "translated4_port"), "tcp . ")
	}
	if got := count(); got != len(list) {
		t.Errorf("%d sessions are marked, expected %d", got, len(list))
	}
	keep(t, n, g, true, list[:500]...)
	if got := count(); got != 500 {
		t.Errorf("%d sessions are marked, expected 500", got)
	}
}

func TestOrdinaryUser(t *testing.T) {
	n := labHost(t)
	loadText(t, n, "ufw")
	err := n.Do(func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var had [2]unix.CapUserData
		if err := unix.Capget(&header, &had[0]); err != nil {
			return err
		}
		none := had
		none[0].Effective, none[1].Effective = 0, 0
		if err := unix.Capset(&header, &none[0]); err != nil {
			return err
		}
		_, err := newGuard(t).Check(context.Background(), nil, testHost, false)
		return errors.Join(err, unix.Capset(&header, &had[0]))
	})
	if !errors.Is(err, ErrNotAllowed) {
		t.Errorf("got %v, expected ErrNotAllowed", err)
	}
}

// TestDescriptors has looks leave nothing open.
func TestDescriptors(t *testing.T) {
	n := labHost(t)
	loadText(t, n, "docker")
	g, f := newGuard(t), fwd(t, "web 80 192.168.1.10:80")
	keep(t, n, g, true, f)
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := count()
	for range 20 {
		keep(t, n, g, true, f)
		clearAll(t, n, g)
	}
	if after := count(); after > before+2 {
		t.Errorf("%d descriptors are open, there were %d", after, before)
	}
}
