package neighbours

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var parsers = map[string]struct {
	parse func(string, func(netip.Addr, string, string))
	text  string
	want  string
}{
	"dnsmasq": {ParseDnsmasq, `1700000000 02:00:00:00:00:20 192.168.1.20 xbox 01:02:00:00:00:00:20
1700000000 02:00:00:00:00:30 192.168.1.30 * *
1700000000 06-02:00:00:00:00:40 192.168.1.40 wlan *
duid 00:01:00:01
1700000000 123456 2001:db8::20 xbox 00:01
1700000000 02:00:00:00:00:50 192.168.1.50 bad` + "\x1b" + `[31m *
garbage
`, "192.168.1.20 02:00:00:00:00:20 xbox|192.168.1.40 02:00:00:00:00:40 wlan|2001:db8::20  xbox"},
	"hosts": {ParseHosts, `# br-lan 0001 1 laptop 1700000000 64 128 2001:db8::64/128
2001:db8::64 laptop.lan laptop
192.168.1.7	printer	# here
alone
`, "192.168.1.7  printer|2001:db8::64  laptop"},
	"isc": {ParseISC, `lease 192.168.1.20 {
  starts 4 2026/11/19 10:00:00;
  hardware ethernet 02:00:00:00:00:20;
  client-hostname "ps5";
}
lease 192.168.1.21 {
  hardware ethernet 02:00:00:00:00:21;
}
ia-na "x" {
  iaaddr 2001:db8::1 {
    client-hostname "six";
  }
}
`, `192.168.1.20 02:00:00:00:00:20 ps5|2001:db8::1  six`},
	"kea": {ParseKea, `address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id
192.168.1.20,02:00:00:00:00:20,01:02,3600,1700000000,1,0,0,ps5.lan.,0,,0
192.168.1.21,,,3600,1700000000,1,0,0,,0,,0
short
`, "192.168.1.20 02:00:00:00:00:20 ps5.lan"},
}

func TestParse(t *testing.T) {
	for name, c := range parsers {
		var got []string
		c.parse(c.text, func(a netip.Addr, mac, host string) { got = append(got, fmt.Sprint(a, " ", mac, " ", host)) })
		slices.Sort(got)
		if g := strings.Join(got, "|"); g != c.want {
			t.Errorf("%s: %s, want %s", name, g, c.want)
		}
	}
}

func FuzzFiles(f *testing.F) {
	for _, c := range parsers {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range parsers {
			c.parse(text, func(a netip.Addr, mac, host string) {
				if !a.IsValid() || host == "" || len(host) > maxName || strings.ContainsAny(host, " \x1b\n") || mac != "" && len(mac) != 17 {
					t.Fatalf("%s %q %q", a, mac, host)
				}
			})
		}
	})
}

func TestLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "leases")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("0 02:00:00:00:00:20 192.168.1.20 xbox *\n")
		reads, mac := 0, "02:00:00:00:00:20"
		var broken error
		h := New(Options{Files: []File{{path, ParseDnsmasq}}, Table: func(add func(netip.Addr, string)) error {
			reads++
			if broken == nil {
				add(netip.MustParseAddr("192.168.1.20"), mac)
				add(netip.MustParseAddr("fe80::20"), mac)
			}
			return broken
		}})
		want := func(addr, want string, wantReads int) {
			t.Helper()
			mac, name := h.Lookup(netip.MustParseAddr(addr))
			if got := mac + " " + name; got != want || reads != wantReads {
				t.Errorf("%s is %q after %d reads, want %q after %d", addr, got, reads, want, wantReads)
			}
		}
		want("192.168.1.20", "02:00:00:00:00:20 xbox", 1)
		want("::ffff:192.168.1.20", "02:00:00:00:00:20 xbox", 1)
		want("fe80::20%eth0", "02:00:00:00:00:20 xbox", 1) // the name by the hardware address
		want("192.168.1.99", " ", 1)
		time.Sleep(missingFor)
		want("192.168.1.20", "02:00:00:00:00:20 xbox", 1)
		want("192.168.1.99", " ", 2)
		mac = "02:00:00:00:00:21"
		write("0 02:00:00:00:00:20 192.168.1.20 other *\n")
		time.Sleep(tableFor)
		want("192.168.1.20", "02:00:00:00:00:21 xbox", 3)
		time.Sleep(filesFor)
		want("192.168.1.20", "02:00:00:00:00:21 other", 4)
		broken = errors.New("broken")
		time.Sleep(filesFor)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		want("192.168.1.20", " ", 5)
		if !errors.Is(h.Err(), broken) {
			t.Errorf("Err is %v", h.Err())
		}
	})
}
