package socks

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/relay/head/headtest"
)

// site serves HTTP on the loopback interface of one family.
func site(t *testing.T, ip string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Skip(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello "+r.URL.Path) }))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return l.Addr().String()
}

func TestCurl(t *testing.T) {
	target := site(t, "127.0.0.1")
	_, port, _ := net.SplitHostPort(target)
	names := map[string]string{"app.internal": "127.0.0.1"}
	open := (&headtest.Server{Head: New(), Hosts: names}).Start(t)
	closed := (&headtest.Server{Head: New(), Hosts: names, Users: map[string]string{"joe": "se cret"}}).Start(t)
	for _, test := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"4", []string{"--socks4", open, "http://" + target + "/a"}, true},
		{"4a", []string{"--socks4a", open, "http://app.internal:" + port + "/a"}, true},
		{"5", []string{"--socks5", open, "http://" + target + "/a"}, true},
		{"5, name", []string{"--socks5-hostname", open, "http://app.internal:" + port + "/a"}, true},
		{"5, user nobody asked for", []string{"--socks5", open, "-U", "a:b", "http://" + target + "/a"}, true},
		{"5, user", []string{"--socks5-hostname", closed, "-U", "joe:se cret", "http://app.internal:" + port + "/a"}, true},
		{"5, wrong", []string{"--socks5-hostname", closed, "-U", "joe:secret", "http://app.internal:" + port + "/a"}, false},
		{"5, no user", []string{"--socks5", closed, "http://" + target + "/a"}, false},
		{"4, user", []string{"--socks4", closed, "-U", "joe:se cret", "http://" + target + "/a"}, false},
		{"5, nobody there", []string{"--socks5", open, "http://127.0.0.1:1/a"}, false},
		{"5, again on the same connection", []string{"--socks5", open, "http://" + target + "/a", "http://" + target + "/a"}, true},
	} {
		out, err := headtest.Run(t, nil, nil, "curl", append([]string{"-sS", "--noproxy", "", "-m", "8"}, test.args...)...)
		if (err == nil) != test.ok || test.ok && !strings.Contains(out, "hello /a") {
			t.Errorf("%s: %v: %s", test.name, err, out)
		}
	}
}

func TestCurlIPv6(t *testing.T) {
	target := site(t, "::1")
	addr := (&headtest.Server{Head: New(), Local: "::1"}).Start(t)
	for _, kind := range []string{"--socks5", "--socks5-hostname"} {
		out, err := headtest.Run(t, nil, nil, "curl", "-sS", "--noproxy", "", "-g", kind, addr, "http://"+target+"/six")
		if err != nil || out != "hello /six" {
			t.Errorf("%s: %v: %s", kind, err, out)
		}
	}
}

func TestNetcat(t *testing.T) {
	host, port, _ := net.SplitHostPort(headtest.Echo(t, "127.0.0.1"))
	addr := (&headtest.Server{Head: New()}).Start(t)
	for _, version := range []string{"4", "5"} {
		out, err := headtest.Run(t, strings.NewReader("hello\n"), nil, "nc", "-N", "-X", version, "-x", addr, host, port)
		if err != nil || out != "hello\n" {
			t.Errorf("-X %s: %v: %s", version, err, out)
		}
	}
}

func TestConnectProxy(t *testing.T) {
	host, port, _ := net.SplitHostPort(headtest.Echo(t, "127.0.0.1"))
	addr := (&headtest.Server{Head: New(), Users: map[string]string{"joe": "secret"}}).Start(t)
	out, err := headtest.Run(t, strings.NewReader("hello\n"), []string{"SOCKS5_PASSWORD=secret"}, "connect-proxy", "-S", "joe@"+addr, host, port)
	if err != nil || !strings.Contains(out, "hello\n") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestProxychains(t *testing.T) {
	target := site(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort((&headtest.Server{Head: New(), Users: map[string]string{"joe": "secret"}}).Start(t))
	conf := filepath.Join(t.TempDir(), "proxychains.conf")
	text := "strict_chain\nquiet_mode\nproxy_dns\n[ProxyList]\nsocks5 " + host + " " + port + " joe secret\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := headtest.Run(t, nil, nil, "proxychains4", "-f", conf, "curl", "-sS", "--noproxy", "*", "http://"+target+"/chained")
	if err != nil || !strings.Contains(out, "hello /chained") {
		t.Errorf("%v: %s", err, out)
	}
}
