package forward_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestParseListen(t *testing.T) {
	for _, test := range []struct{ in, out string }{
		{"80", "tcp/80"},
		{"tcp/80", "tcp/80"},
		{"udp/53", "udp/53"},
		{"udp+tcp/53", "tcp+udp/53"},
		{":80", "tcp/80"},
		{"*", "tcp/*"},
		{"tcp+udp/192.0.2.1:*", "tcp+udp/192.0.2.1:*"},
		{"443, 80,8000-8010", "tcp/80,443,8000-8010"},
		{"0.0.0.0:80", "tcp/0.0.0.0:80"},
		{"[::]:80", "tcp/[::]:80"},
		{"[2001:DB8:0::1]:80", "tcp/[2001:db8::1]:80"},
		{"[::ffff:192.0.2.1]:80", "tcp/192.0.2.1:80"},
		{"80-80", "tcp/80"},
		{"00080", "tcp/80"},
		{"65535", "tcp/65535"},
		{"unix:/run/a:b,c.sock", "unix:/run/a:b,c.sock"},
	} {
		l, err := forward.ParseListen(test.in)
		if err != nil || l.String() != test.out {
			t.Errorf("%q: %q, %v; want %q", test.in, l, err, test.out)
		}
	}
	for _, bad := range []string{
		"", "tcp/", "0", "65536", "80-", "-80", "+80", "8010-8000", "80,80", "80,70-90", "80,", "1-2-3", "http", "TCP/80", "sctp/80", "tcp/udp/80",
		"2001:db8::1:80", "[2001:db8::1]", "[2001:db8::1", "[2001:db8::1]80", "[]:80", "localhost:80", "192.0.2.1:", "192.0.2.1", "192.0.2.256:80",
		"[fe80::1%eth0]:80", "224.0.0.1:80", "[ff02::1]:80", "[::ffff:224.0.0.1]:80", "unix:", "unix:run/a", "unix:/a\x00b", "unix:/" + strings.Repeat("a", 107), "*,80", "*-80",
	} {
		if l, err := forward.ParseListen(bad); err == nil {
			t.Errorf("%q is %q", bad, l)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, test := range []struct{ in, out string }{
		{"192.168.1.10:8080", "192.168.1.10:8080"},
		{"192.168.1.10", "192.168.1.10"},
		{":8443", ":8443"},
		{"2001:db8::1", "2001:db8::1"},
		{"[2001:db8::1]:80", "[2001:db8::1]:80"},
		{"[::ffff:192.168.1.10]:80", "192.168.1.10:80"},
		{"192.168.1.10:9000-9010", "192.168.1.10:9000-9010"},
		{"db.internal:5432", "db.internal:5432"},
		{"db_1.Internal.", "db_1.Internal."},
		{"fe80::1%eth0", "fe80::1%eth0"},
		{"[fe80::1%eth0]:80", "[fe80::1%eth0]:80"},
		{"unix:/run/app.sock", "unix:/run/app.sock"},
	} {
		target, err := forward.ParseTarget(test.in)
		if err != nil || target.String() != test.out {
			t.Errorf("%q: %q, %v; want %q", test.in, target, err, test.out)
		}
	}
	for _, bad := range []string{
		"", ":", ":0", ":*", ":80,81", "h:", "h:0", "h:65536", "h:9010-9000", "0.0.0.0:80", "[::]:80", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "[::ffff:224.0.0.1]:80",
		"tcp/h:80", "h:80/tcp", "192.168.1.256", "1.2.3", "80", "-h", "h-", "a..b", ".", "a b", "naïve", "[h:80", "[]:80", "2001:db8::1:x", "unix:", "unix:a",
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
	} {
		if target, err := forward.ParseTarget(bad); err == nil {
			t.Errorf("%q is %q", bad, target)
		}
	}
}

func FuzzParseListen(f *testing.F) {
	for _, s := range []string{"80", "tcp+udp/[2001:db8::1]:80,8000-8010", "192.0.2.1:*", "unix:/run/a.sock", "[::ffff:1.2.3.4]:1", "[]:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := forward.ParseListen(s)
		if err != nil {
			return
		}
		again, err := forward.ParseListen(l.String())
		if err != nil || !again.Equal(l) {
			t.Errorf("%q is %q is %q (%v)", s, l, again, err)
		}
		if !l.IsUnix() {
			checkPorts(t, l.Ports)
		}
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"192.168.1.10:80", ":8443", "[fe80::1%eth0]:80-90", "db.internal", "unix:/a", "::ffff:0.0.0.0", "fe80::1%a]:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := forward.ParseTarget(s)
		if err != nil {
			return
		}
		again, err := forward.ParseTarget(target.String())
		if err != nil || again != target {
			t.Errorf("%q is %q is %q (%v)", s, target, again, err)
		}
	})
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"80", "80,443,8000-8010", "*", "1-65535", "2,1", "65535,65535"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := forward.ParsePorts(s)
		if err != nil {
			return
		}
		again, err := forward.ParsePorts(p.String())
		if err != nil || !again.Equal(p) {
			t.Errorf("%q is %q is %q (%v)", s, p, again, err)
		}
		checkPorts(t, p)
	})
}

// checkPorts holds Ports to what it promises: at least one port, ascending, each once, and all its methods of one mind.
func checkPorts(t *testing.T, p forward.Ports) {
	t.Helper()
	if p.All {
		if p.Count() != 65535 || !p.Contains(1) || len(p.Ranges) > 0 {
			t.Errorf("all: %+v", p)
		}
		return
	}
	n, last := 0, uint16(0)
	for port := range p.Each {
		if port <= last || !p.Contains(port) {
			t.Fatalf("%s: port %d after %d", p, port, last)
		}
		n, last = n+1, port
	}
	if n == 0 || n != p.Count() || p.Contains(0) {
		t.Errorf("%s: %d ports, counted %d", p, n, p.Count())
	}
}

func TestTargetPort(t *testing.T) {
	for _, test := range []struct {
		listen, to string
		in, out    uint16
		shifted    bool
	}{
		{"80", "h", 80, 80, false},
		{"80", "h:8080", 80, 8080, false},
		{"8000-8010", "h", 8005, 8005, false},
		{"8000-8010", "h:9000-9010", 8000, 9000, true},
		{"8000-8010", "h:9000-9010", 8010, 9010, true},
		{"8000-8010", "h:8000-8010", 8003, 8003, false},
		{"8000-8010", "h:80", 8005, 80, false},
		{"80,443", "h:8080", 443, 8080, false},
		{"*", "h", 1234, 1234, false},
		{"*", "h:80", 1234, 80, false},
		{"65000-65535", "h:1-536", 65535, 536, true},
	} {
		f := newForward(t, "a", test.listen, test.to)
		if got := f.TargetPort(f.To[0], test.in); got != test.out || f.Shifted(f.To[0]) != test.shifted {
			t.Errorf("%s to %s: %d leads to %d, want %d; shifted %v", test.listen, test.to, test.in, got, test.out, f.Shifted(f.To[0]))
		}
	}
}

func TestAdmits(t *testing.T) {
	f := newForward(t, "a", "80", "h")
	f.From = prefixes("10.0.0.0/8", "fe80::/10")
	f.Except = prefixes("10.1.0.0/16", "fe80::66/128")
	for client, want := range map[string]bool{
		"10.0.0.1": true, "10.1.0.1": false, "11.0.0.1": false, "::ffff:10.0.0.1": true, "::ffff:10.1.0.1": false,
		"fe80::1%eth0": true, "fe80::66%eth0": false, "fe80::66": false, "2001:db8::1": false,
	} {
		if got := f.Admits(netip.MustParseAddr(client)); got != want {
			t.Errorf("%s: %v, want %v", client, got, want)
		}
	}
}

// newForward is a forward to work on; it need not be valid.
func newForward(t testing.TB, name, listen string, to ...string) *forward.Forward {
	t.Helper()
	f := &forward.Forward{Name: name, Origin: forward.OriginFile}
	var err error
	if f.Listen, err = forward.ParseListen(listen); err != nil {
		t.Fatal(err)
	}
	for _, s := range to {
		target, err := forward.ParseTarget(s)
		if err != nil {
			t.Fatal(err)
		}
		f.To = append(f.To, target)
	}
	return f
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out
}
