package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// nginx starts a web server on a host, at every address, and returns where its log is. The log has a line per request:
// the client's address.
func nginx(t *testing.T, n *netlab.Node, port int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	write(t, filepath.Join(dir, "big"), body)
	conf := fmt.Sprintf(`daemon off; master_process off; error_log stderr; pid %[1]s/pid;
events { worker_connections 512; }
http {
  log_format who "$remote_addr"; access_log %[1]s/access.log who;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  server { listen %[2]d; listen [::]:%[2]d; root %[1]s; location = / { return 200 "hello from %[3]s\n"; } location = /huge { limit_rate 4m; } }
}`, dir, port, n)
	write(t, filepath.Join(dir, "nginx.conf"), conf)
	n.Start(t, "nginx", "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	n.WaitListen(t, "tcp", port)
	return filepath.Join(dir, "access.log")
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// logged is what nginx has written to its log since that was emptied. It writes a line after it has answered.
func logged(t *testing.T, log string) string {
	t.Helper()
	waitFor(t, "a line in nginx's log", func() bool { return strings.HasSuffix(read(t, log), "\n") })
	return read(t, log)
}

const gatewayFile = `
[forward.web]
listen = "0.0.0.0:80"
to = "192.168.1.10:8080"
[forward.web6]
listen = "[::]:80"
to = "[fd00:1::10]:8080"
[forward.speed]
listen = "tcp+udp/5201"
to = "192.168.1.10"
[forward.relayed]
listen = "81"
to = "192.168.1.10:8080"
carry = "relay"
[forward.echo]
listen = "udp/7000-7001"
to = "192.168.1.20:9000-9001"
`

// TestGateway is a default gateway with nginx, curl, iperf3 and socat on its two sides.
func TestGateway(t *testing.T) {
	lab := netlab.Gateway(t)
	log := nginx(t, lab.Server, 8080)
	d := up(t, lab.Host, gatewayFile)
	d.expect("web kernel up", "web6 kernel up", "speed kernel up", "relayed relay up", "echo kernel up")
	for url, seen := range map[string]string{
		"http://203.0.113.1/":       "203.0.113.", // the client has two addresses of each family
		"http://[2001:db8:1::1]/":   "2001:db8:1::",
		"http://203.0.113.1:81/":    netlab.RouterLAN4,
		"http://[2001:db8:1::1]:81": netlab.RouterLAN4,
	} {
		_ = os.Truncate(log, 0)
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", url); got != "hello from server\n" {
			t.Errorf("%s: got %q", url, got)
		}
		if got := strings.TrimSpace(logged(t, log)); !strings.Contains(got, seen) {
			t.Errorf("%s: nginx saw %q, expected %s", url, got, seen)
		}
	}
	for _, port := range []string{"", ":81"} {
		if n := len(lab.Client.Run(t, "curl", "-sS", "-m", "20", "http://203.0.113.1"+port+"/big")); n != 1<<20 {
			t.Errorf("the file came with %d bytes", n)
		}
	}
	// "82" listens at every address: by loopback and for IPv6 clients of an IPv4 target the relay helps the kernel out.
	d.run("add", "plain", "82", "192.168.1.10:8080")
	for from, url := range map[*netlab.Node]string{lab.Client: "http://[2001:db8:1::1]:82/", lab.Host: "http://localhost:82/"} {
		if got := from.Run(t, "curl", "-sS", "-m", "5", url); got != "hello from server\n" {
			t.Errorf("%s: got %q", url, got)
		}
	}
	// The gateway itself: by its public address, and by loopback, where the relay helps out.
	for _, url := range []string{"http://203.0.113.1/", "http://127.0.0.1:81/"} {
		if got := lab.Host.Run(t, "curl", "-sS", "-m", "5", url); got != "hello from server\n" {
			t.Errorf("the gateway itself, %s: got %q", url, got)
		}
	}
	lab.Server.Start(t, "iperf3", "-s")
	lab.Server.WaitListen(t, "tcp", 5201)
	lab.Client.Run(t, "iperf3", "-c", "203.0.113.1", "-n", "50M")
	lab.Client.Run(t, "iperf3", "-c", "203.0.113.1", "-u", "-b", "50M", "-n", "5M")
	lab.Peer.Start(t, "socat", "UDP4-LISTEN:9001,fork", "EXEC:cat")
	lab.Peer.WaitListen(t, "udp", 9001)
	if got := lab.Client.Feed(t, "ping", "socat", "-t2", "-", "UDP4:203.0.113.1:7001"); got != "ping" {
		t.Errorf("socat got %q", got)
	}
	all := d.status()
	for _, name := range []string{"web", "web6", "speed", "relayed", "echo"} {
		if f := all[name]; f.Connections.Total == 0 || f.Bytes.In == 0 || f.Bytes.Out == 0 {
			t.Errorf("%s counts %+v, %+v", name, f.Connections, f.Bytes)
		}
	}
	if f := all["speed"]; f.Bytes.In < 50e6 {
		t.Errorf("speed counts %d bytes in, after more than 50 MB", f.Bytes.In)
	}
	if f := all["relayed"]; f.Bytes.Out < 1<<20 {
		t.Errorf("relayed counts %d bytes out, after 1 MiB", f.Bytes.Out)
	}
}

// TestOneArmed is a host that is not the gateway: replies come back because the source is rewritten, and status says so.
func TestOneArmed(t *testing.T) {
	lab := netlab.OneArmed(t)
	lab.Host.Forwarding(t)
	log := nginx(t, lab.Server, 8080)
	d := up(t, lab.Host, gatewayFile)
	d.expect("web kernel up")
	if f := d.status()["web"]; !strings.Contains(f.Detail, "source rewritten") {
		t.Errorf("status says %q", f.Detail)
	}
	for url, seen := range map[string]string{"http://192.168.1.2/": netlab.Host4, "http://[fd00:1::2]/": netlab.Host6} {
		_ = os.Truncate(log, 0)
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", url); got != "hello from server\n" {
			t.Errorf("%s: got %q", url, got)
		}
		if got := strings.TrimSpace(logged(t, log)); got != seen {
			t.Errorf("%s: nginx saw %q, expected %s", url, got, seen)
		}
	}
}

// TestNoRouter is a host that does not forward packets: the relay carries, and says why.
func TestNoRouter(t *testing.T) {
	lab := netlab.OneArmed(t)
	nginx(t, lab.Server, 8080)
	d := up(t, lab.Host, gatewayFile)
	d.expect("web relay up", "web6 relay up")
	if f := d.status()["web"]; !strings.Contains(f.Why, "ip_forward") {
		t.Errorf("why is %q", f.Why)
	}
	for _, url := range []string{"http://192.168.1.2/", "http://[fd00:1::2]/"} {
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", url); got != "hello from server\n" {
			t.Errorf("%s: got %q", url, got)
		}
	}
	lab.Host.Forwarding(t) // and from then on the kernel can
	d.wait("the kernel carries", func() bool { return d.status()["web"].Carried == "kernel" })
	if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", "http://192.168.1.2/"); got != "hello from server\n" {
		t.Errorf("by the kernel: got %q", got)
	}
}

// TestRelay leads to a host name, to a unix socket, and from one.
func TestRelay(t *testing.T) {
	lab := netlab.Gateway(t)
	dir := t.TempDir()
	nginx(t, lab.Host, 8080)
	lab.Host.Start(t, "socat", "UNIX-LISTEN:"+dir+"/in,fork", "EXEC:cat")
	d := up(t, lab.Host, fmt.Sprintf(`
[forward.name]
listen = "90"
to = "localhost:8080"
[forward.to-unix]
listen = "91"
to = "unix:%[1]s/in"
[forward.from-unix]
listen = "unix:%[1]s/out"
to = "127.0.0.1:8080"
[forward.nobody]
listen = "92"
to = "no-such-host.invalid:80"
`, dir))
	d.expect("name relay up", "to-unix relay up", "from-unix relay up")
	if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", "http://203.0.113.1:90/"); got != "hello from router\n" {
		t.Errorf("by host name: got %q", got)
	}
	waitFor(t, "socat listens", func() bool { _, err := os.Stat(dir + "/in"); return err == nil })
	if got := lab.Client.Feed(t, "ping", "socat", "-t5", "-", "TCP4:203.0.113.1:91"); got != "ping" {
		t.Errorf("to a unix socket: got %q", got)
	}
	if got := lab.Host.Run(t, "curl", "-sS", "-m", "5", "--unix-socket", dir+"/out", "http://x/"); got != "hello from router\n" {
		t.Errorf("from a unix socket: got %q", got)
	}
	if out, err := lab.Client.Command(t.Context(), "curl", "-sS", "-m", "5", "http://203.0.113.1:92/").CombinedOutput(); err == nil {
		t.Errorf("an unresolvable name answered: %q", out)
	}
	d.wait("status names the failure", func() bool {
		f := d.status()["nobody"]
		return f.State == "failed" && f.Connections.Refused == 1 && strings.Contains(f.Detail, "no-such-host.invalid")
	})
}

// TestHTTPCheck has two web servers, of which one says that it is not well although it serves.
func TestHTTPCheck(t *testing.T) {
	lab := netlab.Gateway(t)
	sick, well := nginx(t, lab.Server, 8080), nginx(t, lab.Server, 8081)
	write(t, filepath.Join(filepath.Dir(well), "healthy"), "yes")
	d := up(t, lab.Host, `
[forward.web]
listen = "80"
to = ["192.168.1.10:8080", "192.168.1.10:8081"]
check = "http://app.example/healthy"
check_interval = "2s" # which is also how long a server may take for the answer
`)
	d.wait("the check to fail at one server", func() bool {
		f := d.status()["web"]
		return f.State == "up" && strings.Contains(f.Detail, "192.168.1.10:8080 is down: it answers GET /healthy with 404 Not Found")
	})
	if err := os.Remove(filepath.Join(filepath.Dir(sick), "big")); err != nil { // who gets there notices
		t.Fatal(err)
	}
	for range 5 {
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "5", "http://203.0.113.1/big"); len(got) != 1<<20 {
			t.Errorf("the file came with %d bytes", len(got))
		}
	}
	write(t, filepath.Join(filepath.Dir(sick), "healthy"), "yes")
	d.wait("both to be well", func() bool { f := d.status()["web"]; return f.State == "up" && f.Detail == "" })
	if got := d.run("status", "web"); !strings.Contains(got, "target 192.168.1.10:8080: up, 0 open, since ") {
		t.Errorf("status says %s", got)
	}
}

// TestDMZ gives every spare port to one host, and never one that a program of the gateway uses.
func TestDMZ(t *testing.T) {
	lab := netlab.Gateway(t)
	for _, port := range []int{25, 443, 8080} {
		lab.Peer.Echo(t, fmt.Sprintf("[::]:%d", port))
	}
	lab.Server.Echo(t, "[::]:443")
	lab.Host.Echo(t, "[::]:2222")
	d := up(t, lab.Host, `
[forward.dmz]
listen = "tcp+udp/*"
to = "192.168.1.20"
[forward.web]
listen = "tcp+udp/443"
to = "192.168.1.10"
[forward.relayed]
listen = "444"
to = "192.168.1.10:443"
carry = "relay"
`)
	d.expect("dmz kernel up", "web kernel up", "relayed relay up")
	calls := func(want map[string]string) {
		t.Helper()
		for to, node := range want {
			network, addr, _ := strings.Cut(to, "/")
			got, err := lab.Client.Call(t.Context(), network, addr)
			if err != nil || got.Node != node {
				t.Errorf("%s: answered by %q (%v), expected %s", to, got.Node, err, node)
			}
		}
	}
	calls(map[string]string{
		"tcp/203.0.113.1:25": "peer", "udp/203.0.113.1:25": "peer", "tcp/203.0.113.1:8080": "peer",
		"tcp/203.0.113.1:443": "server", "udp/203.0.113.1:443": "server", "tcp/203.0.113.1:444": "server",
		"tcp/203.0.113.1:2222": "router", "udp/203.0.113.1:2222": "router",
	})
	// The gateway's own business outside goes on: what it began is not the DMZ host's.
	lab.Client.Echo(t, "[::]:9999")
	for _, network := range []string{"tcp", "udp"} {
		if got, err := lab.Host.Call(t.Context(), network, netlab.Client4+":9999"); err != nil || got.Node != "client" {
			t.Errorf("the gateway's own call: %+v, %v", got, err)
		}
	}
	// A program that starts later gets its port.
	lab.Host.Echo(t, "[::]:8080")
	calls(map[string]string{"tcp/203.0.113.1:8080": "router"})
}

// TestLowPort leads port 443 to an unprivileged program on this host, whatever address the client uses.
func TestLowPort(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Host.Echo(t, "[::]:8443")
	d := up(t, lab.Host, "[forward.app]\nlisten = \"tcp+udp/443\"\nto = \":8443\"\n")
	d.expect("app kernel up")
	for _, from := range []*netlab.Node{lab.Client, lab.Peer, lab.Host} {
		for _, addr := range []string{netlab.RouterWAN4, netlab.RouterWAN6, netlab.RouterLAN4, netlab.RouterLAN6, "127.0.0.1", "::1"} {
			inside := strings.HasPrefix(addr, "192.") || strings.HasPrefix(addr, "fd00")
			if from != lab.Host && (net.ParseIP(addr).IsLoopback() || from == lab.Client && inside) {
				continue
			}
			for _, network := range []string{"tcp", "udp"} {
				if got, err := from.Call(t.Context(), network, net.JoinHostPort(addr, "443")); err != nil || got.Node != "router" {
					t.Errorf("%s → %s/%s: %+v, %v", from, network, addr, got, err)
				}
			}
		}
	}
}

// TestShut has forwards whose hours or days are over: what they close does not fall to the DMZ host.
func TestShut(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Peer.Echo(t, "[::]:9001")
	lab.Peer.Echo(t, "[::]:9002")
	lab.Peer.Echo(t, "[::]:9003")
	today := strings.ToLower(time.Now().Add(36 * time.Hour).Weekday().String()[:3])
	d := up(t, lab.Host, `
[forward.dmz]
listen = "tcp/*"
to = "192.168.1.20"
[forward.closed]
listen = "9001"
to = "192.168.1.10"
when = "`+today+` 00:00-00:01"
[forward.over]
listen = "9002"
to = "192.168.1.10"
expires = 2020-01-01T00:00:00Z
`)
	d.expect("dmz kernel up")
	for name, state := range map[string]string{"closed": "waiting", "over": "off"} {
		if f := d.status()[name]; f.State != state {
			t.Errorf("%s is %s (%s)", name, f.State, f.Detail)
		}
	}
	for port, open := range map[int]bool{9001: false, 9002: false, 9003: true} {
		if _, err := lab.Client.Call(t.Context(), "tcp", fmt.Sprintf("%s:%d", netlab.RouterWAN4, port)); (err == nil) != open {
			t.Errorf("port %d: %v", port, err)
		}
	}
}
