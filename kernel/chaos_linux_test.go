package kernel_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestChaos applies random configurations while a session runs, and after each compares the kernel with the model: its
// elements with what a fresh compile asks for, and who answers random callers with what forward.Index says.
func TestChaos(t *testing.T) {
	const rounds, calls = 40, 12
	lab := netlab.Gateway(t)
	lab.Host.Sysctl(t, "net.ipv4.icmp_ratelimit", "0") // "port unreachable" is how a caller learns at once that nobody is there
	for port := 5000; port < 5030; port++ {
		lab.Server.Echo(t, fmt.Sprintf("[::]:%d", port))
		lab.Peer.Echo(t, fmt.Sprintf("[::]:%d", port))
	}
	c := newCarrier(t, lab.Host)
	steady := fwd(t, "steady 999 192.168.1.10:5000")
	c.apply([]*forward.Forward{steady})
	conn, err := lab.Client.Dial(context.Background(), "tcp", netlab.RouterWAN4+":999")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1024)); err != nil { // the greeting
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	have := map[string]*forward.Forward{steady.Name: steady}
	for round := range rounds {
		want, index := mutate(t, r, have)
		c.apply(want)
		_ = lab.Host.Do(func() error {
			if add, del, err := c.Drift(want); add+del > 0 || err != nil {
				t.Fatalf("round %d: the kernel lacks %d elements and has %d too many (%v)", round, add, del, err)
			}
			return nil
		})
		for range calls {
			probe(t, r, lab, index)
		}
		if _, err := conn.Write([]byte("tick")); err != nil {
			t.Fatalf("round %d: the steady session: %v", round, err)
		}
		buf := make([]byte, 16)
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "tick" {
			t.Fatalf("round %d: the steady session: %q, %v", round, buf[:n], err)
		}
	}
	if got := c.stats()["steady"]; got.Total != 1 {
		t.Errorf("the steady forward counts %+v", got)
	}
}

// mutate adds, removes and changes a few forwards, never two that claim the same traffic.
func mutate(t *testing.T, r *rand.Rand, have map[string]*forward.Forward) ([]*forward.Forward, *forward.Index) {
	for range 1 + r.IntN(4) {
		name := fmt.Sprintf("f%02d", r.IntN(25))
		delete(have, name)
		if r.IntN(3) > 0 {
			have[name] = randomForward(t, r, name)
		}
	}
	for {
		var index forward.Index
		var out []*forward.Forward
		for _, f := range have {
			out = append(out, f)
		}
		slices.SortFunc(out, func(a, b *forward.Forward) int { return strings.Compare(a.Name, b.Name) })
		var tied string
		for _, f := range out {
			if err := index.Add(f); err != nil {
				tied = f.Name
				break
			}
		}
		if tied == "" {
			return out, &index
		}
		delete(have, tied)
	}
}

func randomForward(t *testing.T, r *rand.Rand, name string) *forward.Forward {
	pick := func(options ...string) string { return options[r.IntN(len(options))] }
	first := 1000 + r.IntN(20)
	ports := pick(fmt.Sprint(first), fmt.Sprintf("%d-%d", first, first+3), fmt.Sprintf("%d,%d", first, first+7))
	host := pick("192.168.1.10", "192.168.1.20")
	to := fmt.Sprintf("%s:%d", host, 5000+r.IntN(20))
	if strings.Contains(ports, "-") && r.IntN(2) == 0 {
		base := 5000 + r.IntN(20)
		to = fmt.Sprintf("%s:%d-%d", host, base, base+3)
	}
	balance := pick("", "", "balance=round-robin", "balance=source")
	if balance != "" {
		_, ports, _ := strings.Cut(to, ":")
		to += "," + pick("192.168.1.10", "192.168.1.20") + ":" + ports
		if r.IntN(3) == 0 {
			to += "," + pick("192.168.1.10", "192.168.1.20") + ":" + ports
		}
	}
	addr, input := pick("", "0.0.0.0:", netlab.RouterWAN4+":"), pick("", "", "interface=wan")
	if balance != "" && addr != "" {
		input = "" // from, an address and an interface would be too long a key
	}
	return fwd(t, strings.Join([]string{
		name, pick("tcp/", "udp/", "tcp+udp/") + addr + ports, to,
		pick("", "from="+netlab.Client4+"/32", "from=203.0.113.0/24", "from=203.0.113.0/24,"+netlab.Client4b+"/32"),
		pick("", "", "except="+netlab.Client4b+"/32"), input, pick("", "source=rewrite"), pick("", "", "", "hold"), balance,
	}, " "))
}

// probe calls a random port from a random address, and holds the answer against the model.
func probe(t *testing.T, r *rand.Rand, lab *netlab.Topology, index *forward.Index) {
	t.Helper()
	network := []forward.Networks{forward.TCP, forward.UDP}[r.IntN(2)]
	from := []string{netlab.Client4, netlab.Client4b}[r.IntN(2)]
	port := uint16(1000 + r.IntN(27))
	f := index.Match(forward.Packet{Network: network, Client: netip.MustParseAddr(from),
		Addr: netip.MustParseAddr(netlab.RouterWAN4), Local: true, Port: port, Interface: "wan"})
	v := visit{by: lab.Client, from: from, to: fmt.Sprintf("%s/%s:%d", network, netlab.RouterWAN4, port)}
	if f != nil && f.Carry == forward.CarryKernel {
		for _, target := range f.To {
			v.node += map[string]string{"192.168.1.10": "server ", "192.168.1.20": "peer "}[target.Addr.String()]
		}
		v.seen = "client"
		if f.Source == forward.SourceRewrite {
			v.seen = "host"
		}
	}
	v.check(t)
}
