package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestSlowClients has slowhttptest open sessions by the hundred that send headers or bodies drop by drop, or read so. Each
// costs the relay its two descriptors; a limit holds them back, idle_timeout ends those that pause, and who is quick is served.
func TestSlowClients(t *testing.T) {
	needs(t, "slowhttptest")
	const most = 50
	lab := netlab.Gateway(t)
	log := nginx(t, lab.Server, 8080)
	write(t, filepath.Join(filepath.Dir(log), "big"), strings.Repeat("fairlead", 4<<20/8))
	d := up(t, lab.Host, `
[forward.web]
listen = "80"
to = "192.168.1.10:8080"
carry = "relay"
[forward.limited]
listen = "81"
to = "192.168.1.10:8080"
max_per_source = 50
[forward.impatient]
listen = "82"
to = "192.168.1.10:8080"
idle_timeout = "1s"
`)
	d.expect("web relay up", "limited relay up", "impatient relay up")
	quick := func(port string) {
		t.Helper()
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "2", "http://203.0.113.1:"+port+"/"); got != "hello from server\n" {
			t.Errorf("port %s: got %q", port, got)
		}
	}
	quick("80")
	before := d.holds()
	var slow []*netlab.Process
	for _, args := range []string{
		"-H -c 150 -r 300 -i 1 -u http://203.0.113.1:80/",
		"-X -c 100 -r 300 -w 512 -y 1024 -n 1 -z 32 -u http://203.0.113.1:80/big",
		"-B -c 150 -r 300 -i 1 -s 8192 -u http://203.0.113.1:81/",
		"-H -c 50 -r 300 -i 20 -u http://203.0.113.1:82/",
	} {
		slow = append(slow, lab.Peer.Start(t, "slowhttptest", append(strings.Fields(args), "-l", "4", "-p", "2")...))
	}
	seen := map[string]uint64{}
	d.wait("the slow are there", func() bool {
		for name, f := range d.status() {
			seen[name] = max(seen[name], f.Connections.Open)
		}
		return seen["web"] >= 200 && seen["limited"] >= most && seen["impatient"] >= 25
	})
	during := d.holds()
	for _, port := range []string{"80", "81", "82"} {
		quick(port)
	}
	d.wait("the impatient forward is rid of those that pause", func() bool { return d.status()["impatient"].Connections.Open == 0 })
	for _, p := range slow {
		<-p.Done()
	}
	if f := d.status()["limited"].Connections; seen["limited"] > most || f.Refused == 0 {
		t.Errorf("limited had %d open and counts %+v", seen["limited"], f)
	}
	t.Logf("slow sessions: %v; the daemon had %+v", seen, during)
	d.letsGo(before)
	quick("80")
	d.endsAsNew()
}
