package portmap

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestParseRule(t *testing.T) {
	for in, want := range map[string]string{ // "!" is refused
		"192.168.1.0/24 1024-65535":         "192.168.1.0/24 1024-65535",
		"192.168.1.77/24":                   "192.168.1.0/24",
		"192.168.1.7/32 tcp/*":              "192.168.1.7 tcp/*",
		"AA:BB:CC:DD:EE:FF *":               "aa:bb:cc:dd:ee:ff",
		"aa-bb-cc-dd-ee-ff udp/3074,1,9-10": "aa:bb:cc:dd:ee:ff udp/1,9-10,3074",
		"* 22 *SSH*":                        "* 22 *ssh*",
		"*\t * \t two  words ":              "* * two  words",
		"*":                                 "*",
		"* * **":                            "*",
		"* udp/* skype [0-9]*":              "* udp/* skype [0-9]*",
		"2001:db8::/32 80":                  "2001:db8::/32 80",
		"::ffff:192.0.2.1":                  "192.0.2.1",
		"fe80::1%eth0":                      "!",
		"":                                  "!",
		" ":                                 "!",
		"lan 80":                            "!",
		"* 0":                               "!",
		"* sctp/80":                         "!",
		"* tcp/":                            "!",
		"* 80 [a":                           "!",
		"* 80 \x00":                         "!",
		"* 80-70":                           "!",
		"* 80 caf\xe9":                      "!",
	} {
		r, err := ParseRule(in)
		got := r.String()
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q is %q (%v), want %q", in, got, err, want)
		}
	}
}

func TestRuleFits(t *testing.T) {
	c := Client{Addr: netip.MustParseAddr("192.168.1.20"), MAC: "02:00:00:00:00:01", Describe: "Xbox (192.168.1.20:3074) 3074/UDP"}
	for rule, want := range map[string]bool{
		"*": true, "192.168.1.0/24": true, "192.168.2.0/24": false, "02:00:00:00:00:01": true, "02:00:00:00:00:02": false,
		"* tcp/*": false, "* udp/1": true, "* * xbox*": true, "* * *udp": true, "* * *skype*": false, "2001:db8::/32": false, "* * *3074/?dp": true,
	} {
		r, err := ParseRule(rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Fits(c, forward.UDP); got != want {
			t.Errorf("%q fits: %v", rule, got)
		}
	}
	unknown := Client{Addr: c.Addr}
	if r, _ := ParseRule("02:00:00:00:00:01"); r.Fits(unknown, forward.UDP) {
		t.Error("a rule with a hardware address fits a client whose own is not known")
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"192.168.1.0/24 1024-65535", "aa:bb:cc:dd:ee:ff *", "* 22 *ssh*", "* udp/* a  b\\*", "::1 tcp/1,2-3 [^a-c]?", "10/8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || !again.Equal(r) {
			t.Fatalf("%q is %q, which is %+v (%v), not %+v", s, r, again, err, r)
		}
		_ = r.Fits(Client{Addr: netip.IPv6Loopback(), Describe: s}, forward.TCP)
	})
}
