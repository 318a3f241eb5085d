package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// dnsmasq starts a name server on a host, at every address. It knows the names n0.example to n499.example, n7 as 198.51.100.7
// and 2001:db8:2::7, and big.example, whose answer takes more than 2,900 bytes.
func dnsmasq(t *testing.T, n *netlab.Node, port int) {
	t.Helper()
	var conf strings.Builder
	fmt.Fprintf(&conf, "port=%d\nno-resolv\nno-hosts\nuser=root\nedns-packet-max=4096\nlocal=/example/\n", port)
	for i := range 500 {
		fmt.Fprintf(&conf, "host-record=n%d.example,198.51.%d.%d,2001:db8:2::%x\n", i, 100+i/250, i%250, i)
	}
	for i := range 12 {
		fmt.Fprintf(&conf, "txt-record=big.example,%02d%s\n", i, strings.Repeat("0123456789abcdef", 15))
	}
	file := filepath.Join(t.TempDir(), "dnsmasq.conf")
	write(t, file, conf.String())
	n.Start(t, "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--pid-file=", "--conf-file="+file)
	n.WaitListen(t, "tcp", port)
	n.WaitListen(t, "udp", port)
}

// TestDNS has dig and dnsperf ask a name server behind the relay, which is what clients of DNS do: one question by UDP, again
// by TCP when the answer was cut short, and large answers in fragments.
func TestDNS(t *testing.T) {
	needs(t, "dnsmasq", "dig", "dnsperf")
	lab := netlab.Gateway(t)
	dnsmasq(t, lab.Server, 5353)
	d := up(t, lab.Host, `
[forward.dns]
listen = "tcp+udp/53"
to = "192.168.1.10:5353"
carry = "relay"
udp_idle = "1s"
[forward.dns6]
listen = "tcp+udp/54"
to = "[fd00:1::10]:5353"
carry = "relay"
udp_idle = "1s"
`)
	d.expect("dns relay up", "dns6 relay up")
	before := d.holds()
	dig := func(args string) string {
		return lab.Client.Run(t, "dig", strings.Fields("+tries=1 +time=3 "+args)...)
	}
	for args, want := range map[string]string{
		"@203.0.113.1 n7.example A +short":                   `^198\.51\.100\.7\n$`,
		"@203.0.113.1 n7.example A +short +tcp":              `^198\.51\.100\.7\n$`,
		"@2001:db8:1::1 -p 54 n7.example AAAA +short":        `^2001:db8:2::7\n$`,
		"@2001:db8:1::1 -p 54 n7.example A +tcp":             `(?s)198\.51\.100\.7\n.*\(TCP\)`,
		"@203.0.113.1 none.example A":                        `status: NXDOMAIN`,
		"@203.0.113.1 big.example TXT +bufsize=4096":         `(?s)ANSWER: 12,.*\(UDP\).*MSG SIZE  rcvd: (29|3\d)\d\d`, // more than a frame
		"@203.0.113.1 big.example TXT +bufsize=1232":         `(?s)Truncated, retrying in TCP mode.*ANSWER: 12,.*\(TCP\)`,
		"@203.0.113.1 big.example TXT +noedns":               `(?s)Truncated, retrying in TCP mode.*ANSWER: 12,.*\(TCP\)`,
		"@203.0.113.1 big.example TXT +noedns +ignore":       `flags: qr[a-z ]* tc`,
		"@2001:db8:1::1 -p 54 big.example TXT +bufsize=4096": `(?s)ANSWER: 12,.*\(UDP\)`,
		"@203.0.113.1 +tcp +keepopen n1.example n2.example":  `(?s)198\.51\.100\.1\n.*198\.51\.100\.2\n`, // on one connection
	} {
		if got := dig(args); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("dig %s: no %q in\n%s", args, want, got)
		}
	}

	var questions, batch, answers strings.Builder
	for i := range 500 {
		fmt.Fprintf(&questions, "n%d.example %s\n", i, []string{"A", "AAAA"}[i%2])
		fmt.Fprintf(&batch, "n%d.example A\n", i)
		fmt.Fprintf(&answers, "198.51.%d.%d\n", 100+i/250, i%250)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "questions"), questions.String())
	write(t, filepath.Join(dir, "batch"), batch.String())
	if got := dig("@203.0.113.1 +short -f " + filepath.Join(dir, "batch")); got != answers.String() {
		t.Errorf("500 questions of dig, one after the other, were answered by\n%s", got)
	}
	for _, c := range []struct {
		args string
		sent int
	}{
		{"-s 203.0.113.1 -c 50 -q 100 -n 10", 5000},
		{"-s 2001:db8:1::1 -p 54 -c 50 -q 100 -n 4", 2000},
		{"-s 203.0.113.1 -m tcp -c 10 -q 50 -n 1", 500}, // dnsmasq takes 20 connections, and 100 questions on each
	} {
		out := lab.Client.Run(t, "dnsperf", append(strings.Fields(c.args), "-d", filepath.Join(dir, "questions"))...)
		for _, want := range []string{
			fmt.Sprintf(`Queries sent: +%d\n`, c.sent),
			fmt.Sprintf(`Queries completed: +%d \(100\.00%%\)`, c.sent),
			`Queries lost: +0 `,
			fmt.Sprintf(`Response codes: +NOERROR %d \(100\.00%%\)`, c.sent),
		} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("dnsperf %s: no %q in\n%s", c.args, want, out)
			}
		}
	}
	for name, f := range d.status() {
		if f.Connections.Refused != 0 {
			t.Errorf("%s counts %+v", name, f.Connections)
		}
	}
	d.letsGo(before)
	d.endsAsNew()
}
