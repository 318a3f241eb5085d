package forward_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestGatewayValidate(t *testing.T) {
	addrs := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	for _, test := range []struct {
		name   string
		edit   func(*forward.Gateway)
		fields string
	}{
		{"plain", func(*forward.Gateway) {}, ""},
		{"several", func(g *forward.Gateway) {
			g.WAN, g.DMZ, g.SNAT = []string{"ppp*", "eth0.7"}, []string{"dmz"}, addrs("203.0.113.1", "2001:db8::1")
		}, ""},
		{"no sides", func(g *forward.Gateway) { g.WAN, g.LAN = nil, nil }, "lan wan"},
		{"both sides", func(g *forward.Gateway) { g.LAN = []string{"eth0"} }, "lan"},
		{"a pattern of both sides", func(g *forward.Gateway) { g.LAN = []string{"eth*"} }, "lan"},
		{"two patterns", func(g *forward.Gateway) { g.WAN, g.LAN, g.DMZ = []string{"eth*"}, []string{"eth1*"}, []string{"e*"} }, "dmz lan"},
		{"patterns apart", func(g *forward.Gateway) { g.WAN, g.LAN = []string{"eth0*"}, []string{"eth1*", "eth"} }, ""},
		{"names", func(g *forward.Gateway) {
			g.WAN, g.LAN, g.DMZ = []string{"*"}, []string{"a b"}, []string{"abcdefghijklmnop"}
		}, "dmz lan wan"},
		{"loopback", func(g *forward.Gateway) { g.LAN = []string{"lo"} }, "lan"},
		{"two addresses", func(g *forward.Gateway) { g.SNAT = addrs("203.0.113.1", "203.0.113.2", "127.0.0.1") }, "snat"},
		{"independent of nothing", func(g *forward.Gateway) { g.Masquerade, g.Independent = false, true }, "endpoint_independent"},
		{"open socket", func(g *forward.Gateway) { g.Open = []forward.Listen{{Path: "/run/a"}} }, "open"},
	} {
		g := &forward.Gateway{WAN: []string{"eth0"}, LAN: []string{"br0"}, Masquerade: true}
		test.edit(g)
		if got := fieldsOf(t, g.Validate()); got != test.fields {
			t.Errorf("%s: errors about %q, expected %q: %v", test.name, got, test.fields, g.Validate())
		}
	}
}

func TestIsPinhole(t *testing.T) {
	for listen, want := range map[string]bool{"[2001:db8::1]:80": true, "192.0.2.1:80": true, "80": false, "[::]:80": false, "127.0.0.1:80": false, "[fe80::1]:80": false} {
		l, err := forward.ParseListen(listen)
		if err != nil {
			t.Fatal(err)
		}
		f := &forward.Forward{Name: "f", Listen: l, To: []forward.Target{{Addr: l.Addr}}}
		if got := f.IsPinhole(); got != want {
			t.Errorf("%s: %v", listen, got)
		}
	}
}
