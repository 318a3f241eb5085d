package link

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A testProxy is a small HTTP and SOCKS proxy.
type testProxy struct {
	addr   string
	used   atomic.Int32
	login  string // user:password; "": none
	refuse bool
}

func newTestProxy(t *testing.T, login string) *testProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &testProxy{addr: l.Addr().String(), login: login}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wait.Wait()
	})
	return p
}

func (p *testProxy) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	first, err := r.Peek(1)
	if err != nil {
		return
	}
	var target string
	if first[0] == socksVersion {
		target = p.socks(c, r)
	} else {
		target = p.http(c, r)
	}
	if target == "" {
		return
	}
	p.used.Add(1)
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		io.Copy(struct{ io.Writer }{far}, r) // by no splice, whose pipes are kept
		far.Close()
	}()
	io.Copy(struct{ io.Writer }{c}, far)
}

func (p *testProxy) http(c net.Conn, r *bufio.Reader) string {
	req, err := http.ReadRequest(r)
	if err != nil {
		return ""
	}
	authorization := &http.Request{Header: http.Header{"Authorization": req.Header["Proxy-Authorization"]}}
	user, password, _ := authorization.BasicAuth()
	switch {
	case p.login != "" && user+":"+password != p.login:
		io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
		return ""
	case p.refuse || req.Method != http.MethodConnect:
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		return ""
	}
	io.WriteString(c, "HTTP/1.0 200 Connection established\r\nVia: test\r\n\r\n")
	return req.Host
}

func (p *testProxy) socks(c net.Conn, r *bufio.Reader) string {
	read := func(n int) []byte {
		b := make([]byte, n)
		io.ReadFull(r, b)
		return b
	}
	methods := read(int(read(2)[1]))
	if p.login == "" {
		c.Write([]byte{5, 0})
	} else {
		if !bytes.Contains(methods, []byte{2}) {
			c.Write([]byte{5, 255})
			return ""
		}
		c.Write([]byte{5, 2})
		user := read(int(read(2)[1]))
		password := read(int(read(1)[0]))
		if string(user)+":"+string(password) != p.login {
			c.Write([]byte{1, 1})
			return ""
		}
		c.Write([]byte{1, 0})
	}
	command := read(3)[1]
	var host string
	switch kind := read(1)[0]; kind {
	case socksName:
		host = string(read(int(read(1)[0])))
	default:
		a, _ := netip.AddrFromSlice(read(map[byte]int{socksIPv4: 4, socksIPv6: 16}[kind]))
		host = a.String()
	}
	port := read(2)
	if command == socksAssociate {
		c.Write([]byte{5, 7, 0, 1, 0, 0, 0, 0, 0, 0})
		return ""
	}
	if p.refuse {
		c.Write([]byte{5, 2, 0, 1, 0, 0, 0, 0, 0, 0})
		return ""
	}
	c.Write([]byte{5, 0, 0, 3, 3, 'a', 'b', 'c', 0, 0})
	return net.JoinHostPort(host, fmt.Sprint(int(port[0])<<8|int(port[1])))
}

func TestProxies(t *testing.T) {
	for _, kind := range []string{"http", "socks5"} {
		for _, transport := range []string{TLS, WSS} {
			for _, login := range []string{"", "anna:s3cret:with colon"} {
				t.Run(fmt.Sprintf("%s %s %q", kind, transport, login), func(t *testing.T) {
					leaks(t)
					b := hub(t, nil)
					accepted(t, b)
					p := newTestProxy(t, login)
					url := kind + "://" + p.addr
					if login != "" {
						url = kind + "://anna:s3cret%3Awith%20colon@" + p.addr
					}
					for _, name := range []string{b.addr, strings.Replace(b.addr, "127.0.0.1", "localhost", 1)} {
						d := dialer(t, b, func(o *DialOptions) { o.Transports, o.Proxy, o.Hub = []string{transport, QUIC}, url, []string{name} })
						l, err := d.Dial(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						if l.Transport() != transport {
							t.Errorf("by %s", l.Transport())
						}
						if l.Remote().String() != p.addr {
							t.Errorf("packets come from %v, and the proxy is %v", l.Remote(), p.addr)
						}
						l.Close()
					}
					if p.used.Load() != 2 {
						t.Error("not through the proxy")
					}
				})
			}
		}
	}
}

func TestProxyRefuses(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	for _, c := range []struct {
		name, url string
		p         *testProxy
		login     bool
	}{
		{"http, no login", "http://", newTestProxy(t, "a:b"), true},
		{"http, wrong login", "http://a:c@", newTestProxy(t, "a:b"), true},
		{"socks, no login", "socks5://", newTestProxy(t, "a:b"), true},
		{"socks, wrong login", "socks5://a:c@", newTestProxy(t, "a:b"), true},
		{"http, not permitted", "http://", &testProxy{refuse: true}, false},
		{"socks, not permitted", "socks5://", &testProxy{refuse: true}, false},
	} {
		if c.p.refuse {
			c.p = newTestProxy(t, "")
			c.p.refuse = true
		}
		d := dialer(t, b, func(o *DialOptions) { o.Proxy = c.url + c.p.addr })
		_, err := d.Dial(t.Context())
		var refused *ProxyError
		if !errors.As(err, &refused) || refused.Login != c.login || refused.Proxy != c.p.addr || strings.Contains(err.Error(), "a:c") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestProxyIsSilent: a proxy that says nothing is waited for as long as ctx permits.
func TestProxyIsSilent(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, kind := range []string{"http", "socks5", "https"} {
		d := dialer(t, b, func(o *DialOptions) { o.Proxy = kind + "://" + l.Addr().String() })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := d.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", kind, err)
		}
		cancel()
	}
}

func TestParseProxy(t *testing.T) {
	for text, want := range map[string]string{
		"http://proxy":               "http proxy:80 : false",
		"proxy:3128":                 "http proxy:3128 : false",
		"socks5://u:p@[2001:db8::1]": "socks5 [2001:db8::1]:1080 u:p true",
		"socks5h://u@proxy:9":        "socks5 proxy:9 u: true",
		"https://u:p%40@proxy":       "https proxy:443 u:p@ true",
		"ftp://proxy":                "",
		"http://":                    "",
		"http://u:secret@proxy:port": "",
		"socks5://" + strings.Repeat("u", 300) + ":p@proxy": "",
	} {
		p, err := parseProxy(text)
		if err != nil {
			if want != "" || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if got := fmt.Sprintf("%s %s %s:%s %v", p.kind, p.addr, p.user, p.password, p.login); got != want {
			t.Errorf("%s: %s; want %s", text, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"", ""},
		{"HTTPS_PROXY=http://a:1", "a:1"},
		{"https_proxy=a:1", "a:1"},
		{"ALL_PROXY=socks5://b:2", "b:2"},
		{"all_proxy=socks5h://b:2", "b:2"},
		{"HTTPS_PROXY=http://a:1 ALL_PROXY=socks5://b:2", "a:1"},
		{"HTTP_PROXY=http://c:3", ""}, // for http:// alone
		{"HTTPS_PROXY=http://a:1 NO_PROXY=example.com", ""},
		{"HTTPS_PROXY=http://a:1 no_proxy=other.example", "a:1"},
	} {
		env := map[string]string{}
		for _, v := range strings.Fields(c.env) {
			name, value, _ := strings.Cut(v, "=")
			env[name] = value
		}
		p, err := environment(func(n string) string { return env[n] }, "hub.example.com:443")
		got := ""
		if p != nil {
			got = p.addr
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.env, got, err, c.want)
		}
	}
}

// FuzzReadAnswer: a proxy's answer is read up to its end, and no further.
func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nVia: x\r\n\r\n\x16\x03"))
	f.Add([]byte("HTTP/1.1 407 \r\nContent-Length: 99\r\n\r\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		r := bytes.NewReader(said)
		status, err := readAnswer(r)
		used := said[:len(said)-r.Len()]
		if len(used) > maxAnswer {
			t.Fatalf("%d bytes were read", len(used))
		}
		if err == nil && (status < 0 || status > 999 || !bytes.HasSuffix(used, []byte("\n"))) {
			t.Fatalf("%d, after %q", status, used)
		}
	})
}

func FuzzSocksPayload(f *testing.F) {
	f.Add([]byte{0, 0, 0, socksIPv4, 192, 0, 2, 1, 1, 187, 'x'})
	f.Add([]byte{0, 0, 0, socksName, 1, 'a', 1, 187})
	f.Add([]byte{0, 0, 1, socksIPv6, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, ok := socksPayload(b)
		if !ok {
			return
		}
		// What is before the payload is what would be written before it.
		addr, err := readSocksAddr(bytes.NewReader(b[3:]))
		if err != nil || b[2] != 0 || len(payload) > len(b)-6 {
			t.Fatalf("%v of %v: %v", payload, b, err)
		}
		if b[3] != socksName {
			if head, err := appendSocksAddr([]byte{b[0], b[1], 0}, addr.String()); err != nil || len(head) > len(b)-len(payload) {
				t.Fatalf("%s is %v, %v", addr, head, err)
			}
		}
	})
}

func FuzzSocksAddr(f *testing.F) {
	f.Add([]byte{1, 192, 0, 2, 1, 0, 80}, "192.0.2.1:80")
	f.Add([]byte{3, 1, 'a', 0, 80}, "a:80")
	f.Add([]byte{4, 0}, "[::1]:1")
	f.Fuzz(func(t *testing.T, said []byte, addr string) {
		readSocksAddr(bytes.NewReader(said))
		b, err := appendSocksAddr(nil, addr)
		if err != nil {
			return
		}
		r := bytes.NewReader(b)
		got, err := readSocksAddr(r)
		if err != nil || r.Len() != 0 {
			t.Fatalf("%q: %v, %d bytes left", addr, err, r.Len())
		}
		if want, err := netip.ParseAddrPort(addr); err == nil && want.Addr().Unmap().WithZone("") != got.Addr() {
			t.Fatalf("%q became %v", addr, got)
		}
	})
}
