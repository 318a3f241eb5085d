package firewall

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// TestTraffic sends packets past the rules of each firewall: what Look says of a forward must be what happens, the remedy has
// to help, and so has Keep, for these forwards alone.
func TestTraffic(t *testing.T) {
	for _, name := range []string{"ufw", "firewalld", "docker", "docker20", "libvirt", "libvirtnft", "fw4"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, name)
			blocked := s.compare(t)
			if blocked == 0 {
				t.Fatal("nothing is dropped; this test has shown nothing")
			}
			before := s.rules(t)
			s.keep(t, true)
			for i, f := range s.forwards {
				if !s.passes(i, true) {
					t.Errorf("%s does not pass with Fairlead's rule", f.Name)
				}
			}
			if name == "ufw" || name == "firewalld" || name == "fw4" { // the others leave alone what is for this host
				if s.reaches("tcp", netlab.RouterWAN4+":9999", false) {
					t.Error("a port that is no forward's is reached")
				}
			}
			if s.reaches("tcp", netlab.Server4+":8088", false) {
				t.Error("the target of a forward is reached past it")
			}
			s.clear(t)
			if got := s.rules(t); got != before {
				t.Errorf("cleared, the rules are\n%s\nthey were\n%s", got, before)
			}
			if s.compare(t) != blocked {
				t.Error("cleared, other forwards are dropped than before")
			}
			if name == "firewalld" || name == "fw4" { // a remedy for a program that is not there
				return
			}
			for line := range s.remedies() {
				if strings.HasPrefix(line, "ufw ") {
					return
				}
				s.lab.Host.Run(t, "sh", "-c", line)
			}
			for i, f := range s.forwards {
				if !s.passes(i, true) {
					t.Errorf("%s does not pass with the remedy %q", f.Name, s.found[f.Name].Remedy)
				}
			}
		})
	}
}

// How long is waited for an answer that should come, and for one that should not.
const (
	patience = 10 * time.Second
	silence  = 150 * time.Millisecond
)

// A stage is a gateway with a firewall of testdata, and forwards that lead past it.
type stage struct {
	lab      *netlab.Topology
	guard    *Guard
	forwards []*forward.Forward
	found    map[string]Obstacle
}

var stageHost = Host{Addrs: testHost.Addrs[:4], Default4: "wan", Default6: "wan"}

func newStage(t *testing.T, name string) *stage {
	s := &stage{lab: netlab.Gateway(t), guard: newGuard(t)}
	for suffix, program := range map[string]string{".nft": "nft -f -", ".save": "iptables-nft-restore", ".save6": "ip6tables-nft-restore"} {
		text, err := os.ReadFile(filepath.Join("testdata", name+suffix))
		if err != nil {
			continue
		}
		// The network of virtual machines is the LAN here.
		text = []byte(strings.NewReplacer("virbr0", "lan", "192.168.122.", "192.168.1.").Replace(string(text)))
		if name == "libvirt" || name == "libvirtnft" {
			s.lab.Host.Sysctl(t, "net.ipv4.ip_forward", "1")
		}
		s.lab.Host.Feed(t, string(text), "sh", "-c", program)
	}
	s.lab.Client.Route(t, "192.168.1.0/24", netlab.RouterWAN4)
	for _, spec := range []string{"web 0.0.0.0:80 192.168.1.10:8088", "dns udp/0.0.0.0:5300 192.168.1.10:5301", "range 203.0.113.1:7000-7005 192.168.1.10:7000-7005",
		"relayed 0.0.0.0:8086 192.168.1.10:8088 relay", "relayedudp udp/0.0.0.0:8082 192.168.1.10:8088 relay", "here 0.0.0.0:8083 :8443"} {
		s.forwards = append(s.forwards, fwd(t, spec))
	}
	s.lab.Server.Echo(t, "[::]:8088")
	s.lab.Server.Echo(t, "[::]:5301")
	s.lab.Server.Echo(t, "[::]:7000")
	for _, port := range []string{"8086", "8082", "8443", "9999"} { // in place of the relay
		s.lab.Host.Echo(t, "[::]:"+port)
	}
	carrier := kernel.New(kernel.Options{})
	t.Cleanup(func() { _ = carrier.Close() })
	_ = s.lab.Host.Do(func() error {
		for name, err := range carrier.Apply(context.Background(), forward.ListOf(s.forwards...)) {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	})
	return s
}

func (s *stage) keep(t *testing.T, auto bool) {
	t.Helper()
	err := s.lab.Host.Do(func() (err error) {
		s.found, err = s.guard.Keep(context.Background(), s.forwards, stageHost, auto)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *stage) clear(t *testing.T) {
	t.Helper()
	clearAll(t, s.lab.Host, s.guard)
}

func (s *stage) rules(t *testing.T) string { return ruleset(t, s.lab.Host) }

// reaches reports whether the client gets an answer. What should come may take long on a machine with much to do.
func (s *stage) reaches(network, addr string, should bool) bool {
	limit := silence
	if should {
		limit = patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := s.lab.Client.CallFrom(ctx, network, "", addr)
	return err == nil
}

func (s *stage) passes(i int, should bool) bool {
	l := s.forwards[i].Listen
	return s.reaches(l.Networks.String(), netlab.RouterWAN4+":"+strconv.Itoa(int(l.Ports.Ranges[0].First)), should)
}

// compare wants what Look says of each forward to be what happens, and counts those that are dropped.
func (s *stage) compare(t *testing.T) (blocked int) {
	t.Helper()
	s.keep(t, false)
	for i, f := range s.forwards {
		o, is := s.found[f.Name]
		if is {
			blocked++
		}
		if s.passes(i, !is) == is {
			t.Errorf("%s passes: %v, but what is known is %+v", f.Name, !is, o)
		}
	}
	return blocked
}

// remedies calls yield for every line of every remedy, each once.
func (s *stage) remedies() func(func(string) bool) {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		for _, f := range s.forwards {
			for _, line := range s.found[f.Name].Remedy {
				if !seen[line] && !yield(line) {
					return
				}
				seen[line] = true
			}
		}
	}
}

// TestLegacy has a firewall in the older kernel interface of iptables.
func TestLegacy(t *testing.T) {
	n := labHost(t)
	if _, err := exec.LookPath("iptables-legacy-restore"); err != nil {
		if os.Getenv(netlab.RequireEnv) == "require" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	text, err := os.ReadFile("testdata/docker20.save")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := n.Command(ctx, "iptables-legacy-restore")
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("this kernel has no legacy tables: %s", out)
		return
	}
	found := keep(t, n, newGuard(t), true, fwd(t, "web 80 192.168.1.10:80"))
	if o := found["web"]; o.Owner != Docker || !strings.HasPrefix(strings.Join(o.Remedy, "\n"), "iptables-legacy -I DOCKER-USER") {
		t.Errorf("found %+v, expected Docker's legacy chain", o)
	}
}
