package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestVisitors: who is no agent is handed over with all that was said.
func TestVisitors(t *testing.T) {
	leaks(t)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "blog of "+r.Host) }))
	web.EnableHTTP2 = true
	conns := make(chan net.Conn)
	web.Listener.Close()
	web.Listener = &web0{conns}
	firsts := make(chan First, 8)
	b := hub(t, func(o *ListenOptions) {
		o.Other = func(v *Visitor, f First) bool {
			firsts <- f
			if f.ServerName == "nobody.example" {
				return false
			}
			go func() {
				if f.TLS {
					conns <- tls.Server(v, web.TLS)
				} else {
					conns <- v
				}
			}()
			return true
		}
	})
	web.TLS = &tls.Config{Certificates: []tls.Certificate{b.Identity.cert}, NextProtos: []string{"http/1.1"}}
	web.Start()
	defer web.Close()
	defer close(conns)

	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, b.addr)
		},
	}}
	for url, want := range map[string]string{"https://Blog.example/": "Blog.example", "http://blog.example/": "blog.example"} {
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.EqualFold(string(body), "blog of blog.example") {
			t.Errorf("%s: %q", url, body)
		}
		if f := <-firsts; f.TLS != strings.HasPrefix(url, "https") || f.ServerName != strings.ToLower(want) {
			t.Errorf("%s: %+v", url, f)
		}
	}
	resp, err := client.Get("https://nobody.example/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("who is nobody's: %s", resp.Status)
	}
	<-firsts
	resp, err = client.Get("https://nobody.example" + WellKnown)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode/100 != 4 {
		t.Errorf("no WebSocket: %s", resp.Status)
	}
	<-firsts
	b.empty(t)
}

type web0 struct{ conns chan net.Conn }

func (w *web0) Accept() (net.Conn, error) {
	c, ok := <-w.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (w *web0) Close() error   { return nil }
func (w *web0) Addr() net.Addr { return &net.TCPAddr{} }

// TestByOneByte: a ClientHello may come in any pieces.
func TestByOneByte(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn := tls.Client(&drip{c}, agentTLS(identity(t), b.Identity.Key()))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	l, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

type drip struct{ net.Conn }

func (d *drip) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// A tape is a connection of which everything was said.
type tape struct {
	net.Conn
	rest *bytes.Reader
}

func (t *tape) Read(p []byte) (int, error)         { return t.rest.Read(p) }
func (t *tape) Write(p []byte) (int, error)        { return len(p), nil }
func (t *tape) Close() error                       { return nil }
func (t *tape) SetDeadline(time.Time) error        { return nil }
func (t *tape) SetReadDeadline(time.Time) error    { return nil }
func (t *tape) SetWriteDeadline(_ time.Time) error { return nil }

// FuzzPeek: of whoever is handed over, not a byte is lost or added, and nobody gets in.
func FuzzPeek(f *testing.F) {
	for _, protocol := range []string{"h2", ALPN} {
		var hello bytes.Buffer
		tls.Client(&teller{out: &hello}, &tls.Config{ServerName: "blog.example", NextProtos: []string{protocol}}).Handshake()
		f.Add(hello.Bytes())
		f.Add(hello.Bytes()[:hello.Len()/2])
		f.Add(append(hello.Bytes(), "and more"...))
	}
	f.Add([]byte("GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n"))
	f.Add([]byte("GET http://a.example:80/x HTTP/1.1\nHost: b.example\n\nPOST / HTTP/1.0\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\xff\xff"))
	agents := hubTLS(identity(f))
	f.Fuzz(func(t *testing.T, said []byte) {
		v := &Visitor{Conn: &tape{rest: bytes.NewReader(said)}}
		_, _, first, err := peek(context.Background(), v, agents)
		switch {
		case err == nil:
			t.Fatal("an agent has come who never heard what the hub said")
		case errors.Is(err, errOther):
			if len(first.ServerName) > maxHead+1 || !first.TLS && len(first.Protocols) > 0 {
				t.Fatalf("%+v", first)
			}
			got, err := io.ReadAll(v)
			if err != nil || !bytes.Equal(got, said) {
				t.Fatalf("%q was said, and is read as %q, %v (%+v)", said, got, err, first)
			}
		case len(v.seen) > maxHello:
			t.Fatalf("%d bytes are kept", len(v.seen))
		}
	})
}

// teller has a client say its first words.
type teller struct {
	net.Conn
	out *bytes.Buffer
}

func (t *teller) Write(p []byte) (int, error)      { return t.out.Write(p) }
func (t *teller) Read([]byte) (int, error)         { return 0, io.EOF }
func (t *teller) Close() error                     { return nil }
func (t *teller) SetDeadline(time.Time) error      { return nil }
func (t *teller) SetWriteDeadline(time.Time) error { return nil }

// FuzzUpgrade: what is said to the WebSocket endpoint makes no link, and leaves nothing behind.
func FuzzUpgrade(f *testing.F) {
	f.Add("GET", "Upgrade", "websocket", "13", "AAAAAAAAAAAAAAAAAAAAAA==", ALPN, "")
	f.Add("POST", "keep-alive, Upgrade", "h2c", "8", "", "", "https://evil.example")
	f.Fuzz(func(t *testing.T, method, connection, upgrade, version, key, protocol, origin string) {
		l := NewListener(ListenOptions{Identity: identity(t)})
		r := httptest.NewRequest(http.MethodGet, WellKnown, nil)
		r.Method = method
		for name, value := range map[string]string{"Connection": connection, "Upgrade": upgrade, "Sec-WebSocket-Version": version,
			"Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": protocol, "Origin": origin} {
			r.Header.Set(name, value)
		}
		near, far := net.Pipe()
		far.Close()
		defer near.Close()
		w := &hijackable{httptest.NewRecorder(), near}
		l.ServeHTTP(w, r)
		if l.gate.all.n != 0 {
			t.Fatalf("%d are counted", l.gate.all.n)
		}
	})
}

type hijackable struct {
	*httptest.ResponseRecorder
	c net.Conn
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.c, bufio.NewReadWriter(bufio.NewReader(h.c), bufio.NewWriter(h.c)), nil
}
