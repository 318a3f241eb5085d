package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestProxyProtocol speaks it to nginx and hears it from curl: nginx logs the client's own address.
func TestProxyProtocol(t *testing.T) {
	lab := netlab.Gateway(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "access.log")
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`daemon off; master_process off; error_log stderr; pid %[1]s/pid;
events { worker_connections 64; }
http {
  log_format who "$proxy_protocol_addr"; access_log %[1]s/access.log who;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  server { listen 8080 proxy_protocol; listen [::]:8080 proxy_protocol; location / { return 200 "ok\n"; } }
}`, dir))
	lab.Server.Start(t, "nginx", "-c", filepath.Join(dir, "nginx.conf"), "-p", dir)
	lab.Server.WaitListen(t, "tcp", 8080)
	d := up(t, lab.Host, `
[forward.v1]
listen = "81"
to = "192.168.1.10:8080"
send_proxy = "v1"
[forward.v2]
listen = "82"
to = "[fd00:1::10]:8080"
send_proxy = "v2"
[forward.both]
listen = "83"
to = "192.168.1.10:8080"
accept_proxy = ["203.0.113.0/24"]
send_proxy = "v2"
`)
	d.expect("v1 relay up", "v2 relay up", "both relay up")
	for _, c := range []struct {
		args []string
		seen string
	}{
		{[]string{"http://203.0.113.1:81/"}, "203.0.113."},
		{[]string{"http://[2001:db8:1::1]:81/"}, "2001:db8:1::"},
		{[]string{"http://203.0.113.1:82/"}, "203.0.113."},
		{[]string{"http://[2001:db8:1::1]:82/"}, "2001:db8:1::"},
		{[]string{"--haproxy-protocol", "--interface", netlab.Client4b, "http://203.0.113.1:83/"}, netlab.Client4b},
	} {
		write(t, log, "")
		args := append([]string{"-sS", "-m", "5"}, c.args...)
		if got := lab.Client.Run(t, "curl", args...); got != "ok\n" {
			t.Errorf("%v: got %q", c.args, got)
		}
		if got := logged(t, log); !strings.Contains(got, c.seen) {
			t.Errorf("%v: nginx was told %q, expected %s", c.args, got, c.seen)
		}
	}
}

// TestWhoMay holds from, except and interface against both carriers, and the limits against the relay.
func TestWhoMay(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	lab.Peer.Echo(t, "[::]:8080")
	var file strings.Builder
	for i, carry := range []string{"kernel", "relay"} {
		fmt.Fprintf(&file, `
[forward.%[1]s-all]
listen = "tcp+udp/0.0.0.0:%[2]d80"
to = "192.168.1.10:8080"
carry = "%[1]s"
except = ["203.0.113.20"]
[forward.%[1]s-wide]
listen = "tcp+udp/%[2]d81"
to = "192.168.1.10:8080"
carry = "%[1]s"
from = ["203.0.113.0/24", "192.168.1.0/24"]
[forward.%[1]s-narrow]
listen = "tcp+udp/%[2]d81"
to = "192.168.1.20:8080"
carry = "%[1]s"
from = ["203.0.113.20/32"]
[forward.%[1]s-lan]
listen = "tcp+udp/%[2]d82"
to = "192.168.1.10:8080"
carry = "%[1]s"
interface = "lan"
[forward.%[1]s-off]
listen = "tcp+udp/%[2]d83"
to = "192.168.1.10:8080"
carry = "%[1]s"
enabled = false
`, carry, i+1)
	}
	file.WriteString(`
[forward.few]
listen = "84"
to = "192.168.1.10:8080"
max_connections = 3
max_per_source = 2
`)
	d := up(t, lab.Host, file.String())
	for i, carry := range []string{"kernel", "relay"} {
		d.expect(carry+"-all "+carry+" up", carry+"-narrow "+carry+" up", carry+"-lan "+carry+" up")
		if f := d.status()[carry+"-off"]; f.State != "off" {
			t.Errorf("%s-off is %s", carry, f.State)
		}
		for _, network := range []string{"tcp", "udp"} {
			for _, c := range []struct {
				from *netlab.Node
				addr string
				to   string
				port int
				want string
			}{
				{lab.Client, netlab.Client4, netlab.RouterWAN4, 80, "server"},
				{lab.Client, netlab.Client4b, netlab.RouterWAN4, 80, ""},
				{lab.Client, netlab.Client4, netlab.RouterWAN4, 81, "server"},
				{lab.Client, netlab.Client4b, netlab.RouterWAN4, 81, "peer"},
				{lab.Client, netlab.Client4, netlab.RouterWAN4, 82, ""},
				{lab.Peer, netlab.Peer4, netlab.RouterLAN4, 82, "server"},
				{lab.Client, netlab.Client4, netlab.RouterWAN4, 83, ""},
			} {
				to := fmt.Sprintf("%s:%d%d", c.to, i+1, c.port)
				got, err := c.from.CallFrom(t.Context(), network, c.addr, to)
				if (err == nil) != (c.want != "") || got.Node != c.want {
					t.Errorf("%s: %s → %s/%s: answered by %q (%v), expected %q", carry, c.addr, network, to, got.Node, err, c.want)
				}
			}
		}
	}
	open := func(from string) (*talk, error) {
		conn, err := lab.Client.DialFrom(t.Context(), "tcp", from, netlab.RouterWAN4+":84")
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = conn.Close() })
		k := &talk{t: t, conn: conn, name: from}
		return k, k.trySay()
	}
	for i, c := range []struct {
		from   string
		served bool
	}{{netlab.Client4, true}, {netlab.Client4, true}, {netlab.Client4, false}, {netlab.Client4b, true}, {netlab.Client4b, false}} {
		if _, err := open(c.from); (err == nil) != c.served {
			t.Errorf("session %d, of %s: %v, expected it to be served: %v", i+1, c.from, err, c.served)
		}
	}
	if f := d.status()["few"]; f.Connections.Open != 3 || f.Connections.Refused != 2 {
		t.Errorf("few counts %+v", f.Connections)
	}
}
