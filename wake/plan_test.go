package wake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestDirectedBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{
		"192.168.1.2/24": "192.168.1.255", "10.1.2.3/8": "10.255.255.255", "172.16.5.9/20": "172.16.15.255",
		"192.0.2.5/30": "192.0.2.7", "0.0.0.1/0": "255.255.255.255",
		"192.0.2.5/31": "none", "192.0.2.5/32": "none", "fd00:1::2/64": "none",
	} {
		got := "none"
		if addr, ok := directedBroadcast(netip.MustParsePrefix(prefix)); ok {
			got = addr.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

func testLink(index int, name string, prefixes ...string) link {
	l := link{index: index, name: name, ethernet: true}
	for _, p := range prefixes {
		l.prefixes = append(l.prefixes, netip.MustParsePrefix(p))
	}
	return l
}

var testLinks = []link{
	testLink(2, "lan", "192.168.1.2/24", "fd00:1::2/64", "fe80::2/64"),
	testLink(3, "wan", "203.0.113.7/24", "198.51.100.1/31"),
	testLink(4, "six", "fe80::4/64"),
	testLink(5, "port"),
}

// What is sent where, for each thing that may be known of the host.
func TestPlan(t *testing.T) {
	lan := []string{"lan 192.168.1.2>255.255.255.255", "lan 192.168.1.2>192.168.1.255", "lan ::>ff02::1%2"}
	wan := []string{"wan 203.0.113.7>255.255.255.255", "wan 203.0.113.7>203.0.113.255", "wan 198.51.100.1>255.255.255.255"}
	six := []string{"six ::>ff02::1%4"}
	for _, c := range []struct {
		addr, by string
		want     [][]string
	}{
		{"", "", [][]string{lan, wan, six}},
		{"192.168.1.10", "", [][]string{lan, {"route 0.0.0.0>192.168.1.10"}}},
		{"::ffff:192.168.1.10", "", [][]string{lan, {"route 0.0.0.0>192.168.1.10"}}},
		{"fd00:1::10", "", [][]string{lan, {"route ::>fd00:1::10"}}},
		{"192.0.2.99", "", [][]string{lan, wan, six, {"route 0.0.0.0>192.0.2.99"}}},
		{"fe80::9", "", [][]string{lan, six, {"route ::>fe80::9"}}},
		{"fe80::9%six", "", [][]string{six, {"route ::>fe80::9%six"}}},
		{"fe80::9%4", "", [][]string{six, {"route ::>fe80::9%4"}}},
		{"", "wan", [][]string{wan}},
		{"192.168.1.10", "wan", [][]string{wan, {"wan 0.0.0.0>192.168.1.10"}}},
		{"", "port", nil},
	} {
		target := Target{MAC: testMAC, Interface: c.by}
		if c.addr != "" {
			target.Addrs = []netip.Addr{netip.MustParseAddr(c.addr)}
		}
		chosen, err := choose(testLinks, target)
		if err != nil {
			t.Errorf("%+v: %v", target, err)
			continue
		}
		var got []string
		for _, s := range plan(chosen, target) {
			by := "route"
			if s.link != nil {
				by = s.link.name
			}
			for _, to := range s.to {
				got = append(got, fmt.Sprintf("%s %v>%v", by, s.from, to))
			}
		}
		if want := slices.Concat(c.want...); !slices.Equal(got, want) {
			t.Errorf("to %q by %q:\n got %q\nwant %q", c.addr, c.by, got, want)
		}
	}
	if got, err := choose(testLinks, Target{Interface: "lan0"}); err == nil {
		t.Errorf("an interface that is not there: %v", got)
	}
}

func TestOutcome(t *testing.T) {
	target := Target{MAC: testMAC}
	down := errors.New("network is down")
	copies := []Copy{
		{"eth0", "192.168.1.255:9", down}, {"eth0", "192.168.1.255:7", down}, {"eth1", "10.0.0.255:9", down}, {"", "192.0.2.1:9", down},
	}
	err := outcome(target, copies)
	if want := `no magic packet for 52:54:00:12:34:ab could be sent: eth0 to 192.168.1.255:9: network is down
eth1 to 10.0.0.255:9: network is down
by route to 192.0.2.1:9: network is down`; err == nil || err.Error() != want || !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
	if err := outcome(target, append(copies, Copy{To: "192.0.2.1:7"})); err != nil {
		t.Errorf("one was sent: %v", err)
	}
	if err := outcome(target, nil); !errors.Is(err, errNoLink) {
		t.Errorf("nothing to send by: %v", err)
	}
}

func TestSendRefuses(t *testing.T) {
	for _, target := range []Target{{}, {MAC: testMAC, Interface: "no-such-if"}} {
		if copies, err := Send(t.Context(), target); err == nil || len(copies) > 0 {
			t.Errorf("%+v: %v, %v", target, copies, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s := source{from: netip.IPv4Unspecified(), to: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	for _, c := range s.send(ended, []byte("x")) {
		if !errors.Is(c.Err, context.Canceled) || !strings.HasPrefix(c.To, "127.0.0.1:") {
			t.Errorf("after the end: %+v", c)
		}
	}
}
