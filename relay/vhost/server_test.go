package vhost

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzRequests sends whatever to a server in front of two sites: no target ever sees a request for the other, nor a header about the
// client that the client made up, and the server lets go of the client.
func FuzzRequests(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\n\r\n",
		"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n1\r\nx\r\n0\r\nX-Forwarded-For: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: A.example.:80\r\nX_Forwarded_For: 1\r\nConnection: X-Forwarded-For\r\nForwarded: for=1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example\r\nCookie: x=1; __Host-fairlead=y\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	server := serveFor(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		front := &testFront{t: t, sites: map[string]*Site{"a.example": Plain(), "b.example": Plain()}}
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			server.ServeHTTPConn(far, Opening{Protocol: HTTP}, front)
		}()
		go func() {
			_, _ = near.Write(said)
			time.Sleep(time.Millisecond)
			_ = near.Close()
		}()
		_, _ = io.Copy(io.Discard, near)
		<-done
	})
}

// TestSlow has clients that take their time: each is gone when that is over, and has cost no more than its bound.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		began := time.Now()
		var slow sync.WaitGroup
		slow.Go(func() {
			for i := 0; ; i++ {
				if _, err := near.Write([]byte{"\x16\x03\x01\x20\x00\x01\x00\x1f\xfc\x03\x03"[min(i, 10)]}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		if _, err := Open(far); err == nil {
			t.Error("a hello without end was read")
		}
		if took := time.Since(began); took != openingTime {
			t.Errorf("it took %s", took)
		}
		near.Close()
		far.Close()
		slow.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		server := NewServer()
		go server.Run()
		near, far := net.Pipe()
		go io.Copy(io.Discard, near)
		var slow sync.WaitGroup
		slow.Go(func() {
			for _, c := range []byte("GET / HTTP/1.1\r\nHost: a.example\r\nX: " + strings.Repeat("x", 1000)) {
				if _, err := near.Write([]byte{c}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		began := time.Now()
		server.ServeHTTPConn(far, Opening{Protocol: HTTP}, &testFront{t: t, sites: map[string]*Site{"a.example": Plain()}})
		if took := time.Since(began); took > headerWait+time.Second {
			t.Errorf("the headers of a request took %s", took)
		}
		near.Close()
		server.Close()
		slow.Wait()
		synctest.Wait()
	})
}

// TestBodies waits with a body until it may come, after a part of the request was read before.
func TestBodies(t *testing.T) {
	server := serveFor(t)
	front := &testFront{t: t, sites: map[string]*Site{"a.example": Plain()}}
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.ServeHTTPConn(far, Opening{Protocol: HTTP, Said: []byte("POST /1 HT")}, front)
	}()
	r := bufio.NewReader(near)
	for _, text := range []string{
		"TP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
		"GET /2 HTTP/1.1\r\nHost: a.example\r\n\r\n",
	} {
		if _, err := near.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for {
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode == http.StatusContinue {
				_, _ = near.Write([]byte("abc"))
				continue
			}
			if res.StatusCode != 200 || !bytes.Equal(body, []byte("a.example")) {
				t.Errorf("%d %s", res.StatusCode, body)
			}
			break
		}
	}
	near.Close()
	<-done
	if len(front.asked) != 2 {
		t.Errorf("%q", front.asked)
	}
}

// TestTrailers has headers behind the body: those that only this program may say do not come through, announced or not.
func TestTrailers(t *testing.T) {
	server := serveFor(t)
	front := &testFront{t: t, sites: map[string]*Site{"a.example": Plain()}}
	near, far := net.Pipe()
	done := make(chan struct{})
	said := "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Forwarded-User, X_Forwarded_For\r\n\r\n" +
		"1\r\nx\r\n0\r\nX-Sum: 7\r\nX-Forwarded-User: root\r\nX_Forwarded_For: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.9\r\n\r\n"
	go func() {
		defer close(done)
		server.ServeHTTPConn(far, Opening{Protocol: HTTP, Said: []byte(said)}, front)
	}()
	res, err := http.ReadResponse(bufio.NewReader(near), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("X-Trailer") != "7" {
		t.Errorf("%s, and of what may come through there was %q", res.Status, res.Header.Get("X-Trailer"))
	}
	near.Close()
	<-done
}

// TestUpgrades asks for other protocols. Those that are HTTP again would have requests go by that nobody looks at.
func TestUpgrades(t *testing.T) {
	for _, c := range []struct{ asked, wants string }{
		{"Connection: Upgrade\r\nUpgrade: websocket\r\n", "websocket|Upgrade|"},
		{"Connection: Upgrade\r\nUpgrade: tcp\r\n", "tcp|Upgrade|"},
		{"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n", "||"},
		{"Connection: Upgrade\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n", "||"},
		{"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", "||"},
		{"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", "websocket|Upgrade|"},
		{"Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n", "||"},
		{"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n", "||"},
	} {
		server := serveFor(t)
		front := &testFront{t: t, sites: map[string]*Site{"a.example": Plain()}}
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			server.ServeHTTPConn(far, Opening{Protocol: HTTP, Said: []byte("GET / HTTP/1.1\r\nHost: a.example\r\n" + c.asked + "\r\n")}, front)
		}()
		res, err := http.ReadResponse(bufio.NewReader(near), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Get("X-Upgrade"); res.StatusCode != http.StatusOK || got != c.wants {
			t.Errorf("%q: %d, the target was asked for %q and not %q", c.asked, res.StatusCode, got, c.wants)
		}
		near.Close()
		<-done
	}
}
