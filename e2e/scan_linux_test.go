package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestScanned has nmap look at the relay's ports in every way it knows, all at once: it finds what is there, and nothing of it stays.
func TestScanned(t *testing.T) {
	needs(t, "nmap")
	lab := netlab.Gateway(t)
	nginx(t, lab.Server, 8080)
	lab.Peer.Echo(t, "[::]:9000")
	d := up(t, lab.Host, `
[forward.web]
listen = "80"
to = "192.168.1.10:8080"
carry = "relay"
[forward.echo]
listen = "tcp+udp/9000"
to = "192.168.1.20:9000"
carry = "relay"
udp_idle = "1s"
[forward.nobody]
listen = "81"
to = "192.168.1.10:9"
carry = "relay"
`)
	d.expect("web relay up", "echo relay up", "nobody relay up")
	at := "/" + netlab.RouterWAN4 + ":9000"
	talks := []*talk{dial(t, lab.Client, "tcp"+at), dial(t, lab.Client, "udp"+at)}
	for _, k := range talks {
		k.say()
	}
	before := d.holds()
	stop := keepTalking(t, talks...)
	// For -sV nmap would wait six seconds for a greeting before it asks; none comes after one.
	probes := filepath.Join(t.TempDir(), "probes")
	write(t, probes, strings.Replace(read(t, "/usr/share/nmap/nmap-service-probes"), "totalwaitms 6000", "totalwaitms 1000", 1))
	scans := []struct {
		args string
		find []string // regular expressions
	}{
		{"-sS -p80-81,9000,9001", []string{`80/tcp +open`, `81/tcp +open`, `9000/tcp +open`, `9001/tcp +closed`}},
		{"-sT -p80-81,9000,9001", []string{`80/tcp +open`, `81/tcp +open`, `9000/tcp +open`, `9001/tcp +closed`}},
		{"-sT -6 -p9000", []string{`9000/tcp +open`}},
		{"-sV --version-light --versiondb " + probes + " -p80", []string{`80/tcp +open +http .*nginx`}},
		{"-sU -p9000", []string{`9000/udp +open`}},
		{"-sU --data-length 1400 -f -p9000", []string{`9000/udp +open`}},
		{"-sX -p80,9000,9001", []string{`80/tcp +open\|filtered`, `9001/tcp +closed`}},
		{"-sN -p80,9000,9001", []string{`80/tcp +open\|filtered`, `9001/tcp +closed`}},
		{"-sF -p80,9000,9001", []string{`80/tcp +open\|filtered`, `9001/tcp +closed`}},
		{"-sA -p80,9000", []string{`80/tcp +unfiltered`}},
		{"-sS -f --mtu 8 -p80,9000", []string{`80/tcp +open`, `9000/tcp +open`}},
		{"-sS --scanflags SYNFINURG -p80", []string{`80/tcp +`}},
	}
	var running []*netlab.Process
	for _, c := range scans {
		args := append([]string{"-n", "-Pn", "-T5", "--max-retries", "2"}, strings.Fields(c.args)...)
		address := netlab.RouterWAN4
		if strings.Contains(c.args, "-6") {
			address = netlab.RouterWAN6
		}
		running = append(running, lab.Client.Start(t, "nmap", append(args, address)...))
	}
	for i, p := range running {
		if err := p.Wait(t.Context()); err != nil {
			t.Errorf("nmap %s: %v", scans[i].args, err)
		}
		for _, want := range scans[i].find {
			if !regexp.MustCompile(want).MatchString(p.Output()) {
				t.Errorf("nmap %s does not find %q:\n%s", scans[i].args, want, p.Output())
			}
		}
	}
	t.Logf("%d words said while nmap scanned", stop())
	for _, k := range talks {
		k.say()
		k.conn.Close()
	}
	d.letsGo(before)
	if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", "http://203.0.113.1/"); got != "hello from server\n" {
		t.Errorf("after the scans: got %q", got)
	}
	d.endsAsNew()
}
