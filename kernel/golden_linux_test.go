package kernel_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

var update = flag.Bool("update", false, "write the golden files anew")

var goldens = map[string][]string{
	"simple":  {"web 80 192.168.1.10:8080"},
	"ipv6":    {"web tcp+udp/[2001:db8::1]:80 [fd00::1]:8080", "all6 [::]:81 [fd00::2]", "from6 82 [fd00::2] from=2001:db8:5::/48"},
	"ports":   {"list 80,443 192.168.1.10", "range tcp+udp/27015-27030 192.168.1.20", "onto 600-609 192.168.1.10:700", "shift 8000-8003 192.168.1.10:9000-9003"},
	"clients": {"a 3389 192.168.1.10", "b 3389 192.168.1.20 from=198.51.100.0/24,203.0.113.7/32", "c 3390 192.168.1.20 except=10.0.0.0/8", "d 3391 192.168.1.20 interface=wan", "e 203.0.113.1:3392 192.168.1.20"},
	"local":   {"app 443 :8443", "apps tcp+udp/9000-9002 :9100-9102"},
	"dmz":     {"dmz tcp+udp/* 192.168.1.50", "web 80 192.168.1.10", "from * 192.168.1.60 from=198.51.100.0/24"},
	"source":  {"keep 80 192.168.1.10 source=keep", "rewrite 81 192.168.1.10 source=rewrite", "auto 82 192.168.1.10"},
	"balance": {
		"turns 0.0.0.0:80 192.168.1.10:8080,192.168.1.20:8081 balance=round-robin", "three 0.0.0.0:81 192.168.1.10,192.168.1.10:82,192.168.1.20 balance=source source=rewrite",
		"range tcp+udp/0.0.0.0:600-609 192.168.1.10,192.168.1.20 balance=round-robin", "onto 610-611 192.168.1.10:700,192.168.1.20:701 balance=source",
		"shift 700-701 192.168.1.10:9000-9001,192.168.1.20:9100-9101 balance=source",
		"from 82 192.168.1.10,192.168.1.20 balance=source from=198.51.100.0/24 except=198.51.100.9/32 interface=wan",
		"at 203.0.113.1:83 192.168.1.10,192.168.1.20 balance=round-robin from=198.51.100.0/24",
		"all 0.0.0.0:* 192.168.1.10,192.168.1.20 balance=source", "every udp/0.0.0.0:* 192.168.1.10,192.168.1.20 balance=round-robin",
		"turns6 tcp+udp/[::]:80 [fd00::1]:8080,[fd00::2]:8080 balance=round-robin", "source6 [::]:81 [fd00::1],[fd00::2] balance=source from=2001:db8:5::/48",
		"at6 [2001:db8::1]:83 [fd00::1],[fd00::2] balance=round-robin from=2001:db8:5::/48",
		"all6 [::]:* fd00::1,fd00::2 balance=round-robin",
	},
	"helper": {
		"ftp 0.0.0.0:21 192.168.1.10:2121 helper=ftp", "ftp6 [::]:21 [fd00:1::10] helper=ftp", "local 2121 :21 helper=ftp", "plain 2100-2200 192.168.1.10", "stay 2300-2310 192.168.1.10 helper=ftp",
		"sip tcp+udp/5060 192.168.1.10 helper=sip", "tftp udp/69 192.168.1.10 helper=tftp", "irc 6667 192.168.1.10 helper=irc", "pptp 1723 192.168.1.10 helper=pptp",
		"ras udp/1719 192.168.1.10 helper=h323", "q931 1720 192.168.1.10 helper=h323", "amanda udp/10080 192.168.1.10 helper=amanda",
		"turns 0.0.0.0:22 192.168.1.10:21,192.168.1.20:21 balance=round-robin helper=ftp", "shift 2400-2401 192.168.1.10:24-25 helper=ftp", "from 23 192.168.1.10:21 from=198.51.100.0/24 helper=ftp",
	},
	"pinhole": {"web6 [2001:db8:2::10]:80 2001:db8:2::10", "range6 tcp+udp/[2001:db8:2::10]:8000-8010 2001:db8:2::10 from=2001:db8:5::/48",
		"all6 [2001:db8:2::11]:* 2001:db8:2::11", "except4 198.51.100.9:80 198.51.100.9 except=10.0.0.0/8", "wan4 udp/198.51.100.9:81 198.51.100.9:81 interface=wan",
		"plain 80 192.168.1.10:8080"},
	"hold": {"relay 80 192.168.1.10 from=198.51.100.0/24 hold", "web 80 192.168.1.10"},
}

// TestGolden compares what is compiled with testdata, has nft(8) check that, and compares what the kernel lists after
// Apply with what it lists after "nft -f" of the same.
func TestGolden(t *testing.T) {
	for name, specs := range goldens {
		t.Run(name, func(t *testing.T) {
			want := fwds(t, specs...)
			var text bytes.Buffer
			rs, bad := kernel.Compile(kernel.DefaultTable, want, []string{"lan", "lo", "wan"})
			if err := rs.WriteNFT(&text); err != nil || len(bad) > 0 {
				t.Fatal(err, bad)
			}
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text.String() != string(golden) {
				t.Errorf("compiled:\n%s\nexpected:\n%s", text.String(), golden)
			}
			lab := netlab.Gateway(t)
			lab.Host.Feed(t, text.String(), "nft", "-c", "-f", "-")
			lab.Host.Feed(t, text.String(), "nft", "-f", "-")
			byText := lab.Host.Run(t, "nft", "-j", "list", "ruleset")
			lab.Host.Run(t, "nft", "flush", "ruleset")
			newCarrier(t, lab.Host).apply(want)
			byApply := lab.Host.Run(t, "nft", "-j", "list", "ruleset")
			lab.Host.Feed(t, lab.Host.Run(t, "nft", "list", "ruleset"), "nft", "-c", "-f", "-") // as an administrator saves it
			if a, b := withoutHandles(byText), withoutHandles(byApply); a != b {
				t.Errorf("nft -f:\n%s\nApply:\n%s", a, b)
			}
		})
	}
}

// withoutHandles drops what differs between two loads of the same ruleset: the numbers that the kernel gives out.
func withoutHandles(list string) string {
	words := strings.Split(list, ", ")
	out := words[:0]
	for _, w := range words {
		if !strings.HasPrefix(w, `"handle": `) {
			out = append(out, w)
		}
	}
	return strings.Join(out, ", ")
}

// TestRefusal has one forward that the kernel cannot take among others that it can: the others run.
func TestRefusal(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	c := newCarrier(t, lab.Host)
	want := fwds(t, "a 80 192.168.1.10:8080", "b 81 192.168.1.10:8080", "c 82 192.168.1.10:8080")
	want[1] = &forward.Forward{Name: "b", Listen: want[1].Listen, To: []forward.Target{{Host: "example.com"}}, Carry: forward.CarryKernel}
	_ = lab.Host.Do(func() error {
		if bad := c.Apply(context.Background(), forward.ListOf(want...)); len(bad) != 1 || bad["b"] == nil {
			t.Errorf("got %v", bad)
		}
		return nil
	})
	visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":80", node: "server"}.check(t)
	visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":82", node: "server"}.check(t)
}
