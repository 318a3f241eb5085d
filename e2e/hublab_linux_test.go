package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// The addresses of a tunnelLab. The internet is 203.0.113.0/24; the home's line is behind a carrier's NAT, 100.64.0.0/24.
const (
	visitorAddr = "203.0.113.10"
	hubAddr     = "203.0.113.1"
	natAddr     = "203.0.113.2"
	officeAddr  = "203.0.113.30"
	homeAddr    = "100.64.0.10"
)

// A tunnelLab is a hub, somebody who visits it, an agent at home behind a carrier's NAT that lets connections out and none in, and one in an
// office.
type tunnelLab struct {
	t                                    testing.TB
	visitor, hub, nat, home, nas, office *netlab.Node
	line                                 *netlab.Line // the home's
}

func newTunnelLab(t testing.TB) *tunnelLab {
	t.Helper()
	lab := netlab.New(t)
	l := &tunnelLab{t: t, visitor: lab.Node("visitor"), hub: lab.Node("hub"), nat: lab.Node("nat"), home: lab.Node("home"), nas: lab.Node("nas"), office: lab.Node("office")}
	internet := lab.Switch("internet")
	for _, e := range []struct {
		node *netlab.Node
		name string
		addr string
	}{{l.visitor, "eth0", visitorAddr}, {l.hub, "eth0", hubAddr}, {l.nat, "wan", natAddr}, {l.office, "eth0", officeAddr}} {
		internet.Attach(netlab.End{Node: e.node, Interface: e.name, Addrs: []string{e.addr + "/24"}})
	}
	l.line = lab.Line(
		netlab.End{Node: l.nat, Interface: "line", Addrs: []string{"100.64.0.1/24"}},
		netlab.End{Node: l.home, Interface: "eth0", Addrs: []string{homeAddr + "/24"}})
	l.home.Route(t, "default", "100.64.0.1")
	lab.Link( // what else is at home has the agent for its gateway
		netlab.End{Node: l.home, Interface: "lan", Addrs: []string{"192.168.1.1/24"}},
		netlab.End{Node: l.nas, Interface: "eth0", Addrs: []string{"192.168.1.10/24"}})
	l.nas.Route(t, "default", "192.168.1.1")
	l.nat.Forwarding(t)
	l.nat.Nft(t, `table ip cgnat {
	chain out { type nat hook postrouting priority 100; oifname "wan" masquerade; }
	chain pass { type filter hook forward priority 0; policy drop; iifname "line" accept; ct state established,related accept; }
}`)
	return l
}

// readdress gives the home another address, as a line does that was dialled again: what was open before finds no way back.
func (l *tunnelLab) readdress(from, to string) {
	l.t.Helper()
	l.home.Run(l.t, "ip", "addr", "del", from+"/24", "dev", "eth0")
	l.home.Run(l.t, "ip", "addr", "add", to+"/24", "dev", "eth0")
	l.home.Run(l.t, "ip", "route", "replace", "default", "via", "100.64.0.1")
}

// An agentStatus is one entry of `fairlead agents --json`.
type agentStatus struct {
	Name, State, Detail, Transport, Address, Version string
	RTT                                              *float64 `json:"rtt_ms"`
	Resumed                                          int
	Forwards                                         []struct{ Name, Listen string }
	Bytes                                            struct{ In, Out uint64 }
}

func (d *daemon) agents() map[string]agentStatus {
	d.t.Helper()
	var list struct{ Agents []agentStatus }
	if err := json.Unmarshal([]byte(d.run("agents", "--json")), &list); err != nil {
		d.t.Fatal(err)
	}
	out := map[string]agentStatus{}
	for _, a := range list.Agents {
		out[a.Name] = a
	}
	return out
}

// token makes a token of a hub for an agent of that name.
func (d *daemon) token(name string, flags ...string) string {
	d.t.Helper()
	var t struct{ Token, Hub string }
	if err := json.Unmarshal([]byte(d.run(append([]string{"agents", "token", "--json", "--name", name}, flags...)...)), &t); err != nil {
		d.t.Fatal(err)
	}
	if t.Hub != hubAddr+":443" {
		d.t.Errorf("agents are to call %s", t.Hub)
	}
	return t.Token
}

// agentUp enrols a host at a hub and starts the daemon there.
func agentUp(t testing.TB, hub *daemon, node *netlab.Node, name, text string, flags ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, node: node, dir: t.TempDir()}
	d.write("[agent]\n" + text)
	d.run("join", hubAddr+":443", hub.token(name, flags...))
	d.start()
	d.wait("the agent is up", func() bool { return hub.agents()[name].State == "up" })
	return d
}

func (l *tunnelLab) curl(args ...string) string {
	l.t.Helper()
	return l.visitor.Run(l.t, "curl", append([]string{"-sS", "--max-time", "20"}, args...)...)
}

// bigFile puts a file of n MiB beside nginx's other ones, and returns its hash.
func bigFile(t *testing.T, log string, n int) string {
	t.Helper()
	f, err := os.Create(filepath.Join(filepath.Dir(log), "huge"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	block := make([]byte, 1<<20)
	for i := range n {
		for j := range block {
			block[j] = byte(i*31 + j*7 + j>>9)
		}
		if _, err := io.MultiWriter(f, sum).Write(block); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// A download is the visitor's of the big file, of which curl gets no further than this process reads.
type download struct {
	t    testing.TB
	cmd  *exec.Cmd
	said bytes.Buffer // by curl, about errors
	sum  hash.Hash
	over chan error // curl has ended

	mu      sync.Mutex
	changed *sync.Cond
	got     int64
	may     int64 // read up to there
	ended   bool
}

// download begins to read the big file, up to may bytes. nginx sends it at 4 MiB in a second.
func (l *tunnelLab) download(port int, may int64) *download {
	l.t.Helper()
	d := &download{t: l.t, sum: sha256.New(), may: may, over: make(chan error, 1)}
	d.changed = sync.NewCond(&d.mu)
	d.cmd = l.visitor.Command(l.t.Context(), "curl", "-sS", "--max-time", "180", fmt.Sprintf("http://%s:%d/huge", hubAddr, port))
	d.cmd.Stdout, d.cmd.Stderr = d, &d.said
	l.t.Cleanup(d.release)
	go func() {
		err := d.cmd.Run()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ended = true
		d.changed.Broadcast()
		d.over <- err
	}()
	return d
}

// Write takes what curl has got, when that may be read.
func (d *download) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.got >= d.may {
		d.changed.Wait()
	}
	d.got += int64(len(p))
	d.changed.Broadcast()
	return d.sum.Write(p)
}

// reaches waits until so many bytes have come.
func (d *download) reaches(n int64) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.got < n && !d.ended {
		d.changed.Wait()
	}
	if d.got < n {
		d.t.Errorf("curl has ended after %d bytes: %s", d.got, &d.said)
	}
}

// release has the rest read.
func (d *download) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.may = math.MaxInt64
	d.changed.Broadcast()
}

// finish reads the rest, and checks that it is the file.
func (d *download) finish(sum string) {
	d.t.Helper()
	d.release()
	if err := <-d.over; err != nil || d.said.Len() > 0 {
		d.t.Errorf("curl, after %d bytes: %v, %s", d.got, err, &d.said)
	}
	if got := fmt.Sprintf("%x", d.sum.Sum(nil)); got != sum {
		d.t.Errorf("%d bytes have the hash %s, want %s", d.got, got, sum)
	}
}
