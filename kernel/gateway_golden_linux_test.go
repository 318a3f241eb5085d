package kernel_test

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// A gatewayCase is a gateway and the forwards beside it.
type gatewayCase struct {
	spec     forward.Gateway
	open     []string
	forwards []string
}

var gatewayCases = map[string]gatewayCase{
	"masquerade": {spec: forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, Masquerade: true, ClampMSS: true}, forwards: []string{"web 80 192.168.1.10:8080"}},
	"snat": {spec: forward.Gateway{WAN: []string{"wan", "ppp*"}, LAN: []string{"lan"},
		SNAT: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:1::1")}, ClampMSS: true},
		forwards: []string{"lease udp/4000 192.168.1.10:3074 outbound", "lease6 udp/[::]:4001 [fd00:1::10]:3074 outbound"}},
	"protect": {spec: forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, DMZ: []string{"dmz"}, Masquerade: true, Protect: true,
		Open: listens("22", "udp/192.0.2.1:5000-5010", "[::]:8443,8444")},
		open: []string{"tcp+udp/0.0.0.0:2222"},
		forwards: []string{
			"app 81 192.168.1.10:80 hold", "apps udp/9000-9010 192.168.1.10 hold from=198.51.100.0/24", "hole [2001:db8:2::10]:80 2001:db8:2::10",
			"holes tcp+udp/[2001:db8:2::11]:80-90 2001:db8:2::11 except=2001:db8:3::/64", "all [2001:db8:2::12]:* 2001:db8:2::12",
			"hole4 198.51.100.9:80 198.51.100.9:80", "web 80 192.168.1.10:8080",
		}},
	"dmz": {spec: forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, DMZ: []string{"dmz"}}, forwards: []string{"app 81 192.168.1.10:80 hold"}},
	"independent": {spec: forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, Masquerade: true, Protect: true, Independent: true},
		forwards: []string{"a udp/3074 192.168.1.10:3074 outbound", "b udp/3075 192.168.1.20:3074 outbound", "c 3076 192.168.1.20:3074", "d 3077 192.168.1.20:3074 outbound",
			"e 3078 192.168.1.20:3074 outbound"}},
	"independent-snat": {spec: forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, Independent: true,
		SNAT: []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:1::1")}}},
	"helpers": {spec: forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan", "vlan*"}, DMZ: []string{"dmz"},
		Helpers: []forward.Helper{forward.HelperFTP, forward.HelperSIP}}},
	"nothing": {spec: forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}}},
}

func listens(specs ...string) (out []forward.Listen) {
	for _, s := range specs {
		l, err := forward.ParseListen(s)
		if err != nil {
			panic(err)
		}
		out = append(out, l)
	}
	return out
}

// TestGatewayGolden is TestGolden for the gateway's table.
func TestGatewayGolden(t *testing.T) {
	for name, c := range gatewayCases {
		t.Run(name, func(t *testing.T) {
			want := fwds(t, c.forwards...)
			var text bytes.Buffer
			if err := kernel.CompileGateway(kernel.DefaultGatewayTable, &c.spec, listens(c.open...), want).WriteNFT(&text); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "gateway-"+name+".nft")
			if *update {
				if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text.String() != string(golden) {
				t.Errorf("compiled:\n%s\nexpected:\n%s", text.String(), golden)
			}
			host := netlab.New(t).Node("host")
			host.Feed(t, text.String(), "nft", "-f", "-")
			byText := host.Run(t, "nft", "-j", "list", "ruleset")
			host.Run(t, "nft", "flush", "ruleset")
			g := newGateway(t, host, "")
			g.apply(&c.spec, listens(c.open...), want)
			byApply := host.Run(t, "nft", "-j", "list", "ruleset")
			host.Feed(t, host.Run(t, "nft", "list", "ruleset"), "nft", "-c", "-f", "-") // as an administrator saves it
			if a, b := withoutHandles(byText), withoutHandles(byApply); a != b {
				t.Errorf("nft -f:\n%s\nApply:\n%s", a, b)
			}
		})
	}
}

// gateway is a Gateway that works on a host.
type gateway struct {
	*kernel.Gateway
	t    testing.TB
	host *netlab.Node
}

func newGateway(t testing.TB, host *netlab.Node, stateDir string) gateway {
	g := gateway{kernel.NewGateway(kernel.GatewayOptions{StateDir: stateDir, Log: testLog(t)}), t, host}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func (g gateway) apply(spec *forward.Gateway, open []forward.Listen, forwards []*forward.Forward) {
	g.t.Helper()
	if err := g.host.Do(func() error { return g.Apply(context.Background(), spec, open, forward.ListOf(forwards...)) }); err != nil {
		g.t.Error(err)
	}
}

func (g gateway) lost() (lost bool) {
	_ = g.host.Do(func() error { lost = g.Lost(); return nil })
	return lost
}

// and is a list of forwards with one more, sorted.
func and(list []*forward.Forward, more ...*forward.Forward) []*forward.Forward {
	out := slices.Concat(list, more)
	slices.SortFunc(out, func(a, b *forward.Forward) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}
