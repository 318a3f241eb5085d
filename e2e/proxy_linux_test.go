package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestProxy has real clients of SOCKS and HTTP proxies go where they may, and not where they may not.
func TestProxy(t *testing.T) {
	needs(t, "curl", "nc", "connect-proxy", "proxychains4")
	lab := netlab.Gateway(t)
	nginx(t, lab.Server, 8080)
	nginx(t, lab.Host, 8090)
	dir := t.TempDir()
	hash := func(name, password string) string {
		return lab.Host.Feed(t, password+"\n", binary, "user", "add", name, "--print")
	}
	d := up(t, lab.Host, hash("anna", "right horse")+hash("ben", "staple")+`
permit = ["192.168.1.0/24:8080"]
[forward.local]
listen = "127.0.0.1:1080"
to = "proxy"
[forward.wan]
listen = "203.0.113.1:1081"
to = "proxy"
pac = true
direct = ["*.lan", "10.0.0.0/8"]
[forward.wan-anna]
listen = "[2001:db8:1::1]:1082"
to = "socks"
users = ["anna"]
permit = ["[fd00:1::/64]:8080", "192.168.1.10"]
`)
	d.expect("local relay up", "wan relay up", "wan-anna relay up")
	before := d.holds()
	const page = "hello from server\n"
	for _, c := range []struct {
		from *netlab.Node
		args string
		want string // "" is a refusal
	}{
		{lab.Host, "--socks4 127.0.0.1:1080 http://192.168.1.10:8080/", page},
		{lab.Host, "--socks4a 127.0.0.1:1080 http://192.168.1.10:8080/", page},
		{lab.Host, "--socks5 127.0.0.1:1080 http://192.168.1.10:8080/", page},
		{lab.Host, "--socks5-hostname 127.0.0.1:1080 http://localhost:8090/", "hello from router\n"},
		{lab.Host, "--socks5 127.0.0.1:1080 http://[fd00:1::10]:8080/", page},
		{lab.Host, "-x http://127.0.0.1:1080 http://192.168.1.10:8080/ http://192.168.1.10:8080/", page + page},
		{lab.Host, "-p -x http://127.0.0.1:1080 http://192.168.1.10:8080/", page},
		{lab.Host, "--socks5 127.0.0.1:1080 http://127.0.0.1:1080/", ""}, // itself
		{lab.Host, "-x 127.0.0.1:1080 http://127.0.0.1:1080/x", "leads back"},

		{lab.Client, "--socks5 203.0.113.1:1081 http://192.168.1.10:8080/", ""},
		{lab.Client, "-x http://203.0.113.1:1081 http://192.168.1.10:8080/", "log in"},
		{lab.Client, "-U anna:wrong --socks5 203.0.113.1:1081 http://192.168.1.10:8080/", ""},
		{lab.Client, "-U anna:right%20horse --socks4 203.0.113.1:1081 http://192.168.1.10:8080/", ""},
		{lab.Client, "-U ben:staple --socks5 203.0.113.1:1081 http://192.168.1.10:8080/", page},
		{lab.Client, "-U ben:staple -x http://203.0.113.1:1081 http://192.168.1.10:8080/", page},
		{lab.Client, "-U ben:staple --socks5 203.0.113.1:1081 http://192.168.1.1:8090/", ""},
		{lab.Client, "-U ben:staple --socks5-hostname 203.0.113.1:1081 http://localhost:8090/", ""},
		{lab.Client, "--socks5 [2001:db8:1::1]:1082 -U ben:staple http://[fd00:1::10]:8080/", ""},
		{lab.Client, "http://203.0.113.1:1081/proxy.pac", "FindProxyForURL"},
	} {
		args := append([]string{"-sS", "-m", "8"}, strings.Fields(strings.ReplaceAll(c.args, "%20", "\x01"))...)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\x01", " ")
		}
		out, err := c.from.Command(t.Context(), "curl", args...).CombinedOutput()
		switch {
		case c.want == "" && err == nil:
			t.Errorf("curl %s: went through: %q", c.args, out)
		case c.want != "" && !strings.Contains(string(out), c.want):
			t.Errorf("curl %s: got %q (%v), want %q", c.args, out, err, c.want)
		}
	}
	anna := []string{"-sS", "-m", "8", "-U", "anna:right horse", "--socks5", "[2001:db8:1::1]:1082"}
	for _, url := range []string{"http://[fd00:1::10]:8080/", "http://192.168.1.10:8080/"} {
		if got := lab.Client.Run(t, "curl", append(anna, url)...); got != page {
			t.Errorf("anna, %s: got %q", url, got)
		}
	}

	const get = "GET / HTTP/1.0\r\n\r\n"
	for _, args := range []string{
		"nc -w 3 -X 5 -x 127.0.0.1:1080 192.168.1.10 8080", "nc -w 3 -X 4 -x 127.0.0.1:1080 192.168.1.10 8080",
		"nc -w 3 -X connect -x 127.0.0.1:1080 192.168.1.10 8080",
		"connect-proxy -S 127.0.0.1:1080 192.168.1.10 8080", "connect-proxy -4 -S 127.0.0.1:1080 192.168.1.10 8080",
		"connect-proxy -H 127.0.0.1:1080 192.168.1.10 8080",
	} {
		words := strings.Fields(args)
		if got := lab.Host.Feed(t, get, words[0], words[1:]...); !strings.HasSuffix(got, page) {
			t.Errorf("%s: got %q", args, got)
		}
	}
	conf := dir + "/proxychains.conf"
	write(t, conf, "strict_chain\nproxy_dns\n[ProxyList]\nsocks5 127.0.0.1 1080\n")
	if got := lab.Host.Run(t, "proxychains4", "-q", "-f", conf, "curl", "-sS", "-m", "5", "http://192.168.1.10:8080/"); got != page {
		t.Errorf("proxychains4: got %q", got)
	}
	for name, f := range d.status() {
		if f.Connections.Total == 0 || f.Bytes.Out == 0 {
			t.Errorf("%s counts %+v, %+v", name, f.Connections, f.Bytes)
		}
	}
	d.wait("the memory that passwords took is given back", func() bool { return d.holds().resident < before.resident+growth })
	d.letsGo(before)
}

// TestProxyClosed refuses a file with a proxy that anybody could use.
func TestProxyClosed(t *testing.T) {
	lab := netlab.Gateway(t)
	dir := t.TempDir()
	for _, listen := range []string{"1080", "0.0.0.0:1080", "203.0.113.1:1080", "[::]:1080"} {
		write(t, dir+"/f.toml", fmt.Sprintf("[forward.p]\nlisten = %q\nto = \"socks\"\n", listen))
		out, err := lab.Host.Command(t.Context(), binary, "check", "-c", dir+"/f.toml").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "user add") {
			t.Errorf("listen = %q: %v, %s", listen, err, out)
		}
	}
}

// TestRedsocks has redsocks lead what nft redirects to it through a proxy, as for programs that know of none.
func TestRedsocks(t *testing.T) {
	needs(t, "redsocks")
	lab := netlab.Gateway(t)
	nginx(t, lab.Server, 8080)
	d := up(t, lab.Host, "[forward.p]\nlisten = \"127.0.0.1:1080\"\nto = \"proxy\"\n")
	for _, kind := range []string{"socks4", "socks5", "http-connect"} {
		conf := t.TempDir() + "/redsocks.conf"
		write(t, conf, fmt.Sprintf(`base { log = stderr; daemon = off; redirector = iptables; }
redsocks { local_ip = 127.0.0.1; local_port = 12345; ip = 127.0.0.1; port = 1080; type = %s; }
`, kind))
		proc := lab.Host.Start(t, "redsocks", "-c", conf)
		lab.Host.WaitListen(t, "tcp", 12345)
		lab.Host.Nft(t, `table ip red {
chain output {
type nat hook output priority 0; meta skuid 65534 tcp dport 8080 redirect to :12345
}
}`)
		got := lab.Host.Run(t, "setpriv", "--reuid=65534", "--clear-groups", "curl", "-sS", "-m", "5", "http://192.168.1.10:8080/")
		if got != "hello from server\n" {
			t.Errorf("%s: got %q", kind, got)
		}
		lab.Host.Run(t, "nft", "delete", "table", "ip", "red")
		if err := proc.Stop(); err != nil {
			t.Error(err)
		}
	}
	if n := d.status()["p"].Connections.Total; n != 3 {
		t.Errorf("%d sessions are counted", n)
	}
}
