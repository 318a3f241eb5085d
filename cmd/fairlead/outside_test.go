package main

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

func TestInside(t *testing.T) {
	s := newSurroundings()
	s.places = []portmap.Place{{Addrs: []netip.Prefix{
		netip.MustParsePrefix("192.168.1.1/24"), netip.MustParsePrefix("192.168.1.2/24"), netip.MustParsePrefix("2001:db8:1::1/64"),
	}}}
	for _, a := range []string{"192.168.1.1", "192.168.1.2", "2001:db8:1::1", "2001:db8:1::2"} { // the last is the WAN's
		s.own[netip.MustParseAddr(a)] = true
	}
	for addr, want := range map[string]bool{
		"192.168.1.10": true, "192.168.1.1": false, "192.168.1.2": false, "192.168.2.10": false,
		"2001:db8:1::10": true, "2001:db8:1::1": false, "2001:db8:1::2": false, "2001:db8:2::10": false,
	} {
		if got := s.Inside(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestReserved(t *testing.T) {
	listens := func(specs ...string) (out []forward.Listen) {
		for _, text := range specs {
			l, err := forward.ParseListen(text)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, l)
		}
		return out
	}
	s := newSurroundings()
	s.spec, s.open = &forward.Gateway{Open: listens("udp/51820", "192.0.2.9:8000", "tcp+udp/0.0.0.0:9000-9009")}, append(listens("2222"), forward.Listen{Path: "/run/a"})
	for _, c := range []struct {
		network forward.Networks
		port    uint16
		want    bool
	}{
		{forward.UDP, 51820, true}, {forward.TCP, 51820, false}, {forward.TCP, 8000, false}, {forward.UDP, 9009, true}, {forward.TCP, 9010, false},
		{forward.TCP, 2222, true},
	} {
		if got := s.Reserved(c.network, netip.AddrPortFrom(netip.MustParseAddr("203.0.113.5"), c.port)); got != c.want {
			t.Errorf("%v %d: %v", c.network, c.port, got)
		}
	}
}

// TestNobodyOutsideIsServed has an interface on both sides.
func TestNobodyOutsideIsServed(t *testing.T) {
	s := newSurroundings()
	for _, g := range []*forward.Gateway{{WAN: []string{"lo"}, LAN: []string{"l*"}}, {WAN: []string{"none"}, LAN: []string{"l*"}, DMZ: []string{"lo"}}} {
		s.settle(g, nil)
		for _, p := range s.Places() {
			if p.Interface.Name == "lo" {
				t.Errorf("%+v is served", p)
			}
		}
	}
}
