package publish

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

func TestParseRoutes(t *testing.T) {
	for line, want := range map[string]string{
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003 eth0": "fe80::1%eth0",
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db8000000000000000000000001 00000400 00000001 00000000 00000003 eth0": "2001:db8::1",
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo":   "",
		"20010db8000000000000000000000000 20 00000000000000000000000000000000 00 20010db8000000000000000000000001 00000400 00000001 00000000 00000003 eth0": "",
	} {
		r, ok := parseRoute6(strings.Fields(line))
		if ok != (want != "") || ok && r.Gateway.String() != want {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if r, ok := parseRoute4(strings.Fields("eth0 00A8C0 0 0")); ok {
		t.Errorf("%+v", r)
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add("eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0")
	f.Add("00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003 eth0")
	f.Fuzz(func(t *testing.T, line string) {
		if r, ok := parseRoute4(strings.Fields(line)); ok && !r.Gateway.Is4() {
			t.Fatalf("%+v", r)
		}
		if r, ok := parseRoute6(strings.Fields(line)); ok && !r.Gateway.Is6() {
			t.Fatalf("%+v", r)
		}
	})
}

// TestSystem reads the routes of a host, and has routers say who they are.
func TestSystem(t *testing.T) {
	lab := netlab.New(t)
	host, first, second := lab.Node("host"), lab.Node("first"), lab.Node("second")
	first.Forwarding(t)
	second.Forwarding(t)
	lab.Link(netlab.End{Node: host, Interface: "eth0", Addrs: []string{"192.168.1.10/24", "2a01:4f8::10/64"}},
		netlab.End{Node: first, Interface: "lan", Addrs: []string{"192.168.1.1/24", "2a01:4f8::1/64"}})
	lab.Link(netlab.End{Node: first, Interface: "wan", Addrs: []string{"10.7.7.2/24"}}, netlab.End{Node: second, Interface: "lan", Addrs: []string{"10.7.7.1/24"}})
	host.Route(t, "default", "192.168.1.1")
	host.Route(t, "default", "2a01:4f8::1")
	first.Route(t, "default", "10.7.7.1")
	second.Route(t, "default", "10.7.7.2")
	var system System
	err := host.Do(func() error {
		routes, err := system.Routes()
		if err != nil || len(routes) != 2 || routes[0].Gateway.String() != "192.168.1.1" || routes[1].Gateway.String() != "2a01:4f8::1" {
			t.Errorf("%+v, %v", routes, err)
		}
		addrs, err := system.Addresses()
		if err != nil || len(addrs) != 3 { // the link-local one is the third; none of loopback
			t.Errorf("%+v, %v", addrs, err)
		}
		if a, ok := near(addrs, routes[0]); !ok || a.String() != "192.168.1.10/24" {
			t.Errorf("%+v", a)
		}
		if list := globals(addrs, "eth0"); len(list) != 1 {
			t.Errorf("%+v", list)
		}
		for n, want := range map[int]string{1: "192.168.1.1", 2: "10.7.7.1"} {
			if hop, err := system.Hop(t.Context(), netip.MustParseAddr("192.168.1.10"), n); err != nil || hop.String() != want {
				t.Errorf("hop %d is %s, %v", n, hop, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
