package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// ways is how miniupnpd is made to speak each protocol, and the program, too.
var ways = []struct {
	name, protocol string
	conf           []string
}{
	{"pcp", "pcp", []string{"enable_natpmp=yes"}},
	{"natpmp", "natpmp", []string{"enable_natpmp=yes"}},
	{"igd2", "upnp", []string{"enable_upnp=yes", "enable_natpmp=no"}},
	{"igd1", "upnp", []string{"enable_upnp=yes", "enable_natpmp=no", "force_igd_desc_v1=yes"}},
}

const front = wideNet + "4"

// TestOpen opens a port in each protocol, and it is reached from outside; it comes back when the gateway has started anew and
// forgotten everything, and is closed at the end.
func TestOpen(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, false)
			gw := miniupnpd(t, a.gateway, w.conf...)
			a.listen(t, 8080)
			o := a.open(t, "8080", "--protocol", w.protocol)
			open := func(s publishedStatus) bool {
				return s.State == "open" && s.Protocol == w.protocol && s.Verified && has(s, "tcp/"+front+":8080") && s.Problem == ""
			}
			o.now("the port is open", open)
			if !a.reaches(t, front+":8080") {
				t.Error("the port is open and not reached from outside")
			}
			gw.restart(func() { _ = gw.proc.Stop() })
			waitFor(t, "the port is back", func() bool { return a.reaches(t, front+":8080") })
			gw.restart(gw.proc.Kill)
			waitFor(t, "the port is back after a crash of the gateway", func() bool { return a.reaches(t, front+":8080") })
			o.now("it is open again", open)
			o.stop()
			if a.reaches(t, front+":8080") {
				t.Error("it has ended, and the port is open still")
			}
			if rules := a.gateway.Run(t, "nft", "list", "table", "inet", "filter"); strings.Contains(rules, "8080") {
				t.Errorf("it has ended, and left:\n%s", rules)
			}
		})
	}
}

// TestOpenIPv6 has the firewall of the gateway opened for the address of the host.
func TestOpenIPv6(t *testing.T) {
	for _, w := range ways {
		if w.name == "natpmp" || w.name == "igd1" {
			continue // they are for IPv4 alone
		}
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, false)
			miniupnpd(t, a.gateway, w.conf...)
			a.listen(t, 8080)
			at := "[" + homeV6 + "10]:8080"
			if a.reaches(t, at) {
				t.Fatal("the firewall is open from the start")
			}
			o := a.open(t, "["+homeV6+"10]:8080", "--protocol", w.protocol)
			o.now("the firewall is open", func(s publishedStatus) bool { return s.State == "open" && s.Verified && has(s, "tcp/"+at) })
			if !a.reaches(t, at) {
				t.Error("the firewall is said to be open, and is not")
			}
			o.stop()
			// miniupnpd 2.3.1 refuses to delete pinholes of PCP; those end after two minutes.
			if a.reaches(t, at) && !strings.Contains(o.proc.Output(), "it now ends after 120 s") {
				t.Error("it has ended, and the firewall is open still")
			}
		})
	}
}

// TestOpenTaken has somebody else's mapping at the port.
func TestOpenTaken(t *testing.T) {
	needs(t, "upnpc")
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, false)
			gw := miniupnpd(t, a.gateway, append([]string{"enable_upnp=yes", "secure_mode=no"}, w.conf...)...)
			a.host.Run(t, "upnpc", "-u", gw.description(), "-a", homeNet+"11", "9", "8080", "tcp")
			o := a.open(t, homeNet+"10:8080", "--protocol", w.protocol)
			s := o.now("another port is open", func(s publishedStatus) bool { return s.State == "open" && s.Kind == "conflict" })
			if has(s, "tcp/"+front+":8080") || !strings.Contains(s.Problem, "port 8080 is not to be had at the gateway 192.168.1.1") {
				t.Errorf("%+v", s)
			}
			o.stop()
			if out := a.host.Run(t, "upnpc", "-u", gw.description(), "-l"); !strings.Contains(out, "8080->"+homeNet+"11:9") {
				t.Errorf("the other's mapping is gone:\n%s", out)
			}
		})
	}
}

// TestOpenMany opens a range of both transports, at other ports outside.
func TestOpenMany(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, false)
			miniupnpd(t, a.gateway, w.conf...)
			o := a.open(t, "tcp+udp/0.0.0.0:27015-27018", "--external", "30000", "--protocol", w.protocol)
			s := o.now("all ports are open", func(s publishedStatus) bool { return s.State == "open" && s.Verified })
			for i := range 4 {
				for _, n := range []string{"tcp", "udp"} {
					if at := fmt.Sprintf("%s/%s:%d", n, front, 30000+i); !has(s, at) {
						t.Errorf("%s is not among %s", at, s.Endpoint)
					}
				}
			}
			o.stop()
		})
	}
}

// TestOpenRefused is what is said when it cannot work.
func TestOpenRefused(t *testing.T) {
	for _, w := range ways[2:] { // miniupnpd looks for a port that is allowed until clients of PCP have given up
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, false)
			miniupnpd(t, a.gateway, append([]string{"deny 0-65535 0.0.0.0/0 0-65535"}, w.conf...)...)
			o := a.open(t, homeNet+"10:8080", "--protocol", w.protocol)
			s := o.now("it is refused", func(s publishedStatus) bool { return s.State == "failed" })
			if want := map[string]string{"igd1": "denied", "igd2": "full"}[w.name]; s.Kind != want || s.Hint == "" || len(s.Endpoint) > 0 {
				t.Errorf("%+v", s)
			}
			o.stop()
		})
	}
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		a := newAsker(t, false)
		o := a.open(t, homeNet+"10:8080", "--for", "5s")
		s := o.now("nobody answers", func(s publishedStatus) bool { return s.State == "failed" })
		if s.Kind != "silent" || !strings.Contains(s.Problem, "answers neither PCP nor NAT-PMP nor UPnP") {
			t.Errorf("%+v", s)
		}
		if err := o.proc.Wait(t.Context()); err == nil {
			t.Error("nothing was opened, and the exit code is 0")
		}
	})
	t.Run("no route", func(t *testing.T) {
		t.Parallel()
		l := netlab.New(t)
		a := &asker{Lab: l, host: l.Node("host")}
		o := a.open(t, "8080")
		if s := o.now("there is no gateway", func(s publishedStatus) bool { return s.State == "failed" }); s.Kind != "no-gateway" {
			t.Errorf("%+v", s)
		}
		o.stop()
	})
}

// TestOpenDouble has two gateways, one behind the other.
func TestOpenDouble(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, true)
			inner := newMapper(t, a.gateway, outerNet+"2", homeNet+"1")
			miniupnpd(t, a.outer, w.conf...)
			a.listen(t, 8080)
			o := a.open(t, homeNet+"10:8080", "--protocol", "natpmp", "--protocol", w.protocol)
			open := func(s publishedStatus) bool {
				return s.State == "open" && s.Verified && has(s, "tcp/"+front+":8080") && slices.Equal(s.Gateway, []string{homeNet + "1", outerNet + "1"})
			}
			o.now("both gateways have opened the port", open)
			if !a.reaches(t, front+":8080") {
				t.Error("the port is open and not reached from outside")
			}
			inner.restart()
			waitFor(t, "the port is back", func() bool { return a.reaches(t, front+":8080") })
			o.stop()
			if a.reaches(t, front+":8080") {
				t.Error("it has ended, and the port is open still")
			}
		})
	}
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		a := newAsker(t, true)
		newMapper(t, a.gateway, outerNet+"2", homeNet+"1")
		o := a.open(t, homeNet+"10:8080")
		s := o.now("the outer gateway does not answer", func(s publishedStatus) bool { return s.State == "limited" })
		if s.Kind != "double-nat" || !has(s, "tcp/"+outerNet+"2:8080") || s.Hint == "" {
			t.Errorf("%+v", s)
		}
		o.stop()
	})
	t.Run("refuses", func(t *testing.T) {
		t.Parallel()
		a := newAsker(t, true)
		miniupnpd(t, a.gateway, "enable_natpmp=yes") // which maps nothing when its own address is private
		o := a.open(t, homeNet+"10:8080")
		s := o.now("the gateway refuses", func(s publishedStatus) bool { return s.State == "failed" })
		if s.Kind != "double-nat" || !strings.Contains(s.Problem, outerNet+"1") {
			t.Errorf("%+v", s)
		}
		o.stop()
	})
}

// TestOpenAgain kills the program: the one that comes after has the same mapping.
func TestOpenAgain(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, false)
			miniupnpd(t, a.gateway, w.conf...)
			open := func(s publishedStatus) bool {
				return s.State == "open" && s.Verified && s.Kind == "" && has(s, "tcp/"+front+":8080")
			}
			o := a.open(t, homeNet+"10:8080", "--protocol", w.protocol)
			o.now("the port is open", open)
			o.proc.Kill()
			o = a.open(t, homeNet+"10:8080", "--protocol", w.protocol)
			o.now("the port is open again", open)
			o.stop()
		})
	}
}

// TestGatewayCommand looks at what is out there, and changes nothing.
func TestGatewayCommand(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		t.Parallel()
		a := newAsker(t, false)
		gw := miniupnpd(t, a.gateway, "enable_upnp=yes", "enable_natpmp=yes")
		a.host.Run(t, "upnpc", "-u", gw.description(), "-e", "a game", "-a", homeNet+"10", "9", "8080", "udp")
		before := a.gateway.Run(t, "nft", "list", "ruleset")
		out := a.host.Run(t, binary, "gateway")
		for _, want := range []string{homeNet + "1 ", "pcp, natpmp, upnp (WANIPConnection:2", front, "udp/8080 -> " + homeNet + `10:9`, `"a game"`, "NAT: one gateway translates, and has a public address"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		if strings.Contains(out, "problem:") {
			t.Errorf("there is none:\n%s", out)
		}
		if after := a.gateway.Run(t, "nft", "list", "ruleset"); after != before {
			t.Errorf("looking has changed the gateway:\n%s\n%s", before, after)
		}
	})
	t.Run("two", func(t *testing.T) {
		t.Parallel()
		a := newAsker(t, true)
		newMapper(t, a.gateway, outerNet+"2", homeNet+"1")
		miniupnpd(t, a.outer, "enable_upnp=yes", "enable_natpmp=no")
		var answer struct {
			NAT, Kind string
			Gateways  []struct {
				Address, External, Reach string
				Level                    int
			}
		}
		out := a.host.Run(t, binary, "gateway", "--json")
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.NAT != "double" || answer.Kind != "" || len(answer.Gateways) < 2 || answer.Gateways[0].Reach != "private" ||
			answer.Gateways[1].Address != outerNet+"1" || answer.Gateways[1].External != front || answer.Gateways[1].Level != 1 {
			t.Errorf("%s", out)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		node := netlab.New(t).Node("host")
		if out := node.Run(t, binary, "gateway"); !strings.Contains(out, "problem: this host has no default route") || !strings.Contains(out, "hint: ") {
			t.Error(out)
		}
	})
}

// TestPublish has the daemon ask for the ports of its forwards, and says so in status.
func TestPublish(t *testing.T) {
	a := newAsker(t, false)
	gw := miniupnpd(t, a.gateway, "enable_upnp=yes", "enable_natpmp=yes")
	a.listen(t, 8000)
	d := up(t, a.host, "[forward.web]\nlisten = \"8080\"\nto = \":8000\"\npublish = 9090\n[forward.other]\nlisten = \"8081\"\nto = \":8000\"\n")
	published := func() publishedStatus {
		var list struct {
			Forwards []struct {
				Name      string
				Published *publishedStatus
			}
		}
		if err := json.Unmarshal([]byte(d.run("status", "--json")), &list); err != nil {
			t.Fatal(err)
		}
		for _, f := range list.Forwards {
			if f.Name == "other" && f.Published != nil {
				t.Errorf("nobody has asked for %+v", f)
			}
			if f.Name == "web" && f.Published != nil {
				return *f.Published
			}
		}
		return publishedStatus{}
	}
	d.wait("the port is open", func() bool { s := published(); return s.State == "open" && has(s, "tcp/"+front+":9090") })
	if !a.reaches(t, front+":9090") {
		t.Error("it is open and not reached from outside")
	}
	if out := d.run("status"); !strings.Contains(out, "published: tcp "+front+":9090 -> "+homeNet+"10:8080  by pcp of "+homeNet+"1") {
		t.Errorf("status says:\n%s", out)
	}
	gw.restart(gw.proc.Kill)
	d.wait("the port is back", func() bool { return a.reaches(t, front+":9090") })
	d.write("[forward.web]\nlisten = \"8080\"\nto = \":8000\"\n")
	d.run("apply", "-c", d.file())
	d.wait("the port is closed", func() bool { return !a.reaches(t, front+":9090") })
}
