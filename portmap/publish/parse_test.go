package publish

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestReachOf(t *testing.T) {
	for addr, want := range map[string]Reach{
		"198.41.0.4": Public, "10.1.2.3": Private, "172.31.255.255": Private, "172.32.0.1": Public, "192.168.0.1": Private, "100.64.0.1": Shared,
		"100.128.0.1": Public, "192.0.0.2": Shared, "192.0.0.9": Public, "192.0.2.1": Reserved, "198.19.0.1": Reserved, "203.0.113.9": Reserved,
		"169.254.1.1": Local, "127.0.0.1": Local, "0.0.0.0": Reserved, "224.0.0.1": Reserved, "255.255.255.255": Reserved, "::ffff:10.0.0.1": Private,
		"2a01:4f8::1": Public, "fd00::1": Private, "fe80::1%eth0": Local, "::1": Local, "2001:db8::1": Reserved, "::": Reserved, "ff02::1": Reserved,
	} {
		if got := ReachOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is %s, expected %s", addr, got, want)
		}
	}
	if got := ReachOf(netip.Addr{}); got != Reserved {
		t.Errorf("no address is %s", got)
	}
}

func TestWishes(t *testing.T) {
	one := []forward.Range{{First: 80, Last: 80}}
	for says, w := range map[string]Wish{
		"a name":      {Networks: forward.TCP, Ports: one},
		"neither tcp": {Name: "a", Ports: one},
		"no port":     {Name: "a", Networks: forward.TCP},
		"too many":    {Name: "a", Networks: forward.TCP, Ports: []forward.Range{{First: 1, Last: 65}}},
		"beyond":      {Name: "a", Networks: forward.TCP, Ports: []forward.Range{{First: 1, Last: 9}}, External: 65530},
		"lifetime":    {Name: "a", Networks: forward.TCP, Ports: one, Lifetime: 1},
	} {
		if err := w.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, expected %q", w, err, says)
		}
	}
	w := Wish{Name: "a", Networks: forward.TCP, Ports: []forward.Range{{First: 10, Last: 11}, {First: 20, Last: 20}}, External: 110}
	if got := w.items(); len(got) != 3 || got[2].external != 120 || got[1].external != 111 || w.Validate() != nil {
		t.Errorf("%+v, %v", got, w.Validate())
	}
}

func TestLocations(t *testing.T) {
	gw, gw6 := netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("fe80::1%eth0")
	for _, c := range []struct {
		location string
		from     netip.Addr
		want     string
	}{
		{"http://192.168.1.1:5000/root.xml", gw, "http://192.168.1.1:5000/root.xml"},
		{"http://192.168.1.1/root.xml#x", gw, "http://192.168.1.1/root.xml"},
		{"http://192.168.1.2:5000/root.xml", gw, ""},
		{"http://198.51.100.1/root.xml", gw, ""},
		{"http://gateway.example/root.xml", gw, ""},
		{"https://192.168.1.1/root.xml", gw, ""},
		{"file:///etc/passwd", gw, ""},
		{"http://a:b@192.168.1.1/", gw, ""},
		{"http://[fe80::1]:5000/r", gw6, "http://[fe80::1%25eth0]:5000/r"},
		{"http://[2001:db8::1]:5000/r", gw6, "http://[fe80::1%25eth0]:5000/r"}, // where it answered from
		{"http://192.168.1.1:5000/r", gw6, ""},
	} {
		if got, ok := checkLocation(c.location, c.from); got != c.want || ok != (c.want != "") {
			t.Errorf("%s from %s: %q, expected %q", c.location, c.from, got, c.want)
		}
	}
}

// FuzzLocation wants a location never to lead elsewhere than to who said it.
func FuzzLocation(f *testing.F) {
	f.Add("http://192.168.1.1:5000/root.xml")
	f.Add("http://[fe80::1%25eth0]/")
	f.Add("http://192.168.1.1:5000@198.51.100.1/")
	f.Fuzz(func(t *testing.T, s string) {
		for _, from := range []netip.Addr{homeGW, netip.MustParseAddr("fe80::1%eth0")} {
			got, ok := checkLocation(s, from)
			if !ok {
				continue
			}
			u, err := url.Parse(got)
			if err != nil {
				t.Fatalf("%q became %q: %v", s, got, err)
			}
			if host, err := netip.ParseAddr(u.Hostname()); err != nil || host != from {
				t.Fatalf("%q became %q, which leads to %s (%v)", s, got, host, err)
			}
		}
	})
}

func FuzzClean(f *testing.F) {
	f.Add("Router\x1b[31m", 10)
	f.Add("\xff\u009b", 3)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most %= 100
		got := clean(s, most)
		if len(got) > max(most, 0)+4 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
