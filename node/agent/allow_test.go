package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

func mustRules(t testing.TB, texts ...string) []forward.Rule {
	t.Helper()
	var rules []forward.Rule
	for _, text := range texts {
		r, err := forward.ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

var errDialled = errors.New("dialled")

// judge is a Dialler that says where it would go.
func judge(rules []forward.Rule, to *[]string) *Dialler {
	return &Dialler{
		Rules: func(tunnel.Call) []forward.Rule { return rules },
		Connect: func(_ context.Context, _ netip.AddrPort, _, addr string) (net.Conn, error) {
			*to = append(*to, addr)
			return nil, errDialled
		},
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			switch host {
			case "inside.test":
				return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.2")}, nil
			case "localhost":
				return []netip.Addr{netip.IPv6Loopback(), netip.MustParseAddr("127.0.0.1")}, nil
			}
			return nil, fmt.Errorf("%s: no such host", host)
		},
	}
}

func TestDialler(t *testing.T) {
	for _, c := range []struct{ rules, call, to string }{
		{"", "127.0.0.1:80", "refused"},
		{"", "localhost:80", "refused"},
		{"*", "example.com:80", "example.com:80"},
		{"*:443", "example.com:80", "refused"},
		{"*:443", "192.0.2.1:443", "192.0.2.1:443"},
		{"localhost:80", "127.0.0.1:80", "127.0.0.1:80"},
		{"localhost:80", "[::1]:80", "[::1]:80"},
		{"localhost:80", ":80", "localhost:80"},
		{"localhost:80", "0.0.0.0:80", "127.0.0.1:80"},
		{"localhost:80", "[::]:80", "[::1]:80"},
		{"localhost:80", "[::ffff:127.0.0.1]:80", "127.0.0.1:80"},
		{"localhost:80", "localhost:81", "refused"},
		{"127.0.0.1", "localhost:80", "127.0.0.1:80"},
		{"10.0.0.0/8", "0.0.0.0:80", "refused"},
		{"10.0.0.0/8", "127.0.0.1:80", "refused"},
		{"10.0.0.0/8:22", "10.1.2.3:22", "10.1.2.3:22"},
		{"10.0.0.0/8:22", "10.1.2.3:23", "refused"},
		{"10.0.0.0/8", "inside.test:80", "10.0.0.1:80 10.0.0.2:80"},
		{"10.0.0.0/8:22", "inside.test:80", "refused"},
		{"172.16.0.0/12", "inside.test:80", "refused"},
		{"*.test", "inside.test:80", "inside.test:80"},
		{"*.test", "10.0.0.1:80", "refused"},
		{"db.test", "DB.test.:80", "DB.test.:80"},
		{"*", "example.com:0", "unfit"},
		{"*", "example.com:http", "unfit"},
		{"*", "example.com", "unfit"},
		{"*", "", "unfit"},
	} {
		var to []string
		d := judge(mustRules(t, strings.Fields(c.rules)...), &to)
		_, err := d.Dial(t.Context(), tunnel.Call{Kind: tunnel.Dial, Network: "tcp", Address: c.call})
		got := strings.Join(to, " ")
		switch {
		case errors.Is(err, node.ErrRefused):
			got = "refused"
		case errors.Is(err, node.ErrUnfit):
			got = "unfit"
		}
		if got != c.to {
			t.Errorf("%q with the rules %q: %s, %v; want %s", c.call, c.rules, got, err, c.to)
		}
	}
}

func TestForCaller(t *testing.T) {
	rule := mustRules(t, "localhost:1", "localhost:2", "localhost:3")
	list := []Allow{{Rule: rule[0]}, {Rule: rule[1], For: []string{"anna", "ben"}}, {Rule: rule[2], For: []string{"hub"}}}
	for caller, want := range map[string]string{"anna": "[localhost:1 localhost:2]", "carl": "[localhost:1]", "": "[localhost:1 localhost:3]"} {
		if got := fmt.Sprint(forCaller(list, caller)); got != want {
			t.Errorf("%q: %s; want %s", caller, got, want)
		}
	}
}

func TestPlaces(t *testing.T) {
	listen := func(s string) forward.Listen {
		l, err := forward.ParseListen(s)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	list := Places{listen("127.0.0.1:8000-8002"), listen("udp/53")}
	for at, may := range map[string]bool{"127.0.0.1:8001": true, "8001": false, "127.0.0.1:8003": false, "udp/53": true, "udp/127.0.0.1:53": true, "53": false} {
		if err := list.Permit(forward.Door{Listen: listen(at)}); (err == nil) != may {
			t.Errorf("%s: %v", at, err)
		}
	}
	if err := list.Permit(forward.Door{Listen: listen("udp/53"), Hosts: []string{"a.example"}}); !errors.Is(err, node.ErrUnfit) {
		t.Errorf("a name: %v", err)
	}
	place, _ := listenOf("tcp", "127.0.0.1", 0)
	any := forward.Door{Listen: place}
	tries, err := list.Places(any, 8002, 0)
	if want := "[tcp/127.0.0.1:8002 tcp/127.0.0.1:8000 tcp/127.0.0.1:8001 tcp/127.0.0.1:8002]"; err != nil || fmt.Sprint(tries) != want {
		t.Errorf("%v, %v; want %s", tries, err, want)
	}
	if _, err := list.Places(any, 0, maxPlaces); !errors.Is(err, errMost) {
		t.Error(err)
	}
}

// FuzzDialler has whatever address a call has lead nowhere but where the rules permit.
func FuzzDialler(f *testing.F) {
	for _, s := range []string{"127.0.0.1:80", "localhost:80", "[::ffff:10.0.0.1]:80", "inside.test:80", ":80", "0:80", "[fe80::1%eth0]:80", "0x7f.1:80"} {
		f.Add(s, "tcp")
	}
	rules := mustRules(f, "10.0.0.0/8:80")
	f.Fuzz(func(t *testing.T, addr, network string) {
		var to []string
		d := judge(rules, &to)
		if conn, err := d.Dial(t.Context(), tunnel.Call{Network: network, Address: addr}); err == nil || conn != nil {
			t.Fatalf("%v, %v", conn, err)
		}
		for _, one := range to {
			if at, err := netip.ParseAddrPort(one); err != nil || !rules[0].Matches("", at.Addr(), at.Port()) {
				t.Errorf("%q leads to %q", addr, one)
			}
		}
	})
}
