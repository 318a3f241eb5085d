package e2e

import (
	"context"
	"encoding/json"
	"strings"
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

// asks runs `fairlead gateway --stun` on a host.
func asks(t *testing.T, node *netlab.Node, server string) (g gatewayStatus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	out, err := node.Command(ctx, binary, "gateway", "--stun", server, "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &g)
	}
	if err != nil || len(g.STUN) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	return g
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

// TestSTUN asks from behind gateways of several kinds.
func TestSTUN(t *testing.T) {
	needs(t, "turnserver", "nft")
	for _, c := range []struct {
		name   string
		file   string // of our own gateway
		nft    string // of another one
		want   string
		server []string
		lacks  string // what the server is said to lack
	}{
		{name: "own, independent", file: "endpoint_independent = true\n", want: "endpoint-independent endpoint-independent yes open"},
		{name: "own", file: "", want: "endpoint-independent address-and-port-dependent no moderate"},
		{name: "kernel", nft: `masquerade`, want: "endpoint-independent address-and-port-dependent no moderate"},
		{name: "symmetric", nft: `masquerade random,fully-random`, want: "address-and-port-dependent address-and-port-dependent no strict"},
		{name: "one address", nft: `masquerade`, server: []string{wanAddr}, want: "unknown unknown no unknown", lacks: "no other address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			h.wan.Address(t, "eth0", otherAddr+"/24")
			if c.server == nil {
				c.server = []string{wanAddr, otherAddr}
			}
			coturn(t, h.wan, c.server...)
			if c.nft != "" {
				h.router.Forwarding(t)
				h.router.Nft(t, translates(c.nft))
			} else {
				up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\n"+c.file)
			}
			s := asks(t, h.anna, wanAddr+":"+turnPort).STUN[0]
			s.outside(t, outerAddr)
			if s.found() != c.want || (s.Missing == "") != (c.lacks == "") || !strings.Contains(s.Missing, c.lacks) {
				t.Errorf("found %q, want %q\n%+v", s.found(), c.want, s)
			}
			if !strings.HasPrefix(s.Local, annaAddr+":") || s.Family != "ipv4" || s.Server != wanAddr+":"+turnPort {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestSTUNWithout asks where there is no NAT, with and without a firewall: of a host outside, and by IPv6.
func TestSTUNWithout(t *testing.T) {
	needs(t, "turnserver", "nft")
	t.Run("outside", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		h.wan.Address(t, "eth0", otherAddr+"/24")
		coturn(t, h.wan, wanAddr, otherAddr)
		h.router.Route(t, "default", wanAddr)
		g := asks(t, h.router, wanAddr+":"+turnPort)
		s := g.STUN[0]
		s.outside(t, outerAddr)
		if s.found() != "none endpoint-independent needless open" || s.Local != s.Public || g.NAT != "none" {
			t.Errorf("%+v", g)
		}
	})
	for name, want := range map[string]string{"": "none endpoint-independent needless open", "protect = true\n": "none address-and-port-dependent needless moderate"} {
		t.Run("IPv6 "+name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			const other = "2001:4860:1::10"
			h.wan.Address(t, "eth0", other+"/64")
			coturn(t, h.wan, wanAddr6, other)
			if name == "" {
				h.router.Forwarding(t)
			} else {
				up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\n"+name)
			}
			s := asks(t, h.anna, "["+wanAddr6+"]:"+turnPort).STUN[0]
			s.outside(t, "["+annaAddr6+"]")
			if s.found() != want || s.Family != "ipv6" || s.Local != s.Public || s.Missing != "" {
				t.Errorf("found %q, want %q\n%+v", s.found(), want, s)
			}
		})
	}
}

// TestSTUNOld asks a server of RFC 3489, which has another name for its other address.
func TestSTUNOld(t *testing.T) {
	needs(t, "stund")
	t.Parallel()
	h := newHome(t)
	h.wan.Address(t, "eth0", otherAddr+"/24")
	h.wan.Start(t, "stund", "-h", wanAddr, "-a", otherAddr)
	h.wan.WaitListen(t, "udp", 3478)
	h.wan.WaitListen(t, "udp", 3479)
	up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\nendpoint_independent = true\n")
	s := asks(t, h.anna, "stun:"+wanAddr).STUN[0]
	s.outside(t, outerAddr)
	if s.found() != "endpoint-independent endpoint-independent yes open" || s.Other != otherAddr+":3479" {
		t.Errorf("%+v", s)
	}
}

// TestSTUNBlocked has a gateway that lets no UDP out, and a server whose other address is not let out to.
func TestSTUNBlocked(t *testing.T) {
	needs(t, "turnserver", "nft")
	for _, c := range []struct{ name, match, want, missing, problem string }{
		{"all", "meta l4proto udp", "unknown unknown unknown unknown", "", "does not answer"},
		{"the other", "ip daddr " + otherAddr, "unknown unknown no unknown", "do not all answer", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t)
			h.wan.Address(t, "eth0", otherAddr+"/24")
			coturn(t, h.wan, wanAddr, otherAddr)
			h.router.Forwarding(t)
			h.router.Nft(t, translates("masquerade"))
			h.router.Nft(t, "table ip blocked {\n\tchain forward {\n\t\ttype filter hook forward priority 0;\n\t\toifname \"wan\" "+c.match+" drop\n\t}\n}\n")
			s := asks(t, h.anna, wanAddr+":"+turnPort).STUN[0]
			if s.found() != c.want || (s.Problem == "") != (c.problem == "") || !strings.Contains(s.Problem, c.problem) || !strings.Contains(s.Missing, c.missing) {
				t.Errorf("found %q, want %q\n%+v", s.found(), c.want, s)
			}
		})
	}
}

// TestSTUNDouble has one gateway behind another. The inner one says which address it has, or pretends to have a public one.
func TestSTUNDouble(t *testing.T) {
	needs(t, "turnserver", "nft")
	for _, c := range []struct{ name, says, problem string }{
		{"honest", outerNet + "2", "private address " + outerNet + "2"},
		{"lying", wideNet + "77", "says that it has the address " + wideNet + "77, and this host is " + front + " to a server outside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, true)
			newMapper(t, a.gateway, c.says, homeNet+"1")
			a.outer.Nft(t, translates("masquerade"))
			a.outside.Address(t, "eth0", wideNet+"10/24")
			coturn(t, a.outside, wideNet+"9", wideNet+"10")
			g := asks(t, a.host, wideNet+"9:"+turnPort)
			s := g.STUN[0]
			s.outside(t, front)
			if s.found() != "endpoint-independent address-and-port-dependent no moderate" {
				t.Errorf("found %q\n%+v", s.found(), s)
			}
			if g.NAT != "double" || g.Kind != "double-nat" || !strings.Contains(g.Problem, c.problem) || !strings.Contains(g.Problem, front) || g.Hint == "" {
				t.Errorf("%+v", g)
			}
			out := a.host.Run(t, binary, "gateway", "--stun", wideNet+"9:"+turnPort)
			for _, want := range []string{"NAT: double", "STUN " + wideNet + "9:" + turnPort + ": " + homeNet + "10:", " is " + front + ":", "\n  mapping    endpoint-independent: ",
				"\n  filtering  address-and-port-dependent: ", "\n  hairpin    no: ", "\n  for games  moderate: ", "\nproblem: ", "\nhint: "} {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		})
	}
}
