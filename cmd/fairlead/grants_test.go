package main

import (
	"net/netip"
	"testing"
)

// cards is who has which hardware address.
type cards map[string]string

func (c cards) Lookup(addr netip.Addr) (mac, hostname string) { return c[addr.String()], "" }

func TestSameHost(t *testing.T) {
	const one, two = "02:00:5e:10:00:01", "02:00:5e:10:00:02"
	g := &grants{neighbours: cards{"192.168.1.20": one, "192.168.1.21": one, "fe80::20": one, "2001:db8::20": one, "fe80::30": two}}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"192.168.1.20", "192.168.1.20", true}, {"fe80::20", "2001:db8::20", true}, {"fe80::20", "192.168.1.20", true}, {"fe80::30", "fe80::20", false},
		{"192.168.1.20", "192.168.1.21", false}, {"192.168.9.1", "192.168.9.2", false}, {"fe80::8", "fe80::9", false},
	} {
		if got := g.sameHost(netip.MustParseAddr(c.a), netip.MustParseAddr(c.b)); got != c.want {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}
