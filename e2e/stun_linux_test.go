package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A stunStatus is an entry of "stun" in `fairlead gateway --stun --json`.
type stunStatus struct {
	Server, Family, Other, Local, Public, Mapping, Filtering, Hairpin, Grade, Missing, Problem string
}

// A gatewayStatus is `fairlead gateway --json`.
type gatewayStatus struct {
	NAT, Kind, Problem, Hint string
	STUN                     []stunStatus
}

// A question is `fairlead gateway --stun` on a host.
type question struct {
	name   string
	node   *netlab.Node
	server string
	check  func(t *testing.T, g gatewayStatus, s stunStatus)
}

// ask asks all at once, since silence takes its time, and then looks at the answers.
func ask(t *testing.T, questions []question) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	outs, errs := make([][]byte, len(questions)), make([]error, len(questions))
	var asking sync.WaitGroup
	for i, q := range questions {
		asking.Go(func() {
			outs[i], errs[i] = q.node.Command(ctx, binary, "gateway", "--stun", q.server, "--json").Output()
		})
	}
	asking.Wait()
	for i, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			var g gatewayStatus
			err := errs[i]
			if err == nil {
				err = json.Unmarshal(outs[i], &g)
			}
			if err != nil || len(g.STUN) != 1 {
				t.Fatalf("%v\n%s", err, outs[i])
			}
			q.check(t, g, g.STUN[0])
		})
	}
}

// found is what was found, in a line.
func (s stunStatus) found() string {
	return strings.Join([]string{s.Mapping, s.Filtering, s.Hairpin, s.Grade}, " ")
}

// coturn starts a STUN server of those addresses, which can tell all where they are two.
func coturn(t *testing.T, node *netlab.Node, addrs ...string) {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-n", "--stun-only", "-p", turnPort, "--alt-listening-port", "5479", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp",
		"-m", "1", "--log-file", "stdout", "--pidfile", dir + "/pid", "--db", dir + "/db"}
	for _, a := range addrs {
		args = append(args, "-L", a)
	}
	node.Start(t, "turnserver", args...)
	node.WaitListen(t, "udp", 5478)
}

// outside says where the server sees a host that has that address outside.
func (s stunStatus) outside(t *testing.T, addr string) {
	t.Helper()
	if !strings.HasPrefix(s.Public, addr+":") || s.Problem != "" {
		t.Errorf("it is to be seen as %s: %+v", addr, s)
	}
}

// translates is a gateway that is not ours, with that rule.
func translates(rule string) string {
	return "table ip nat {\n\tchain postrouting {\n\t\ttype nat hook postrouting priority 100;\n\t\toifname \"wan\" " + rule + "\n\t}\n}\n"
}

// arcadeOf is a home with a STUN server outside that has those addresses.
func arcadeOf(t *testing.T, addrs ...string) home {
	t.Helper()
	h := newHome(t)
	h.wan.Address(t, "eth0", otherAddr+"/24", otherAddr6+"/64")
	coturn(t, h.wan, addrs...)
	return h
}

const otherAddr6 = "2001:4860:1::10"

// TestSTUN asks from behind gateways of several kinds.
func TestSTUN(t *testing.T) {
	needs(t, "turnserver", "stund", "nft")
	t.Parallel()
	var questions []question
	for _, c := range []struct {
		name  string
		file  string // of our own gateway
		nft   string // of another one
		alone bool   // the server has one address
		want  string
		lacks string // what the server is said to lack
	}{
		{name: "own, independent", file: "endpoint_independent = true\n", want: "endpoint-independent endpoint-independent yes open"},
		{name: "own", want: "endpoint-independent address-and-port-dependent no moderate"},
		{name: "kernel", nft: "masquerade", want: "endpoint-independent address-and-port-dependent no moderate"},
		{name: "symmetric", nft: "masquerade random,fully-random", want: "address-and-port-dependent address-and-port-dependent no strict"},
		{name: "one address", nft: "masquerade", alone: true, want: "unknown unknown no unknown", lacks: "no other address"},
	} {
		addrs := []string{wanAddr, otherAddr}
		if c.alone {
			addrs = addrs[:1]
		}
		h := arcadeOf(t, addrs...)
		if c.nft != "" {
			h.router.Forwarding(t)
			h.router.Nft(t, translates(c.nft))
		} else {
			up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\n"+c.file)
		}
		questions = append(questions, question{c.name, h.anna, wanAddr + ":" + turnPort, func(t *testing.T, _ gatewayStatus, s stunStatus) {
			s.outside(t, outerAddr)
			if s.found() != c.want || (s.Missing == "") != (c.lacks == "") || !strings.Contains(s.Missing, c.lacks) {
				t.Errorf("found %q, want %q\n%+v", s.found(), c.want, s)
			}
			if !strings.HasPrefix(s.Local, annaAddr+":") || s.Family != "ipv4" || s.Server != wanAddr+":"+turnPort {
				t.Errorf("%+v", s)
			}
		}})
	}
	// A server of RFC 3489, which has another name for its other address.
	old := newHome(t)
	old.wan.Address(t, "eth0", otherAddr+"/24")
	old.wan.Start(t, "stund", "-h", wanAddr, "-a", otherAddr)
	old.wan.WaitListen(t, "udp", 3478)
	old.wan.WaitListen(t, "udp", 3479)
	up(t, old.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\nendpoint_independent = true\n")
	questions = append(questions, question{"old server", old.anna, "stun:" + wanAddr, func(t *testing.T, _ gatewayStatus, s stunStatus) {
		s.outside(t, outerAddr)
		if s.found() != "endpoint-independent endpoint-independent yes open" || s.Other != otherAddr+":3479" {
			t.Errorf("%+v", s)
		}
	}})
	ask(t, questions)
}

// TestSTUNWithout asks where there is no NAT: of a host outside, and by IPv6 with a firewall and without one.
func TestSTUNWithout(t *testing.T) {
	needs(t, "turnserver", "nft")
	t.Parallel()
	h := arcadeOf(t, wanAddr, otherAddr)
	h.router.Route(t, "default", wanAddr)
	questions := []question{{"outside", h.router, wanAddr + ":" + turnPort, func(t *testing.T, g gatewayStatus, s stunStatus) {
		s.outside(t, outerAddr)
		if s.found() != "none endpoint-independent needless open" || s.Local != s.Public || g.NAT != "none" {
			t.Errorf("%+v", g)
		}
	}}}
	for file, want := range map[string]string{"": "none endpoint-independent needless open", "protect = true\n": "none address-and-port-dependent needless moderate"} {
		h := arcadeOf(t, wanAddr6, otherAddr6)
		if file == "" {
			h.router.Forwarding(t)
		} else {
			up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\n"+file)
		}
		questions = append(questions, question{"IPv6 " + file, h.anna, "[" + wanAddr6 + "]:" + turnPort, func(t *testing.T, _ gatewayStatus, s stunStatus) {
			s.outside(t, "["+annaAddr6+"]")
			if s.found() != want || s.Family != "ipv6" || s.Local != s.Public || s.Missing != "" {
				t.Errorf("found %q, want %q\n%+v", s.found(), want, s)
			}
		}})
	}
	ask(t, questions)
}

// TestSTUNBlocked has gateways that let no UDP out, or none to the server's other address.
func TestSTUNBlocked(t *testing.T) {
	needs(t, "turnserver", "nft")
	t.Parallel()
	var questions []question
	for _, c := range []struct{ name, match, want, missing, problem string }{
		{"all", "meta l4proto udp", "unknown unknown unknown unknown", "", "does not answer"},
		{"the other", "ip daddr " + otherAddr, "unknown unknown no unknown", "do not all answer", ""},
	} {
		h := arcadeOf(t, wanAddr, otherAddr)
		h.router.Forwarding(t)
		h.router.Nft(t, translates("masquerade"))
		h.router.Nft(t, "table ip blocked {\n\tchain forward {\n\t\ttype filter hook forward priority 0;\n\t\toifname \"wan\" "+c.match+" drop\n\t}\n}\n")
		questions = append(questions, question{c.name, h.anna, wanAddr + ":" + turnPort, func(t *testing.T, _ gatewayStatus, s stunStatus) {
			if s.found() != c.want || (s.Problem == "") != (c.problem == "") || !strings.Contains(s.Problem, c.problem) || !strings.Contains(s.Missing, c.missing) {
				t.Errorf("found %q, want %q\n%+v", s.found(), c.want, s)
			}
		}})
	}
	ask(t, questions)
}

// TestSTUNDouble has one gateway behind another. The inner one says which address it has, or pretends to have a public one.
func TestSTUNDouble(t *testing.T) {
	needs(t, "turnserver", "nft")
	t.Parallel()
	var questions []question
	var last *asker
	for _, c := range []struct{ name, says, problem string }{
		{"honest", outerNet + "2", "private address " + outerNet + "2"},
		{"lying", wideNet + "77", "says that it has the address " + wideNet + "77, and this host is " + front + " to a server outside"},
	} {
		a := newAsker(t, true)
		newMapper(t, a.gateway, c.says, homeNet+"1")
		a.outer.Nft(t, translates("masquerade"))
		a.outside.Address(t, "eth0", wideNet+"10/24")
		coturn(t, a.outside, wideNet+"9", wideNet+"10")
		questions = append(questions, question{c.name, a.host, wideNet + "9:" + turnPort, func(t *testing.T, g gatewayStatus, s stunStatus) {
			s.outside(t, front)
			if s.found() != "endpoint-independent address-and-port-dependent no moderate" {
				t.Errorf("found %q\n%+v", s.found(), s)
			}
			if g.NAT != "double" || g.Kind != "double-nat" || !strings.Contains(g.Problem, c.problem) || !strings.Contains(g.Problem, front) || g.Hint == "" {
				t.Errorf("%+v", g)
			}
		}})
		last = a
	}
	ask(t, questions)
	out := last.host.Run(t, binary, "gateway", "--stun", wideNet+"9:"+turnPort)
	for _, want := range []string{"NAT: double", "STUN " + wideNet + "9:" + turnPort + ": " + homeNet + "10:", " is " + front + ":", "\n  mapping    endpoint-independent: ",
		"\n  filtering  address-and-port-dependent: ", "\n  hairpin    no: ", "\n  for games  moderate: ", "\nproblem: ", "\nhint: "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}
