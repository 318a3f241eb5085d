package httpproxy

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/head/headtest"
)

func TestCurl(t *testing.T) {
	web := newSite(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("hello " + r.URL.Path)) }))
	defer secure.Close()
	_, port, _ := net.SplitHostPort(web.host())
	names := map[string]string{"app.internal": "127.0.0.1"}
	open := "http://" + (&headtest.Server{Head: New(Options{}), Hosts: names}).Start(t)
	closed := "http://" + (&headtest.Server{Head: New(Options{}), Hosts: names, Users: map[string]string{"joe": "se cret"}}).Start(t)
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte{'x'}, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want string // "" fails
	}{
		{"plain", []string{"-x", open, web.URL + "/a"}, "hello /a"},
		{"a name", []string{"-x", open, "http://app.internal:" + port + "/a"}, "hello /a"},
		{"HTTP/1.0", []string{"-x", open, "--proxy1.0", open[7:], web.URL + "/a"}, "hello /a"},
		{"twice", []string{"-x", open, web.URL + "/a", web.URL + "/b"}, "hello /ahello /b"},
		{"a tunnel", []string{"-x", open, "-p", web.URL + "/a"}, "hello /a"},
		{"a tunnel, 1.0", []string{"--proxy1.0", open[7:], "-p", web.URL + "/a"}, "hello /a"},
		{"https", []string{"-x", open, "-k", secure.URL + "/s"}, "hello /s"},
		{"upload", []string{"-x", open, "-T", big, web.URL + "/up"}, "hello /up"},
		{"chunked upload", []string{"-x", open, "-T", big, "-H", "Transfer-Encoding: chunked", web.URL + "/up"}, "hello /up"},
		{"a user", []string{"-x", closed, "-U", "joe:se cret", web.URL + "/a"}, "hello /a"},
		{"any way", []string{"-x", closed, "--proxy-anyauth", "-U", "joe:se cret", web.URL + "/a"}, "hello /a"},
		{"any way, a tunnel", []string{"-x", closed, "-p", "--proxy-anyauth", "-U", "joe:se cret", web.URL + "/a"}, "hello /a"},
		{"any way, upload", []string{"-x", closed, "--proxy-anyauth", "-U", "joe:se cret", "-T", big, web.URL + "/up"}, "hello /up"},
		{"https, a user", []string{"-x", closed, "-k", "-U", "joe:se cret", secure.URL + "/s"}, "hello /s"},
		{"wrong", []string{"-f", "-x", closed, "-U", "joe:x", web.URL + "/a"}, ""},
		{"no user", []string{"-f", "-x", closed, web.URL + "/a"}, ""},
		{"https, no user", []string{"-x", closed, "-k", secure.URL + "/s"}, ""},
	} {
		out, err := headtest.Run(t, nil, nil, "curl", append([]string{"-sS", "--noproxy", "", "-m", "8"}, test.args...)...)
		if (err == nil) != (test.want != "") || test.want != "" && out != test.want {
			t.Errorf("%s: %v: %s", test.name, err, out)
		}
	}
}

func TestOtherClients(t *testing.T) {
	echo := headtest.Echo(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort(echo)
	open := (&headtest.Server{Head: New(Options{})}).Start(t)
	closed := (&headtest.Server{Head: New(Options{}), Users: map[string]string{"joe": "secret"}}).Start(t)
	closedHost, closedPort, _ := net.SplitHostPort(closed)
	conf := filepath.Join(t.TempDir(), "proxychains.conf")
	text := "strict_chain\nquiet_mode\n[ProxyList]\nhttp " + closedHost + " " + closedPort + " joe secret\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		env  []string
		args []string
	}{
		{"netcat", nil, []string{"nc", "-N", "-X", "connect", "-x", open, host, port}},
		{"connect-proxy", nil, []string{"connect-proxy", "-H", open, host, port}},
		{"connect-proxy with a user", []string{"HTTP_PROXY_PASSWORD=secret"}, []string{"connect-proxy", "-H", "joe@" + closed, host, port}},
		{"proxychains", nil, []string{"proxychains4", "-f", conf, "nc", "-N", host, port}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := headtest.Run(t, strings.NewReader("hello\n"), test.env, test.args[0], test.args[1:]...)
			if err != nil || !strings.Contains(out, "hello\n") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// FuzzServe serves whatever a client may say: it ends, answers with HTTP if at all, and nobody gets anywhere without a login.
func FuzzServe(f *testing.F) {
	for _, s := range []string{
		"CONNECT a:80 HTTP/1.1\r\n\r\nahead", "GET http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /proxy.pac HTTP/1.0\r\n\r\n",
		"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eDp5\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, said []byte, login bool) {
		synctest.Test(t, func(t *testing.T) { // net/http waits here and there
			p := New(Options{PAC: func(string) ([]byte, error) { return []byte("file"), nil }})
			client, env := &spoken{in: bytes.NewReader(said)}, &offline{login: login}
			if out, err := p.Serve(t.Context(), client, env); out.Target != nil || err == nil && client.out.Len() == 0 {
				t.Errorf("%v and %v", out.Target, err)
			}
			if b := client.out.Bytes(); len(b) > 0 && !bytes.HasPrefix(b, []byte("HTTP/1.")) {
				t.Errorf("answered %q", b)
			}
			if login && env.dialled && !env.loggedIn {
				t.Error("dialled without a login")
			}
		})
	})
}

// spoken is a client that has said everything already.
type spoken struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *spoken) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *spoken) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *spoken) SetDeadline(time.Time) error      { return nil }
func (s *spoken) SetReadDeadline(time.Time) error  { return nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }
func (s *spoken) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 999} }
func (s *spoken) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3128} }

// offline is an Env that reaches nobody.
type offline struct{ login, loggedIn, dialled bool }

func (o *offline) NeedsLogin() bool { return o.login }
func (o *offline) Login(_ context.Context, user, password string) error {
	if user == "x" && password == "y" {
		o.loggedIn = true
		return nil
	}
	return head.ErrLogin
}

func (o *offline) Dial(context.Context, string, string, uint16) (net.Conn, error) {
	o.dialled = true
	return nil, head.ErrNotFound
}
func (o *offline) Listen(context.Context, string, uint16) (net.Listener, error) {
	return nil, head.ErrUnfit
}
func (o *offline) ListenPacket(context.Context) (net.PacketConn, error) { return nil, head.ErrUnfit }
func (o *offline) Packets(context.Context) (head.PacketTarget, error)   { return nil, head.ErrUnfit }
func (o *offline) Settled()                                             {}
func (o *offline) Count(int, int)                                       {}
