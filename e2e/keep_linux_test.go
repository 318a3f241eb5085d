package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

const keepFile = `
[forward.web]
listen = "8080"
to = "192.168.1.10:80"
source = "keep"
max_connections = 100
[forward.web6]
listen = "8081"
to = "[fd00:1::10]:80"
source = "keep"
carry = "relay"
[forward.proxied]
listen = "8082"
to = "192.168.1.10:80"
source = "keep"
accept_proxy = ["203.0.113.20", "127.0.0.1"]
[forward.echo]
listen = "tcp+udp/9000"
to = "192.168.1.20:9000"
source = "keep"
carry = "relay"
[forward.echo6]
listen = "tcp+udp/9001"
to = "[fd00:1::20]:9000"
source = "keep"
carry = "relay"
`

// addresses has nginx on a host log who called, with the port.
func addresses(t *testing.T, n *netlab.Node) (log string) {
	t.Helper()
	dir := t.TempDir()
	log = filepath.Join(dir, "access.log")
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`daemon off; master_process off; error_log stderr; pid %[1]s/pid;
events { worker_connections 64; }
http {
  log_format who "$remote_addr $remote_port"; access_log %[1]s/access.log who;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  server { listen 80; listen [::]:80; location / { return 200 "ok\n"; } }
}`, dir))
	n.Start(t, "nginx", "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	n.WaitListen(t, "tcp", 80)
	return log
}

// network is what Fairlead could have changed on a host.
func network(t *testing.T, n *netlab.Node) string {
	t.Helper()
	var out strings.Builder
	for _, family := range []string{"-4", "-6"} {
		out.WriteString(n.Run(t, "ip", family, "rule"))
		out.WriteString(n.Run(t, "ip", family, "route", "show", "table", "all"))
	}
	out.WriteString(n.Run(t, "nft", "list", "ruleset"))
	return out.String()
}

// TestKeepByRelay shows nginx its clients' own addresses, with the settings that are hardest on spoofed-looking packets,
// and compares the gateway before and after.
func TestKeepByRelay(t *testing.T) {
	lab := netlab.Gateway(t)
	log := addresses(t, lab.Server)
	lab.Peer.Echo(t, "[::]:9000")
	for _, name := range []string{"all", "lan"} {
		lab.Host.Sysctl(t, "net.ipv4.conf."+name+".rp_filter", "1")
		lab.Host.Sysctl(t, "net.ipv4.conf."+name+".src_valid_mark", "1")
	}
	lab.Host.Sysctl(t, "net.ipv4.ip_forward", "0") // the relay needs no routing
	lab.Host.Run(t, "ip", "rule", "add", "pref", "900", "fwmark", "7", "lookup", "77")
	before := network(t, lab.Host)
	d := up(t, lab.Host, keepFile)
	d.expect("web relay up", "web6 relay up", "proxied relay up", "echo relay up", "echo6 relay up")

	for _, c := range []struct {
		from *netlab.Node
		args string
		seen string
	}{
		{lab.Client, "--local-port 40001 --interface 203.0.113.10 http://203.0.113.1:8080/", "203.0.113.10 40001"},
		{lab.Client, "--local-port 40001 --interface 203.0.113.20 http://203.0.113.1:8080/", "203.0.113.20 40001"},
		{lab.Client, "--local-port 40001 --interface 2001:db8:1::10 http://[2001:db8:1::1]:8081/", "2001:db8:1::10 40001"},
		{lab.Client, "--local-port 443 --interface 203.0.113.10 http://203.0.113.1:8080/", "203.0.113.10 "},
		{lab.Host, "http://127.0.0.1:8080/", netlab.RouterLAN4 + " "},
		{lab.Host, "http://203.0.113.1:8080/", "203.0.113.1 "},
	} {
		_ = os.Truncate(log, 0)
		if got := c.from.Run(t, "curl", append([]string{"-sS", "-m", "5"}, strings.Fields(c.args)...)...); got != "ok\n" {
			t.Errorf("%s: got %q", c.args, got)
		}
		if got := logged(t, log); !strings.HasPrefix(got, c.seen) {
			t.Errorf("%s: nginx saw %q, expected %s", c.args, got, c.seen)
		}
	}
	_ = os.Truncate(log, 0)
	request := "PROXY TCP4 198.51.100.7 203.0.113.1 5555 80\r\nGET / HTTP/1.0\r\n\r\n"
	if got := lab.Client.Feed(t, request, "socat", "-t5", "-", "TCP4:203.0.113.1:8082,bind=203.0.113.20"); !strings.HasSuffix(got, "ok\n") {
		t.Errorf("through a proxy: got %q", got)
	}
	if got := logged(t, log); got != "198.51.100.7 5555\n" {
		t.Errorf("through a proxy: nginx saw %q", got)
	}
	for _, network := range []string{"tcp", "udp"} {
		for addr, to := range map[string]string{netlab.Client4: "203.0.113.1:9000", netlab.Client4b: "203.0.113.1:9000", netlab.Client6: "[2001:db8:1::1]:9001"} {
			r, err := lab.Client.CallFrom(t.Context(), network, addr, to)
			if err != nil || r.You != r.Me || r.Node != "peer" {
				t.Errorf("%s from %s: %+v, %v", network, addr, r, err)
			}
		}
		if r, err := lab.Client.Call(t.Context(), network, "[2001:db8:1::1]:9000"); err == nil {
			t.Errorf("an IPv6 client reached an IPv4 target: %+v", r)
		}
	}
	bigDatagram(t, lab)
	if d.status()["web"].Connections.Refused != 0 {
		t.Error("clients were refused")
	}

	// What is set up goes with the last that needs it.
	d.write(strings.ReplaceAll(keepFile, `source = "keep"`, ""))
	d.run("apply")
	d.expect("web relay up")
	d.wait("the routing goes with the wish and its last session", func() bool {
		got := network(t, lab.Host)
		return !strings.Contains(got, "64080") && !strings.Contains(got, "fairlead_keep")
	})
	d.write(keepFile)
	d.run("apply")
	if _, err := lab.Client.Call(t.Context(), "tcp", "203.0.113.1:9000"); err != nil {
		t.Error(err)
	}
	d.run("down")
	if got := network(t, lab.Host); got != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", got, before)
	}
}

// bigDatagram sends as much as UDP carries, there and back in fragments.
func bigDatagram(t *testing.T, lab *netlab.Topology) {
	t.Helper()
	conn, err := lab.Client.Dial(t.Context(), "udp", "203.0.113.1:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	out, in := make([]byte, 60000), make([]byte, 65536)
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(in); err != nil || n <= len(out) { // it comes behind a greeting
		t.Errorf("the answer to %d bytes: %d, %v", len(out), n, err)
	}
}

// TestKeepUnasked covers who may not, who is killed, and a session that outlives the wish.
func TestKeepUnasked(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Peer.Echo(t, "[::]:9000")
	before := network(t, lab.Host)
	p := asNobody(t, lab.Host, "forward", "9000", "192.168.1.20:9000", "--source", "keep", "--max-connections", "5")
	p.WaitOutput(t, `source = "keep" is impossible here: no CAP_NET_ADMIN`)
	p.WaitOutput(t, `hint: .*root`)

	start := func() *netlab.Process {
		p := lab.Host.Start(t, binary, "forward", "9000", "192.168.1.20:9000", "--source", "keep", "--max-connections", "5")
		p.WaitOutput(t, "carried by relay")
		if r, err := lab.Client.Call(t.Context(), "tcp", "203.0.113.1:9000"); err != nil || r.You != r.Me {
			t.Errorf("%+v, %v", r, err)
		}
		return p
	}
	start().Kill()
	if network(t, lab.Host) == before {
		t.Error("a killed forward left nothing, so the rest of this test shows nothing")
	}
	clean := start()
	clean.Signal(os.Interrupt)
	if err := clean.Wait(t.Context()); err != nil || network(t, lab.Host) != before {
		t.Errorf("after Ctrl-C: %v\n%s", err, network(t, lab.Host))
	}

	d := up(t, lab.Host, "[forward.a]\nlisten = \"9000\"\nto = \"192.168.1.20:9000\"\nsource = \"keep\"\ncarry = \"relay\"\n")
	lab.Host.Nft(t, "flush ruleset")
	lab.Host.Run(t, "ip", "rule", "del", "pref", "641")
	d.wait("what somebody took away is back", func() bool {
		r, err := lab.Client.Call(t.Context(), "tcp", "203.0.113.1:9000")
		return err == nil && r.You == r.Me
	})
	conn, err := lab.Client.Dial(t.Context(), "tcp", "203.0.113.1:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echoes := func() bool {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, err := conn.Write([]byte("x"))
		if err != nil {
			return false
		}
		_, err = conn.Read(make([]byte, 100))
		return err == nil
	}
	if !echoes() {
		t.Fatal("no session")
	}
	d.write("[forward.a]\nlisten = \"9000\"\nto = \"192.168.1.20:9000\"\ncarry = \"relay\"\n")
	d.run("apply")
	for range 2 { // the first may read what had come before
		if !echoes() {
			t.Error("the session ended with the wish")
		}
	}
	d.run("upgrade")
	for range 2 {
		if !echoes() {
			t.Error("the session ended with the upgrade")
		}
	}
	if network(t, lab.Host) == before {
		t.Error("the routing went before the session")
	}
	conn.Close()
	d.wait("the routing goes after the last session", func() bool { return network(t, lab.Host) == before })

	d.write("[forward.a]\nlisten = \"9000\"\nto = \"192.168.1.20:9000\"\nsource = \"keep\"\ncarry = \"relay\"\n")
	d.run("apply")
	d.proc.Signal(syscall.SIGKILL)
	<-d.proc.Done()
	d.run("down")
	if got := network(t, lab.Host); got != before {
		t.Errorf("down left behind what a killed daemon had:\n%s", got)
	}
}
