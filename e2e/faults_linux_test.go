package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// nobody is an ordinary user's ID: no capabilities, and owner of nothing.
const nobody = 65534

// asNobody starts the program on a host as an ordinary user.
func asNobody(t *testing.T, n *netlab.Node, args ...string) *netlab.Process {
	t.Helper()
	return n.Start(t, "setpriv", append([]string{fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody),
		"--clear-groups", "--inh-caps=-all", binary}, args...)...)
}

// TestOrdinaryUser runs a foreground forward without any privilege: the relay carries it, above port 1024.
func TestOrdinaryUser(t *testing.T) {
	lab := netlab.Gateway(t)
	nginx(t, lab.Host, 8000)
	p := asNobody(t, lab.Host, "forward", "8080", "127.0.0.1:8000")
	p.WaitOutput(t, `tcp/8080 -> 127\.0\.0\.1:8000 +carried by relay: .*loopback`)
	for _, url := range []string{"http://203.0.113.1:8080/", "http://[2001:db8:1::1]:8080/"} {
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", url); got != "hello from router\n" {
			t.Errorf("%s: got %q", url, got)
		}
	}
	p.Signal(os.Interrupt)
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	other := asNobody(t, lab.Host, "forward", "8081", "192.168.1.10:8000")
	other.WaitOutput(t, "carried by relay: no CAP_NET_ADMIN")
	low := asNobody(t, lab.Host, "forward", "80", "127.0.0.1:8000")
	low.WaitOutput(t, "(?s)CAP_NET_BIND_SERVICE.*hint: ")
	if err := low.Wait(t.Context()); err == nil {
		t.Error("a forward of port 80 by an ordinary user ended well")
	}
}

// TestUnprivilegedDaemon carries what it can and says of the rest what it would need.
func TestUnprivilegedDaemon(t *testing.T) {
	lab := netlab.Gateway(t)
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	d := &daemon{t: t, node: lab.Host, dir: dir}
	d.write("[forward.web]\nlisten = \"8080\"\nto = \"192.168.1.10:80\"\n[forward.dmz]\nlisten = \"*\"\nto = \"192.168.1.20\"\n")
	d.proc = asNobody(t, lab.Host, d.args("up", "-c", d.file())...)
	d.wait("it serves", func() bool {
		out, err := d.try("status")
		return err == nil && !strings.Contains(out, "not carried yet")
	})
	all := d.status()
	if f := all["web"]; f.Carried != "relay" || f.State != "up" || !strings.Contains(f.Why, "CAP_NET_ADMIN") {
		t.Errorf("web: %+v", f)
	}
	if f := all["dmz"]; f.State != "failed" || !strings.Contains(f.Detail, "CAP_NET_ADMIN") {
		t.Errorf("dmz: %+v", f)
	}
}

// TestCapabilities looks at what a daemon that was started as root keeps: two capabilities, and no way to get more.
func TestCapabilities(t *testing.T) {
	lab := netlab.Gateway(t)
	d := up(t, lab.Host, "")
	status := read(t, fmt.Sprintf("/proc/%d/status", d.proc.Pid()))
	const want = "0000000000001400" // CAP_NET_BIND_SERVICE (10) and CAP_NET_ADMIN (12)
	for _, line := range []string{"CapPrm:\t" + want, "CapEff:\t" + want, "CapBnd:\t" + want, "CapInh:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(status, line) {
			t.Errorf("no %q in:\n%s", line, status)
		}
	}
}

// TestBusyPort has one forward fail for a busy port: the others run, and it runs once the port is free.
func TestBusyPort(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	busy, err := lab.Host.Listen("tcp", "0.0.0.0:81")
	if err != nil {
		t.Fatal(err)
	}
	file := "[forward.%s]\nlisten = \"%d\"\nto = \"192.168.1.10:8080\"\ncarry = \"relay\"\n"
	d := up(t, lab.Host, fmt.Sprintf(file, "a", 80)+fmt.Sprintf(file, "b", 81)+fmt.Sprintf(file, "c", 82))
	d.expect("a relay up", "b relay failed", "c relay up")
	if f := d.status()["b"]; !strings.Contains(f.Detail, "in use") {
		t.Errorf("the reason is %q", f.Detail)
	}
	_ = busy.Close()
	d.wait("it is tried again", func() bool { return d.status()["b"].State == "up" })
	dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":81").say()
}

// TestOutOfDescriptors has more clients than the daemon has descriptors for: accepting pauses, status says so, those that
// are in go on, and accepting resumes.
func TestOutOfDescriptors(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	d := &daemon{t: t, node: lab.Host, dir: t.TempDir()}
	d.write("[forward.web]\nlisten = \"80\"\nto = \"192.168.1.10:8080\"\ncarry = \"relay\"\n" +
		"[forward.kernel]\nlisten = \"81\"\nto = \"192.168.1.10:8080\"\n")
	d.proc = lab.Host.Start(t, "prlimit", append([]string{"--nofile=120:120", binary}, d.args("up", "-c", d.file())...)...)
	d.wait("it serves", func() bool {
		out, err := d.try("status")
		return err == nil && !strings.Contains(out, "not carried yet")
	})
	first := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":80")
	first.say()
	var crowd []net.Conn
	for range 150 {
		conn, err := lab.Client.Dial(t.Context(), "tcp", netlab.RouterWAN4+":80")
		if err != nil {
			break
		}
		crowd = append(crowd, conn)
	}
	d.wait("status says so", func() bool {
		out, err := d.try("status", "--json")
		return err == nil && strings.Contains(out, "descriptors")
	})
	first.say()
	other := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":81")
	for range 30 { // longer than the daemon waits between two looks at the host
		other.say()
		time.Sleep(200 * time.Millisecond)
	}
	for _, conn := range crowd {
		_ = conn.Close()
	}
	d.wait("accepting resumes", func() bool {
		got, err := lab.Client.Call(t.Context(), "tcp", netlab.RouterWAN4+":80")
		return err == nil && got.Node == "server"
	})
	var detail string
	defer func() {
		if detail != "" {
			t.Errorf("status still says %q", detail)
		}
	}()
	d.wait("status is silent again", func() bool { detail = d.status()["web"].Detail; return detail == "" })
	d.proc.Signal(syscall.SIGTERM)
	<-d.proc.Done()
}
