package relay

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// TestNamesHandover has TLS that passes through go on in the next process, and a new client find its name there.
func TestNamesHandover(t *testing.T) {
	site, pool := certificate(t, "a.example")
	pair, err := tls.LoadX509KeyPair(site.Cert, site.Key)
	if err != nil {
		t.Fatal(err)
	}
	target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
		io.Copy(server, server)
	}).String()
	port := freePort(t)
	f := named(t, "a", port, target, forward.Site{}, "a.example")
	call := func() *tls.Conn {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: "a.example", RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	echoes := func(conn *tls.Conn, text string) {
		t.Helper()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, len(text))
		if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != text {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	first := newLife(t, nil, f)
	stays := call()
	echoes(stays, "before")
	eventually(t, "the engine to have it", func() bool { return first.slow.Load() == 0 })
	left := first.leave(t)
	if len(left.Sessions) != 1 || left.Sessions[0].Host != "a.example" {
		t.Fatalf("%+v", left.Sessions)
	}
	second := newLife(t, left, f)
	echoes(stays, "after")
	echoes(call(), "anew")
	if s := second.Stats()["a"]; s.Open != 2 {
		t.Errorf("%+v", s)
	}
	// The name leads elsewhere now: whoever called it has to call again.
	apply(t, second.Relay, named(t, "a", port, target, forward.Site{}, "b.example"))
	if _, err := stays.Read(make([]byte, 1)); err == nil {
		t.Error("a session goes on whose name the forward has lost")
	}
	second.end()
	<-second.done
}
