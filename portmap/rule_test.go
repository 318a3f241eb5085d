package portmap_test

import (
	"testing"

	"github.com/fairlead-net/fairlead/portmap"
)

func TestParseRule(t *testing.T) {
	for in, want := range map[string]string{
		"*": "*", " 192.168.1.20 ": "192.168.1.20", "192.168.1.0/24 1024-65535": "192.168.1.0/24 1024-65535", "* *": "*", "2001:db8::/64 tcp/22": "2001:db8::/64 tcp/22",
		"AA-BB-CC-DD-EE-F0 *": "aa:bb:cc:dd:ee:f0", "* udp/* ": "* udp/*", "* tcp+udp/80,443": "* 80,443", "* * *Torrent 4.*": "* * *torrent 4.*", "* 80 *": "* 80",
		"::ffff:10.0.0.1": "10.0.0.1",
	} {
		r, err := portmap.ParseRule(in)
		if err != nil || r.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, r, err, want)
		}
	}
	for _, bad := range []string{"", "host", "192.168.1.1/24", "* 0", "* sctp/1", "* 1 [", "fe80::1%eth0", "* tcp", "01:00:5e:00:00:01"} {
		if r, err := portmap.ParseRule(bad); err == nil {
			t.Errorf("%q passed as %q", bad, r)
		}
	}
}

// FuzzParseRule holds what is read to being written the same.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"*", "10.0.0.0/8 tcp/22-80 *x*", "aa:bb:cc:dd:ee:f0 *", "2001:db8::1 udp/53"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := portmap.ParseRule(s)
		if err != nil {
			return
		}
		again, err := portmap.ParseRule(r.String())
		if err != nil || !again.Equal(r) {
			t.Errorf("%q was read as %q, and that as %q, %v", s, r, again, err)
		}
	})
}
