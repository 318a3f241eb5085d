package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node/host"
)

// TestNamesOfHTTP sends requests for several names over one connection: each goes to its own forward.
func TestNamesOfHTTP(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprint(portable), func(t *testing.T) {
			blog, wiki, rest := echoSite(t, "blog"), echoSite(t, "wiki"), echoSite(t, "rest")
			r := start(t, host.New(), Options{Portable: portable})
			port := freePort(t)
			apply(t, r,
				named(t, "blog", port, blog, forward.Site{}, "blog.example.com", "www.example.com"),
				named(t, "rest", port, rest, forward.Site{}, "*"),
				named(t, "wiki", port, wiki, forward.Site{}, "*.wiki.example.com"))
			conn, reader := callPort(t, port)
			for _, one := range []struct{ text, want string }{
				{fetching("/1", "blog.example.com"), "site=blog host=blog.example.com uri=/1"},
				{fetching("/2", "WWW.example.com.:80"), "site=blog host=WWW.example.com.:80"},
				{fetching("/3?a=1;b", "a.wiki.example.com"), "site=wiki host=a.wiki.example.com uri=/3?a=1;b"},
				{fetching("/4", "a.b.wiki.example.com"), "site=rest"},
				{fetching("/5", "wiki.example.com"), "site=rest"},
				{fetching("/6", "192.0.2.1"), "site=rest"},
				{fetching("/7", "[2001:db8::1]:80"), "site=rest"},
				{fetching("http://blog.example.com/8", "a.wiki.example.com"), "site=blog host=blog.example.com uri=/8"},
				{fetching("/9", "blog.example.com", "Connection: keep-alive, X-Forwarded-For"), "site=blog"},
			} {
				status, body := request(t, conn, reader, one.text)
				if status != 200 || !strings.HasPrefix(body, one.want) {
					t.Errorf("%q: %d %s", one.text, status, body)
				}
			}
			_, body := request(t, conn, reader, fetching("/", "blog.example.com", "X-Forwarded-For: 1.2.3.4", "X_Forwarded_For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4", "X-Forwarded-User: root"))
			want := "X-Forwarded-For: 127.0.0.1\nX-Forwarded-Proto: http\nX-Forwarded-Host: blog.example.com\nForwarded: for=127.0.0.1;host=\"blog.example.com\";proto=http\nX-Real-Ip: 127.0.0.1\n"
			if _, told, _ := strings.Cut(body, "\n"); told != want {
				t.Errorf("the target was told\n%swant\n%s", told, want)
			}
			stats := r.Stats()
			if stats["blog"].Open != 1 || stats["blog"].Total != 1 || stats["wiki"].Open != 1 || stats["blog"].BytesIn == 0 || stats["blog"].BytesOut == 0 {
				t.Errorf("%+v", stats)
			}
			sessions, _ := r.Sessions()
			if len(sessions) != 3 {
				t.Errorf("%d sessions", len(sessions))
			}
			if err := r.Kill(sessions[0].ID); err != nil {
				t.Error(err)
			}
			if _, err := reader.ReadByte(); err == nil {
				t.Error("a killed client goes on")
			}
			eventually(t, "its sessions to end", func() bool { s := r.Stats(); return s["blog"].Open == 0 && s["wiki"].Open == 0 && s["rest"].Open == 0 })
		})
	}
}

// TestNamesRefused has requests that two servers could read in two ways, and names that lead nowhere.
func TestNamesRefused(t *testing.T) {
	blog := echoSite(t, "blog")
	r := startRelay(t)
	port := freePort(t)
	apply(t, r, named(t, "blog", port, blog, forward.Site{}, "blog.example.com"))
	for _, one := range []struct {
		text   string
		status int
	}{
		{fetching("/", "other.example.com"), 404},
		{fetching("/", "127.0.0.1"), 404},
		{fetching("/", "blog.example.com/x"), 400},
		{fetching("/", "blog.example.com@other"), 400},
		{fetching("/", "blog.example.com:80:90"), 404},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.0\r\n\r\n", 404},
		{fetching("/", "blog.example.com", "Host: other.example.com"), 400},
		{fetching("/", "blog.example.com", "Host : other.example.com"), 400},
		{fetching("/", "blog.example.com", " Host: other.example.com"), 400},
		{fetching("/", "blog.example.com\rX: y"), 400},
		{fetching("/", "blog.example.com", "Content-Length: 1", "Content-Length: 2"), 400},
		{fetching("/", "blog.example.com", "Transfer-Encoding: chunked, identity"), 501},
		{"CONNECT blog.example.com:80 HTTP/1.1\r\nHost: blog.example.com\r\n\r\n", 405},
		{fetching("http://other.example.com/", "blog.example.com"), 404},
		{fetching("/", "blog.example.com", "X: "+strings.Repeat("x", 80<<10)), 431},
	} {
		conn, reader := callPort(t, port)
		if status, body := request(t, conn, reader, one.text); status != one.status {
			t.Errorf("%.120q: %d %s", one.text, status, body)
		}
		conn.Close()
	}
	// What comes behind a request with both lengths is no request of its own to the target: it is framed anew.
	conn, reader := callPort(t, port)
	status, body := request(t, conn, reader, "POST /outer HTTP/1.1\r\nHost: blog.example.com\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+fetching("/inner", "other.example.com"))
	if status == 200 {
		if !strings.Contains(body, "uri=/outer") {
			t.Errorf("%s", body)
		}
		if res, err := http.ReadResponse(reader, nil); err == nil && res.StatusCode != 404 && res.StatusCode != 400 {
			t.Errorf("the request behind was answered with %d", res.StatusCode)
		}
	}
	// Neither HTTP nor TLS, and a TLS name that leads nowhere.
	other, _ := callPort(t, port)
	io.WriteString(other, "SSH-2.0-x\r\n")
	other.SetDeadline(time.Now().Add(patience))
	if _, err := other.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("SSH was answered: %v", err)
	}
	_, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: "other.example.com"})
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("TLS for another name: %v", err)
	}
}

// TestNamesOfTLSPass has targets with certificates of their own; what is sent arrives untouched.
func TestNamesOfTLSPass(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprint(portable), func(t *testing.T) {
			pools := map[string]*x509.CertPool{}
			var forwards []*forward.Forward
			port := freePort(t)
			for _, name := range []string{"blog", "wiki"} {
				site, pool := certificate(t, name+".example.com")
				pools[name] = pool
				pair, err := tls.LoadX509KeyPair(site.Cert, site.Key)
				if err != nil {
					t.Fatal(err)
				}
				addr := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
					server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
					io.Copy(server, server)
					server.CloseWrite()
				})
				forwards = append(forwards, named(t, name, port, addr.String(), forward.Site{}, name+".example.com"))
			}
			forwards[1].SendProxy = 0
			r := start(t, host.New(), Options{Portable: portable})
			apply(t, r, forwards...)
			for name, pool := range pools {
				conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: name + ".example.com", RootCAs: pool})
				if err != nil {
					t.Fatal(err)
				}
				message := strings.Repeat("0123456789", 30000)
				go func() {
					io.WriteString(conn, message)
					conn.CloseWrite()
				}()
				back, err := io.ReadAll(conn)
				if err != nil || string(back) != message {
					t.Errorf("%d bytes came back, %v", len(back), err)
				}
				conn.Close()
			}
			eventually(t, "both to be counted", func() bool {
				s := r.Stats()
				return s["blog"].Total == 1 && s["wiki"].Total == 1 && s["wiki"].BytesIn > 300000
			})
		})
	}
}

// TestNamesOfTLSEnded ends TLS: over HTTP/1.1 and HTTP/2, for the name of the certificate and no other.
func TestNamesOfTLSEnded(t *testing.T) {
	blog, wiki := echoSite(t, "blog"), echoSite(t, "wiki")
	site, pool := certificate(t, "blog.example.com", "wiki.example.com")
	site.RedirectHTTPS = true
	login := func(_ context.Context, _ *forward.Forward, _ netip.Addr, name, password string) (forward.User, error) {
		if name == "anna" && password == "right" {
			return forward.User{}, nil
		}
		return forward.User{}, errors.New("wrong")
	}
	r := start(t, host.New(), Options{Login: login})
	port := freePort(t)
	locked := site
	locked.Auth, locked.RedirectHTTPS = forward.AuthBasic, false
	apply(t, r, named(t, "blog", port, blog, site, "blog.example.com"), named(t, "wiki", port, wiki, locked, "wiki.example.com"))
	for _, two := range []bool{false, true} {
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: two,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+port)
			},
		}
		client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience}
		fetch := func(url, host, user, password string) (int, string, *http.Response) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			if user != "" {
				req.SetBasicAuth(user, password)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			return res.StatusCode, string(body), res
		}
		status, body, res := fetch("https://blog.example.com/x", "", "", "")
		if status != 200 || !strings.Contains(body, "site=blog host=blog.example.com uri=/x") || !strings.Contains(body, "X-Forwarded-Proto: https") || (res.ProtoMajor == 2) != two {
			t.Errorf("%d %s %s", status, res.Proto, body)
		}
		if status, body, _ := fetch("https://blog.example.com/x", "wiki.example.com", "anna", "right"); status != http.StatusMisdirectedRequest {
			t.Errorf("another name than that of TLS: %d %s", status, body)
		}
		if status, _, _ := fetch("https://wiki.example.com/", "", "", ""); status != http.StatusUnauthorized {
			t.Errorf("without a password: %d", status)
		}
		if status, _, _ := fetch("https://wiki.example.com/", "", "anna", "wrong"); status != http.StatusUnauthorized {
			t.Errorf("with a wrong password: %d", status)
		}
		for range 2 {
			status, body, _ := fetch("https://wiki.example.com/", "", "anna", "right")
			if status != 200 || !strings.Contains(body, "site=wiki") || !strings.Contains(body, "X-Forwarded-User: anna") || strings.Contains(body, "Authorization") {
				t.Errorf("with a password: %d %s", status, body)
			}
		}
		if status, _, _ := fetch("https://wiki.example.com/", "", "anna", "wrong"); status != http.StatusUnauthorized {
			t.Errorf("with a wrong password after a right one: %d", status)
		}
		for _, url := range []string{"http://blog.example.com/a%2Fb?c", "http://wiki.example.com/"} {
			status, _, res := fetch(url, "", "anna", "right")
			if want := strings.Replace(strings.Replace(url, "http:", "https:", 1), ".com", ".com:"+port, 1); status != http.StatusPermanentRedirect || res.Header.Get("Location") != want {
				t.Errorf("%s leads to %d %q", url, status, res.Header.Get("Location"))
			}
		}
		transport.CloseIdleConnections()
	}
}

// TestNamesAndLimits counts a connection at each forward that its requests are for.
func TestNamesAndLimits(t *testing.T) {
	blog, wiki := echoSite(t, "blog"), echoSite(t, "wiki")
	r := startRelay(t)
	port := freePort(t)
	small := named(t, "blog", port, blog, forward.Site{}, "blog.example.com")
	small.MaxConnections = 1
	apply(t, r, small, named(t, "wiki", port, wiki, forward.Site{}, "wiki.example.com"))
	first, firstReader := callPort(t, port)
	second, secondReader := callPort(t, port)
	for range 2 {
		if status, _ := request(t, first, firstReader, fetching("/", "blog.example.com")); status != 200 {
			t.Errorf("the first: %d", status)
		}
		if status, _ := request(t, second, secondReader, fetching("/", "blog.example.com")); status != 503 {
			t.Errorf("one too many: %d", status)
		}
		if status, _ := request(t, second, secondReader, fetching("/", "wiki.example.com")); status != 200 {
			t.Errorf("another forward: %d", status)
		}
	}
	first.Close()
	eventually(t, "the first to leave", func() bool { return r.Stats()["blog"].Open == 0 })
	if status, _ := request(t, second, secondReader, fetching("/", "blog.example.com")); status != 200 {
		t.Errorf("after that: %d", status)
	}
	// A forward that is gone is so for the next request, too.
	apply(t, r, named(t, "wiki", port, wiki, forward.Site{}, "wiki.example.com"))
	third, thirdReader := callPort(t, port)
	if status, _ := request(t, third, thirdReader, fetching("/", "blog.example.com")); status != 404 {
		t.Errorf("of a forward that is gone: %d", status)
	}
	// A target that changes has the next request.
	apply(t, r, named(t, "wiki", port, blog, forward.Site{}, "wiki.example.com", "blog.example.com"))
	if _, body := request(t, third, thirdReader, fetching("/", "wiki.example.com")); !strings.Contains(body, "site=blog") {
		t.Errorf("of a target that has changed: %s", body)
	}
}

// TestNamesUpgrade carries what becomes another protocol.
func TestNamesUpgrade(t *testing.T) {
	blog := echoSite(t, "blog")
	r := startRelay(t)
	port := freePort(t)
	apply(t, r, named(t, "blog", port, blog, forward.Site{}, "blog.example.com"))
	conn, reader := callPort(t, port)
	io.WriteString(conn, fetching("/", "blog.example.com", "Connection: Upgrade", "Upgrade: echo"))
	res, err := http.ReadResponse(reader, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	for range 3 {
		io.WriteString(conn, "hello\n")
		if line, err := reader.ReadString('\n'); line != "hello\n" {
			t.Fatalf("%q %v", line, err)
		}
	}
}
