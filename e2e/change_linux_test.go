package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A talk is a session that is kept busy: each word that is sent must come back, or the test fails.
type talk struct {
	t    testing.TB
	conn net.Conn
	name string
	n    int
}

func dial(t testing.TB, from *netlab.Node, to string) *talk {
	t.Helper()
	network, addr, _ := strings.Cut(to, "/")
	conn, err := from.Dial(t.Context(), network, addr)
	if err != nil {
		t.Fatalf("%s: %v", to, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &talk{t: t, conn: conn, name: to}
}

// say sends a word and waits for it to come back.
func (k *talk) say() {
	k.t.Helper()
	if err := k.sayWithin(30 * time.Second); err != nil {
		k.t.Errorf("%s: %v", k.name, err)
	}
}

// trySay is say for a word that may be lost, for which nobody waits as long.
func (k *talk) trySay() error { return k.sayWithin(5 * time.Second) }

func (k *talk) sayWithin(most time.Duration) error {
	k.n++
	word := fmt.Sprintf("word %d of %s.", k.n, k.name)
	if err := k.conn.SetDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	if _, err := k.conn.Write([]byte(word)); err != nil {
		return err
	}
	var got string
	buf := make([]byte, 4096)
	for !strings.Contains(got, word) { // a greeting may come before it
		n, err := k.conn.Read(buf)
		if err != nil {
			return err
		}
		got += string(buf[:n])
	}
	return nil
}

// manyForwards is n forwards for the kernel and a few for the relay, the i-th kernel one at port 10000+i.
func manyForwards(n int, target func(i int) string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[forward.f%04d]\nlisten = \"tcp+udp/%d\"\nto = %q\n", i, 10000+i, target(i))
	}
	for i := range 5 {
		fmt.Fprintf(&b, "[forward.relay%d]\nlisten = \"tcp+udp/%d\"\nto = \"192.168.1.10:8080\"\ncarry = \"relay\"\n", i, 9000+i)
	}
	return b.String()
}

// TestApplyLosesNothing applies a file of 1,000 forwards that differs in one line, while sessions of both carriers are
// busy: every word and every datagram of the others comes back, and their counters go on.
func TestApplyLosesNothing(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	lab.Peer.Echo(t, "[::]:8080")
	to := func(int) string { return "192.168.1.10:8080" }
	d := up(t, lab.Host, manyForwards(1000, to))
	at := "/" + netlab.RouterWAN4 + ":"
	var talks []*talk
	for _, port := range []int{10000, 10499, 10501, 10999, 9000, 9004} {
		talks = append(talks, dial(t, lab.Client, fmt.Sprint("tcp", at, port)), dial(t, lab.Client, fmt.Sprint("udp", at, port)))
	}
	changedTCP, changedUDP := dial(t, lab.Client, "tcp"+at+"10500"), dial(t, lab.Client, "udp"+at+"10500")
	for _, k := range append(talks, changedTCP, changedUDP) {
		k.say()
	}
	stop := keepTalking(t, talks...)
	before := d.status()
	for _, target := range []string{"192.168.1.20:8080", "192.168.1.10:8080", "192.168.1.20:8080"} {
		d.write(manyForwards(1000, func(i int) string {
			if i == 500 {
				return target
			}
			return to(i)
		}))
		if out := d.run("apply", "-c", d.file()); !strings.Contains(out, "1 changed") || !strings.Contains(out, "1004 kept") {
			t.Errorf("apply says %q", out)
		}
	}
	t.Logf("%d words said while the file was applied three times", stop())
	changedTCP.say() // finishes where it began
	changedUDP.say()
	got, err := lab.Client.Call(t.Context(), "tcp", netlab.RouterWAN4+":10500")
	if err != nil || got.Node != "peer" {
		t.Errorf("a new session of the changed forward: %+v, %v", got, err)
	}
	if got, err := lab.Client.Call(t.Context(), "udp", netlab.RouterWAN4+":10500"); err != nil || got.Node != "peer" {
		t.Errorf("a new flow of the changed forward: %+v, %v", got, err)
	}
	for name, f := range d.status() {
		if b := before[name]; f.Connections.Total < b.Connections.Total || f.Bytes.In < b.Bytes.In || f.Bytes.Out < b.Bytes.Out {
			t.Errorf("%s went back from %+v %+v to %+v %+v", name, b.Connections, b.Bytes, f.Connections, f.Bytes)
		}
	}
	d.write(manyForwards(1000, func(i int) string { return "192.168.1.10:8080" })[len("[forward.f0000]\nlisten = \"tcp+udp/10000\"\nto = \"192.168.1.10:8080\"\n"):])
	d.run("apply", "-c", d.file())
	if err := talks[0].trySay(); err == nil {
		t.Error("a session of a removed forward goes on")
	}
	for _, k := range talks[2:] {
		k.say()
	}
}

// TestKilled kills the daemon with SIGKILL: the kernel's forwards run on, and the next daemon adopts them.
func TestKilled(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := up(t, lab.Host, manyForwards(20, func(int) string { return "192.168.1.10:8080" }))
	k := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":10000")
	k.say()
	before := d.status()["f0000"]
	rules := lab.Host.Run(t, "nft", "-a", "list", "tables")
	d.proc.Signal(syscall.SIGKILL)
	<-d.proc.Done()
	k.say()
	dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":10001").say()
	d.start()
	k.say()
	if now := lab.Host.Run(t, "nft", "-a", "list", "tables"); now != rules {
		t.Errorf("the table was made anew: %q, then %q", rules, now)
	}
	after := d.status()
	if f := after["f0000"]; f.Connections.Open != 1 || f.Connections.Total != before.Connections.Total || f.Bytes.In <= before.Bytes.In {
		t.Errorf("counted %+v %+v before, %+v %+v after", before.Connections, before.Bytes, f.Connections, f.Bytes)
	}
	if f := after["f0001"]; f.Connections.Total != 1 {
		t.Errorf("a session while no daemon ran counts %+v", f.Connections)
	}
	// A stop for an upgrade leaves the rules, too; down takes them away, whether a daemon runs or not.
	d.proc.Signal(syscall.SIGTERM)
	<-d.proc.Done()
	k.say()
	if out, err := d.try("down"); err != nil {
		t.Errorf("down without a daemon: %v: %s", err, out)
	}
	if rules := lab.Host.Run(t, "nft", "list", "tables"); strings.Contains(rules, "fairlead") {
		t.Errorf("left behind: %s", rules)
	}
	if err := k.trySay(); err == nil {
		t.Error("a session goes on after down")
	}
	d.start()
	d.run("down")
	waitFor(t, "the daemon has ended", func() bool {
		select {
		case <-d.proc.Done():
			return true
		default:
			return false
		}
	})
	if rules := lab.Host.Run(t, "nft", "list", "tables"); strings.Contains(rules, "fairlead") {
		t.Errorf("left behind: %s", rules)
	}
}

// TestFlushed has another program flush all rules: the daemon puts its own back.
func TestFlushed(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := up(t, lab.Host, "[forward.web]\nlisten = \"80\"\nto = \"192.168.1.10:8080\"\n")
	dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":80").say()
	before := d.status()["web"]
	lab.Host.Run(t, "nft", "flush", "ruleset")
	d.wait("the forward is back", func() bool {
		got, err := lab.Client.Call(t.Context(), "tcp", netlab.RouterWAN4+":80")
		return err == nil && got.Node == "server"
	})
	if f := d.status()["web"]; f.Connections.Total <= before.Connections.Total || f.Bytes.In <= before.Bytes.In {
		t.Errorf("counted %+v %+v before, %+v %+v after", before.Connections, before.Bytes, f.Connections, f.Bytes)
	}
}

// TestConfirm rolls an apply back that nobody confirms, and keeps one that somebody does.
func TestConfirm(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	lab.Peer.Echo(t, "[::]:8080")
	file := "[forward.web]\nlisten = \"80\"\nto = \"%s:8080\"\n"
	d := up(t, lab.Host, fmt.Sprintf(file, netlab.Server4))
	answers := func(want string) bool {
		got, err := lab.Client.Call(t.Context(), "tcp", netlab.RouterWAN4+":80")
		return err == nil && got.Node == want
	}
	d.write(fmt.Sprintf(file, netlab.Peer4))
	d.run("apply", "-c", d.file(), "--confirm", "10s")
	if !answers("peer") {
		t.Error("the new file does not hold")
	}
	d.wait("it is rolled back", func() bool { return answers("server") })
	if out, err := d.try("confirm"); err == nil {
		t.Errorf("there was nothing to confirm, and yet: %s", out)
	}
	d.run("apply", "-c", d.file(), "--confirm", "30s")
	d.run("confirm")
	if !answers("peer") {
		t.Error("the confirmed file does not hold")
	}
	// A daemon that dies before the confirmation comes back with what held before.
	d.write(fmt.Sprintf(file, netlab.Server4))
	d.run("apply", "-c", d.file(), "--confirm", "60s")
	d.proc.Signal(syscall.SIGKILL)
	<-d.proc.Done()
	d.start()
	if !answers("peer") {
		t.Error("the unconfirmed file holds after a crash")
	}
}

// TestClock closes a kernel forward when it expires, its session included.
func TestClock(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := up(t, lab.Host, "")
	d.run("add", "guest", "80", "192.168.1.10:8080", "--expires", "10s")
	k := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":80")
	k.say()
	d.expect("guest kernel up")
	d.wait("it is closed", func() bool { return k.trySay() != nil })
	if _, err := lab.Client.Call(t.Context(), "tcp", netlab.RouterWAN4+":80"); err == nil {
		t.Error("it is still open")
	}
}

// TestAddedForwardsStay adds and removes forwards of the running daemon, and kills sessions of both carriers.
func TestAddedForwardsStay(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := up(t, lab.Host, "")
	d.run("add", "k", "80", "192.168.1.10:8080")
	d.run("add", "r", "81", "192.168.1.10:8080", "--carry", "relay")
	d.proc.Signal(syscall.SIGKILL)
	<-d.proc.Done()
	d.start()
	d.expect("k kernel up", "r relay up")
	for name, port := range map[string]string{"k": "80", "r": "81"} {
		one, two := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":"+port), dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":"+port)
		one.say()
		two.say()
		list := d.sessions(name)
		if len(list) != 2 {
			t.Fatalf("%s has the sessions %+v", name, list)
		}
		for _, s := range list {
			if s.Client == one.conn.LocalAddr().String() {
				if s.Bytes.In == 0 || s.Bytes.Out == 0 {
					t.Errorf("the session counts %+v", s)
				}
				d.run("kill", s.ID)
			}
		}
		if err := one.trySay(); err == nil {
			t.Errorf("%s: a killed session goes on", name)
		}
		two.say()
		d.run("rm", name)
		if err := two.trySay(); err == nil {
			t.Errorf("%s: a session goes on after rm", name)
		}
	}
	if got := d.status(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

// TestForegroundInTheKernel kills a foreground forward: its rules are cleaned up by the next start, or by down.
func TestForegroundInTheKernel(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	answers := func(port int) bool {
		got, err := lab.Client.Call(t.Context(), "tcp", fmt.Sprintf("%s:%d", netlab.RouterWAN4, port))
		return err == nil && got.Node == "server"
	}
	start := func(port int) *netlab.Process {
		p := lab.Host.Start(t, binary, "forward", fmt.Sprint(port), "192.168.1.10:8080")
		p.WaitOutput(t, "carried by kernel")
		if !answers(port) {
			t.Errorf("port %d does not answer", port)
		}
		return p
	}
	tables := func() int { return strings.Count(lab.Host.Run(t, "nft", "list", "tables"), "fairlead") }
	clean := start(80)
	clean.Signal(os.Interrupt)
	if err := clean.Wait(t.Context()); err != nil || tables() != 0 {
		t.Errorf("after Ctrl-C: %v, %d tables", err, tables())
	}
	start(81).Kill()
	if tables() != 1 {
		t.Errorf("a killed forward left %d tables", tables())
	}
	second := start(82)
	if tables() != 1 || answers(81) {
		t.Errorf("the next start left %d tables", tables())
	}
	second.Kill()
	lab.Host.Run(t, binary, "down", "--socket", t.TempDir()+"/s")
	if tables() != 0 {
		t.Errorf("down left %d tables", tables())
	}
}
