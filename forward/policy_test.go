package forward_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func rules(t testing.TB, list ...string) (out []forward.Rule) {
	t.Helper()
	for _, s := range list {
		r, err := forward.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestParseRule(t *testing.T) {
	for _, test := range []struct{ in, out string }{
		{"*", "*"},
		{"*:*", "*"},
		{"*:443", "*:443"},
		{"DB.Internal.", "db.internal"},
		{"db_1.internal:5432-5433", "db_1.internal:5432-5433"},
		{"*.Example.com:443", "*.example.com:443"},
		{"socks:80", "socks:80"},
		{"10.0.0.0/8", "10.0.0.0/8"},
		{"10.0.0.0/8:80", "10.0.0.0/8:80"},
		{"192.0.2.7", "192.0.2.7"},
		{"192.0.2.7/32:443", "192.0.2.7:443"},
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"[::ffff:10.0.0.0]/104:80", "10.0.0.0/8:80"},
		{"2001:db8::1", "2001:db8::1"},
		{"2001:db8::/32", "2001:db8::/32"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"[2001:db8::1]:443", "[2001:db8::1]:443"},
		{"[2001:db8::]/32:80-89", "[2001:db8::]/32:80-89"},
		{"0.0.0.0/0", "0.0.0.0/0"},
	} {
		r, err := forward.ParseRule(test.in)
		if err != nil || r.String() != test.out {
			t.Errorf("%q: %q, %v; want %q", test.in, r, err, test.out)
		}
	}
	for _, bad := range []string{
		"", ":", ":443", "h:", "h:0", "h:65536", "h:80,81", "h:9-8", "10.0.0.7/8", "10.0.0.0/33", "1.2.3", "a b", "-a", "a..", "*.", "**", "a.*", "*.*.com",
		"*a.com", "fe80::1%eth0", "[2001:db8::1", "[2001:db8::1]:", "[2001:db8::1]0", "[::1]0/32", "[10.0.0.1]:80", "[a.example]:80", "[]:80", "a/b", "/8", "a/8",
		"::x", "*/0", strings.Repeat("a.", 127) + "a",
	} {
		if r, err := forward.ParseRule(bad); err == nil {
			t.Errorf("%q is %q", bad, r)
		}
	}
}

func TestRuleMatches(t *testing.T) {
	addr := netip.MustParseAddr
	for _, test := range []struct {
		rule, host string
		addr       netip.Addr
		port       uint16
		want       bool
	}{
		{"*", "", addr("192.0.2.1"), 1, true},
		{"*:443", "a.example", netip.Addr{}, 443, true},
		{"*:443", "a.example", netip.Addr{}, 442, false},
		{"*:443-444", "a.example", netip.Addr{}, 445, false},
		{"a.example", "A.Example.", netip.Addr{}, 1, true},
		{"a.example", "b.a.example", netip.Addr{}, 1, false},
		{"a.example", "", addr("192.0.2.1"), 1, false},
		{"*.example", "b.a.example", netip.Addr{}, 1, true},
		{"*.example", "a.EXAMPLE.", netip.Addr{}, 1, true},
		{"*.example", "example", netip.Addr{}, 1, false},
		{"*.example", ".example", netip.Addr{}, 1, false},
		{"*.example", "anexample", netip.Addr{}, 1, false},
		{"10.0.0.0/8", "a.example", addr("10.1.2.3"), 1, true},
		{"10.0.0.0/8", "", addr("::ffff:10.1.2.3"), 1, true},
		{"::ffff:10.0.0.0/104", "", addr("10.1.2.3"), 1, true},
		{"10.0.0.0/8", "10.1.2.3", netip.Addr{}, 1, false}, // the caller has the address when there is one
		{"10.0.0.0/8", "", addr("11.0.0.1"), 1, false},
		{"fe80::/10", "", addr("fe80::1%eth0"), 1, true},
		{"0.0.0.0/0", "", addr("::1"), 1, false},
	} {
		if got := rules(t, test.rule)[0].Matches(test.host, test.addr, test.port); got != test.want {
			t.Errorf("%s, %q %v port %d: %v", test.rule, test.host, test.addr, test.port, got)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		permit, deny string
		want         forward.Verdict // for a.example at 10.0.0.1, port 443
	}{
		{"", "", forward.Open},
		{"", "b.example", forward.Open},
		{"", "*.example:443", forward.Denied},
		{"10.0.0.0/8", "", forward.Permitted},
		{"10.0.0.0/8", "10.0.0.1", forward.Denied},
		{"b.example", "", forward.Denied},
		{"b.example *:443", "", forward.Open},
		{"*.example *:443", "", forward.Permitted},
		{"*:80", "", forward.Denied},
	} {
		p := forward.Policy{Permit: rules(t, strings.Fields(test.permit)...), Deny: rules(t, strings.Fields(test.deny)...)}
		if got := p.Judge("a.example", netip.MustParseAddr("10.0.0.1"), 443); got != test.want {
			t.Errorf("permit %q, deny %q: %v, want %v", test.permit, test.deny, got, test.want)
		}
		if !p.Equal(p) || p.Equal(forward.Policy{Deny: rules(t, "x")}) {
			t.Errorf("permit %q, deny %q: Equal", test.permit, test.deny)
		}
	}
}

func TestIsInward(t *testing.T) {
	for _, s := range strings.Fields(`127.0.0.1 127.255.0.1 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 100.64.0.1 0.0.0.0 0.1.2.3 224.0.0.1
		239.1.1.1 255.255.255.255 ::1 :: fe80::1 fe80::1%eth0 fd00::1 fec0::1 ff02::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1
		64:ff9b::10.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:a00:1::1 2002:7f00:1::`) {
		if !forward.IsInward(netip.MustParseAddr(s)) {
			t.Errorf("%s counts as public", s)
		}
	}
	if !forward.IsInward(netip.Addr{}) {
		t.Error("no address counts as public")
	}
	for _, s := range strings.Fields(`192.0.2.1 1.1.1.1 172.32.0.1 100.128.0.1 2001:db8::1 ::ffff:1.1.1.1 64:ff9b::1.1.1.1 2002:101:101::1`) {
		if forward.IsInward(netip.MustParseAddr(s)) {
			t.Errorf("%s does not count as public", s)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"*", "*.example.com:443", "[2001:db8::]/32:80-89", "10.0.0.0/8", "::ffff:1.2.3.4", "[::1]0", "a..", "*:*", "fe80::1%a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := forward.ParseRule(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("%q: more than a line: %v", s, err)
			}
			return
		}
		again, err := forward.ParseRule(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %q is %q (%v)", s, r, again, err)
		}
		port := max(1, r.Ports.First)
		switch {
		case r.Prefix.IsValid():
			if !r.Matches("", r.Prefix.Addr(), port) || r.Matches("a.example", netip.Addr{}, port) {
				t.Errorf("%q does not match its own network, or matches a name", s)
			}
		case strings.HasPrefix(r.Host, "*."):
			if r.Matches(r.Host[2:], netip.Addr{}, port) || !r.Matches("x"+r.Host[1:], netip.Addr{}, port) {
				t.Errorf("%q matches the name, or not what is below it", s)
			}
		case !r.Matches(strings.ToUpper(r.Host)+".", netip.Addr{}, port):
			t.Errorf("%q does not match its own name", s)
		}
	})
}
