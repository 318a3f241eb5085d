package httpproxy

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/head/headtest"
)

// site serves HTTP, and remembers the last request.
type site struct {
	mu   sync.Mutex
	last *http.Request
	body string
	*httptest.Server
}

func newSite(t testing.TB) *site {
	s := &site{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *site) host() string { return s.Listener.Addr().String() }

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.last, s.body = r, string(body)
	s.mu.Unlock()
	switch r.URL.Path {
	case "/trailer":
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "chunk")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
	case "/hints":
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "hinted")
	case "/407":
		w.Header().Set("Proxy-Authenticate", "Basic realm=evil")
		w.WriteHeader(http.StatusProxyAuthRequired)
	case "/hop":
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("Proxy-Features", "x")
		w.Header().Set("X-Kept", "1")
	case "/upgrade":
		conn, rw, _ := http.NewResponseController(w).Hijack()
		defer conn.Close()
		io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		rw.Flush()
		io.Copy(conn, rw)
	default:
		w.Header().Set("X-Length", fmt.Sprint(len(body)))
		io.WriteString(w, "hello "+r.URL.RequestURI())
	}
}

// request is the last request, and its body.
func (s *site) request() (*http.Request, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.body
}

// raw calls a proxy and says something.
func raw(t testing.TB, addr, said string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(headtest.Patience))
	io.WriteString(c, said)
	return c, bufio.NewReader(c)
}

// response reads one, body included.
func response(t testing.TB, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodConnect && res.StatusCode == http.StatusOK {
		return res, "" // what follows is the tunnel's
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func basicAuth(user, password string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// TestRequests says one thing to a new proxy each time.
func TestRequests(t *testing.T) {
	web := newSite(t)
	host := web.host()
	pac := func(called string) ([]byte, error) {
		if strings.HasPrefix(called, "bad") {
			return nil, errors.New("bad host")
		}
		return []byte("for " + called), nil
	}
	users := map[string]string{"joe": "se:cret"}
	for _, test := range []struct {
		name   string
		server *headtest.Server
		pac    bool
		said   string // HOST is the site
		status int
		body   string // a part of it
		fails  error  // nil: Serve returns none
	}{
		{"a request", &headtest.Server{}, false, "GET http://HOST/a?b;c=%zz HTTP/1.1\r\nHost: x\r\n\r\n", 200, "hello /a?b;c=%zz", nil},
		{"of HTTP/1.0", &headtest.Server{}, false, "GET http://HOST/a HTTP/1.0\r\n\r\n", 200, "hello /a", nil},
		{"no path", &headtest.Server{}, false, "GET http://HOST HTTP/1.1\r\nHost: HOST\r\n\r\n", 200, "hello /", nil},
		{"https", &headtest.Server{}, false, "GET https://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 501, "CONNECT", nil},
		{"ftp", &headtest.Server{}, false, "GET ftp://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 501, "scheme", nil},
		{"no host", &headtest.Server{}, false, "GET http:///a HTTP/1.1\r\nHost: HOST\r\n\r\n", 400, "", nil},
		{"as to a server", &headtest.Server{}, false, "GET / HTTP/1.1\r\nHost: HOST\r\n\r\n", 400, "this is a proxy", nil},
		{"about the server", &headtest.Server{}, false, "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n", 400, "", nil},
		{"no such file", &headtest.Server{}, false, "GET /proxy.pac HTTP/1.1\r\nHost: HOST\r\n\r\n", 400, "", nil},
		{"the file", &headtest.Server{}, true, "GET /proxy.pac HTTP/1.1\r\nHost: p:3128\r\n\r\n", 200, "for p:3128", nil},
		{"at port 80", &headtest.Server{}, true, "GET /wpad.dat?x HTTP/1.1\r\nHost: wpad\r\n\r\n", 200, "for wpad:80", nil},
		{"by IPv6", &headtest.Server{}, true, "GET /wpad.dat HTTP/1.1\r\nHost: [::1]\r\n\r\n", 200, "for [::1]:80", nil},
		{"without a host", &headtest.Server{}, true, "GET /wpad.dat HTTP/1.0\r\n\r\n", 200, "for 127.0.0.1:", nil},
		{"without a login", &headtest.Server{Users: users}, true, "GET /proxy.pac HTTP/1.1\r\nHost: p:1\r\n\r\n", 200, "for p:1", nil},
		{"a bad host", &headtest.Server{}, true, "GET /proxy.pac HTTP/1.1\r\nHost: bad\r\n\r\n", 400, "bad host", nil},
		{"writing it", &headtest.Server{}, true, "POST /proxy.pac HTTP/1.1\r\nHost: p\r\nContent-Length: 0\r\n\r\n", 405, "", nil},
		{"no login", &headtest.Server{Users: users}, false, "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 407, "log in first", head.ErrLogin},
		{"no login, CONNECT", &headtest.Server{Users: users}, false, "CONNECT HOST HTTP/1.1\r\n\r\n", 407, "log in first", head.ErrLogin},
		{"not basic", &headtest.Server{Users: users}, false, "CONNECT HOST HTTP/1.1\r\nProxy-Authorization: Bearer x\r\n\r\n", 407, "log in first", head.ErrLogin},
		{"no base64", &headtest.Server{Users: users}, false, "CONNECT HOST HTTP/1.1\r\nProxy-Authorization: Basic !\r\n\r\n", 407, "log in first", head.ErrLogin},
		{"wrong", &headtest.Server{Users: users}, false, "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n" + basicAuth("joe", "x") + "\r\n", 407, "wrong name or password", head.ErrLogin},
		{"who knows", &headtest.Server{Users: users, Fail: map[string]error{"joe": errTimeout{}}}, false, "CONNECT HOST HTTP/1.1\r\n" + basicAuth("joe", "x") + "\r\n", 500, "could not be checked", errTimeout{}},
		{"right", &headtest.Server{Users: users}, false, "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n" + basicAuth("joe", "se:cret") + "\r\n", 200, "hello", nil},
		{"denied", &headtest.Server{Deny: func(string, uint16) bool { return true }}, false, "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 403, "policy", head.ErrDenied},
		{"denied, CONNECT", &headtest.Server{Deny: func(string, uint16) bool { return true }}, false, "CONNECT HOST HTTP/1.1\r\n\r\n", 403, "policy", head.ErrDenied},
		{"not found", &headtest.Server{Fail: map[string]error{"a": head.ErrNotFound}}, false, "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 502, "not known", head.ErrNotFound},
		{"too late", &headtest.Server{Fail: map[string]error{"a": errTimeout{}}}, false, "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 504, "too late", errTimeout{}},
		{"nobody there", &headtest.Server{}, false, "CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n", 502, "refused", nil},
		{"no port", &headtest.Server{}, false, "CONNECT HOST.example HTTP/1.1\r\n\r\n", 400, "", nil},
		{"port 0", &headtest.Server{}, false, "CONNECT a:0 HTTP/1.1\r\n\r\n", 400, "port", nil},
		{"a login from the server", &headtest.Server{}, false, "GET http://HOST/407 HTTP/1.1\r\nHost: HOST\r\n\r\n", 502, "407", nil},
		{"hops", &headtest.Server{}, false, "OPTIONS http://HOST/ HTTP/1.1\r\nHost: HOST\r\nMax-Forwards: 0\r\n\r\n", 204, "", nil},
		{"no hops", &headtest.Server{}, false, "TRACE http://HOST/ HTTP/1.1\r\nHost: HOST\r\nMax-Forwards: 0\r\n\r\n", 405, "", nil},
		{"hops of what", &headtest.Server{}, false, "TRACE http://HOST/ HTTP/1.1\r\nHost: HOST\r\nMax-Forwards: -1\r\n\r\n", 400, "", nil},
		{"other hops", &headtest.Server{}, false, "GET http://HOST/ HTTP/1.1\r\nHost: HOST\r\nMax-Forwards: 0\r\n\r\n", 200, "hello", nil},
		{"no HTTP", &headtest.Server{}, false, "hello\r\n\r\n", 400, "", ErrProtocol},
		{"TLS", &headtest.Server{}, false, "\x16\x03\x01\x00\x05hello\r\n\r\n", 400, "", ErrProtocol},
		{"no host line", &headtest.Server{}, false, "GET / HTTP/1.1\r\n\r\n", 400, "", ErrProtocol},
		{"two lengths", &headtest.Server{}, false, "POST http://HOST/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "", ErrProtocol},
		{"an odd coding", &headtest.Server{}, false, "POST http://HOST/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\nab", 501, "", ErrProtocol},
		{"much too long", &headtest.Server{}, false, "GET http://HOST/ HTTP/1.1\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n", 431, "", ErrProtocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			var o Options
			if test.pac {
				o.PAC = pac
			}
			test.server.Head = New(o)
			ended := make(chan error, 1)
			test.server.Ended = func(_ head.Outcome, err error) { ended <- err }
			c, r := raw(t, test.server.Start(t), strings.ReplaceAll(test.said, "HOST", host))
			method, _, _ := strings.Cut(test.said, " ")
			res, body := response(t, r, method)
			if res.StatusCode != test.status || !strings.Contains(body, test.body) {
				t.Errorf("%d %q, want %d %q", res.StatusCode, body, test.status, test.body)
			}
			if want := test.status == 407; (res.Header.Get("Proxy-Authenticate") == `Basic realm="fairlead", charset="UTF-8"`) != want {
				t.Errorf("%v", res.Header)
			}
			c.Close()
			if err := <-ended; test.fails != nil && !errors.Is(err, test.fails) || test.fails == nil && test.status == 200 && err != nil {
				t.Errorf("ended with %v, want %v", err, test.fails)
			}
		})
	}
}

type errTimeout struct{}

func (errTimeout) Error() string { return "too late" }
func (errTimeout) Timeout() bool { return true }
func (errTimeout) Temporary() bool {
	return false
}

func TestHeaders(t *testing.T) {
	web := newSite(t)
	proxy := New(Options{})
	server := &headtest.Server{Head: proxy}
	addr := server.Start(t)
	_, r := raw(t, addr, "GET http://"+web.host()+"/hop HTTP/1.1\r\nHost: else.example\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\n"+
		"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nKeep-Alive: 5\r\nTE: gzip, trailers\r\nUpgrade-Insecure-Requests: 1\r\n"+
		"X-Forwarded-For: 192.0.2.9\r\nVia: 1.0 other\r\nAccept: */*\r\n\r\n")
	res, _ := response(t, r, "GET")
	got, _ := web.request()
	want := http.Header{
		"Te": {"trailers"}, "Upgrade-Insecure-Requests": {"1"}, "X-Forwarded-For": {"192.0.2.9"}, "Via": {"1.0 other", "1.1 " + proxy.via},
		"Accept": {"*/*"},
	}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) || got.Host != web.host() {
		t.Errorf("the server got %v %v, want %v", got.Host, got.Header, want)
	}
	for _, name := range []string{"X-Private", "Keep-Alive", "Proxy-Features"} {
		if res.Header.Get(name) != "" {
			t.Errorf("the client got %s", name)
		}
	}
	if res.Header.Get("X-Kept") != "1" || res.Header.Get("Via") != "1.1 "+proxy.via {
		t.Errorf("the client got %v", res.Header)
	}
	_, r = raw(t, addr, "GET http://"+web.host()+"/ HTTP/1.1\r\nHost: a\r\nVia: 1.0 other, 1.1 "+proxy.via+" (x)\r\n\r\n")
	if res, body := response(t, r, "GET"); res.StatusCode != http.StatusLoopDetected {
		t.Errorf("a loop: %d %s", res.StatusCode, body)
	}
}

func TestKeepAlive(t *testing.T) {
	web := newSite(t)
	server := &headtest.Server{Head: New(Options{})}
	c, r := raw(t, server.Start(t), "")
	for i := range 5 {
		fmt.Fprintf(c, "GET http://%s/%d HTTP/1.1\r\nHost: a\r\n\r\n", web.host(), i)
		if _, body := response(t, r, "GET"); body != fmt.Sprintf("hello /%d", i) {
			t.Errorf("%d: %q", i, body)
		}
	}
	fmt.Fprintf(c, "HEAD http://%s/ HTTP/1.1\r\nHost: a\r\n\r\n", web.host())
	if res, _ := response(t, r, "HEAD"); res.StatusCode != 200 || res.ContentLength != 7 {
		t.Errorf("HEAD: %v", res)
	}
	if n := server.Dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	// The last one opens a tunnel.
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\n\r\nGET /tunnel HTTP/1.1\r\nHost: a\r\n\r\n", web.host())
	if res, _ := response(t, r, "CONNECT"); res.StatusCode != 200 {
		t.Errorf("CONNECT: %v", res)
	}
	if _, body := response(t, r, "GET"); body != "hello /tunnel" {
		t.Errorf("through the tunnel: %q", body)
	}
}

// TestLogins has somebody log in on a connection after a try without, and then as somebody else, who gets no connection of
// the first one.
func TestLogins(t *testing.T) {
	web := newSite(t)
	server := &headtest.Server{Head: New(Options{}), Users: map[string]string{"joe": "x", "ann": "y"}}
	c, r := raw(t, server.Start(t), "")
	for i, test := range []struct {
		auth          string
		status        int
		logins, dials int64
	}{
		{"", 407, 0, 0},
		{basicAuth("joe", "x"), 200, 1, 1},
		{basicAuth("joe", "x"), 200, 1, 1},
		{"", 407, 1, 1},
		{basicAuth("ann", "y"), 200, 2, 2},
		{basicAuth("ann", "x"), 407, 3, 2},
	} {
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: a\r\n%s\r\n", web.host(), test.auth)
		res, body := response(t, r, "GET")
		if res.StatusCode != test.status || server.Logins.Load() != test.logins || server.Dials.Load() != test.dials {
			t.Errorf("%d: %d %q after %d logins and %d dials", i, res.StatusCode, body, server.Logins.Load(), server.Dials.Load())
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after a wrong password: %v", err)
	}
}

func TestBodies(t *testing.T) {
	web := newSite(t)
	server := &headtest.Server{Head: New(Options{})}
	addr := server.Start(t)
	_, r := raw(t, addr, "POST http://"+web.host()+"/trailer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n"+
		"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Check: 7\r\n\r\n")
	res, body := response(t, r, "POST")
	got, sent := web.request()
	if sent != "abcde" || got.Trailer.Get("X-Check") != "7" {
		t.Errorf("the server got %q, %v", sent, got.Trailer)
	}
	if body != "chunk" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("the client got %q, %v", body, res.Trailer)
	}

	big := strings.Repeat("x", 5<<20)
	c, r := raw(t, addr, fmt.Sprintf("PUT http://%s/big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", web.host(), len(big)))
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q, %v", line, err)
	}
	r.ReadString('\n')
	io.WriteString(c, big)
	if res, _ := response(t, r, "PUT"); res.Header.Get("X-Length") != fmt.Sprint(len(big)) {
		t.Errorf("the server got %s bytes", res.Header.Get("X-Length"))
	}
	if in := server.In.Load(); in < int64(len(big)) {
		t.Errorf("%d bytes were counted", in)
	}

	_, r = raw(t, addr, "GET http://"+web.host()+"/hints HTTP/1.1\r\nHost: a\r\n\r\n")
	if res, _ := response(t, r, "GET"); res.StatusCode != http.StatusEarlyHints || res.Header.Get("Link") == "" {
		t.Errorf("%v", res)
	}
	if _, body := response(t, r, "GET"); body != "hinted" {
		t.Errorf("%q", body)
	}
}

func TestUpgrade(t *testing.T) {
	web := newSite(t)
	server := &headtest.Server{Head: New(Options{})}
	c, r := raw(t, server.Start(t), "GET http://"+web.host()+"/upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v, %v", res, err)
	}
	payload := bytes.Repeat([]byte("echo"), 1<<16)
	go c.Write(payload)
	got := make([]byte, len(payload))
	if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("echoed wrongly: %v", err)
	}
	c.(*net.TCPConn).CloseWrite()
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("ends with %v", err)
	}
}

// TestStreams has a server send a little at a time, which the client must see at once.
func TestStreams(t *testing.T) {
	seen := make(chan bool)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			io.WriteString(w, "tick\n")
			w.(http.Flusher).Flush()
			<-seen
		}
	}))
	defer web.Close()
	_, r := raw(t, (&headtest.Server{Head: New(Options{})}).Start(t), "GET "+web.URL+"/ HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(res.Body)
	for range 3 {
		if line, err := lines.ReadString('\n'); line != "tick\n" {
			t.Fatalf("%q, %v", line, err)
		}
		seen <- true
	}
}

// TestEndsWithTheServer leaves clients in every state; Start checks that nothing of them stays.
func TestEndsWithTheServer(t *testing.T) {
	web := newSite(t)
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close)
	server := &headtest.Server{Head: New(Options{})}
	addr := server.Start(t)
	raw(t, addr, "")
	raw(t, addr, "GET http")
	_, r := raw(t, addr, "GET http://"+web.host()+"/ HTTP/1.1\r\nHost: a\r\n\r\n")
	response(t, r, "GET")
	raw(t, addr, "GET "+slow.URL+"/ HTTP/1.1\r\nHost: a\r\n\r\n")
	_, r = raw(t, addr, "GET http://"+web.host()+"/upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r.ReadString('\n')
	raw(t, addr, "POST http://"+web.host()+"/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
	headtest.Eventually(t, "all to be under way", func() bool { return server.Dials.Load() == 4 })
}
