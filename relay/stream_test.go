package relay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

func TestPairsOfSockets(t *testing.T) {
	dir := t.TempDir()
	tcp := serve(t, "tcp", "127.0.0.1:0", echo).String()
	v6 := serve(t, "tcp", "[::1]:0", echo).String()
	unix := "unix:" + serve(t, "unix", filepath.Join(dir, "target"), echo).String()
	_, tcpPort, _ := net.SplitHostPort(tcp)
	_, v6Port, _ := net.SplitHostPort(v6)
	for _, c := range []struct{ name, listen, to, network, dial string }{
		{"tcp to tcp", "127.0.0.1:PORT", tcp, "tcp", "127.0.0.1:PORT"},
		{"every address, by IPv4", "PORT", tcp, "tcp", "127.0.0.1:PORT"},
		{"every address, by IPv6", "PORT", tcp, "tcp", "[::1]:PORT"},
		{"IPv6 to IPv6", "[::1]:PORT", v6, "tcp", "[::1]:PORT"},
		{"to a name", "PORT", "localhost:" + tcpPort, "tcp", "127.0.0.1:PORT"},
		{"to a port of this host", "PORT", ":" + tcpPort, "tcp", "127.0.0.1:PORT"},
		{"the same from the other family", "PORT", ":" + v6Port, "tcp", "127.0.0.1:PORT"},
		{"tcp to unix", "PORT", unix, "tcp", "127.0.0.1:PORT"},
		{"unix to tcp", "unix:" + filepath.Join(dir, "a"), tcp, "unix", filepath.Join(dir, "a")},
		{"unix to unix", "unix:" + filepath.Join(dir, "b"), unix, "unix", filepath.Join(dir, "b")},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := freePort(t)
			r := startRelay(t)
			apply(t, r, fwd(t, "x", strings.ReplaceAll(c.listen, "PORT", port), c.to))
			conn := dial(t, c.network, strings.ReplaceAll(c.dial, "PORT", port))
			ask(t, conn, "hello")
			const size = 3 << 20 // more than the buffers on the way hold, and enough to splice
			sendAndCheck(t, conn, size)
			conn.Close()
			eventually(t, "the session to end", func() bool { return r.Stats()["x"].Open == 0 })
			if s := r.Stats()["x"]; s.Total != 1 || s.BytesIn != size+5 || s.BytesOut != size+5 {
				t.Errorf("stats are %+v; want 1 session with %d bytes each way", s, size+5)
			}
		})
	}
}

// sendAndCheck sends random bytes through an echo in odd pieces, ends that direction, and compares what comes back.
func sendAndCheck(t *testing.T, c net.Conn, size int) {
	t.Helper()
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(1+int(random.Uint64()%70000), len(rest))
			if _, err := c.Write(rest[:n]); err != nil {
				t.Error(err)
				return
			}
			rest = rest[n:]
		}
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	h := sha256.New()
	if n, err := io.Copy(h, c); err != nil || n != int64(size) {
		t.Fatalf("got %d bytes back, %v; want %d", n, err, size)
	}
	if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
		t.Fatal("the bytes were changed on the way")
	}
}

// TestHalfClose ends the directions in both orders; the other one goes on for as long as it likes.
func TestHalfClose(t *testing.T) {
	t.Run("client first", func(t *testing.T) {
		target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			got, err := io.ReadAll(c) // returns at the client's FIN only
			if err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(c, strings.Repeat(string(got), 1000))
		})
		port := freePort(t)
		apply(t, startRelay(t), fwd(t, "x", port, target.String()))
		c := dial(t, "tcp", "127.0.0.1:"+port)
		_, _ = io.WriteString(c, "question")
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := readAll(t, c); err != nil || len(got) != 8000 {
			t.Errorf("got %d bytes, %v; want 8000 after the half-close", len(got), err)
		}
	})
	t.Run("target first", func(t *testing.T) {
		heard := make(chan string, 1)
		target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.WriteString(c, "banner")
			_ = c.(*net.TCPConn).CloseWrite()
			got, _ := io.ReadAll(c)
			heard <- string(got)
		})
		port := freePort(t)
		apply(t, startRelay(t), fwd(t, "x", port, target.String()))
		c := dial(t, "tcp", "127.0.0.1:"+port)
		if got, err := readAll(t, c); err != nil || got != "banner" {
			t.Fatalf("got %q, %v", got, err)
		}
		for range 100 { // 1-byte writes against a half-closed target
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if got := <-heard; got != strings.Repeat("x", 100) {
			t.Errorf("the target got %q after it had ended its own direction", got)
		}
	})
}

func TestResetIsPassedOn(t *testing.T) {
	t.Run("from the client", func(t *testing.T) {
		ended := make(chan error, 1)
		target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, err := io.Copy(io.Discard, c)
			ended <- err
		})
		port := freePort(t)
		r := startRelay(t)
		apply(t, r, fwd(t, "x", port, target.String()))
		c := dial(t, "tcp", "127.0.0.1:"+port)
		_, _ = io.WriteString(c, "hello")
		eventually(t, "the session", func() bool { return r.Stats()["x"].BytesIn == 5 })
		reset(c)
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the target saw %v, want a reset", err)
		}
		eventually(t, "the session to end", func() bool { return r.Stats()["x"].Open == 0 })
	})
	t.Run("from the target, after an answer", func(t *testing.T) {
		// What a server does that refuses an upload: answer, and close with the rest of the upload unread.
		target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 1000))
			_, _ = io.WriteString(c, "413")
		})
		port := freePort(t)
		r := startRelay(t)
		apply(t, r, fwd(t, "x", port, target.String()))
		c := dial(t, "tcp", "127.0.0.1:"+port)
		go func() {
			for {
				if _, err := c.Write(make([]byte, 10000)); err != nil {
					return
				}
			}
		}()
		got := make([]byte, 3)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "413" {
			t.Errorf("got %q, %v; the answer was lost", got, err)
		}
		eventually(t, "the session to end", func() bool { return r.Stats()["x"].Open == 0 })
	})
}

func TestUnreachableTarget(t *testing.T) {
	port, dead := freePort(t), freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "x", port, "127.0.0.1:"+dead))
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err == nil { // the reset may be quicker than the dial
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client saw %v, want a reset", err)
	}
	refusedBecomes(t, r, "x", 1)
	s := r.Stats()["x"]
	if want := "target 127.0.0.1:" + dead + ": connection refused"; s.Note != want || s.Total != 0 || s.Open != 0 {
		t.Errorf("stats are %+v; want the note %q", s, want)
	}
	serve(t, "tcp", "127.0.0.1:"+dead, echo)
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
	if s := r.Stats()["x"]; s.Note != "" || s.Total != 1 {
		t.Errorf("stats are %+v; want the note gone", s)
	}
}

func TestFailover(t *testing.T) {
	port, dead := freePort(t), freePort(t)
	alive := serve(t, "tcp", "127.0.0.1:0", say("second")).String()
	r := startRelay(t)
	apply(t, r, fwd(t, "x", port, "127.0.0.1:"+dead, alive))
	if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "second" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if s := r.Stats()["x"]; s.Refused != 0 || !strings.HasPrefix(s.Note, "1 of 2 targets: 127.0.0.1:"+dead+" is failing: connection refused (since ") {
		t.Errorf("stats are %+v", s)
	}
}

func TestRangeAndShift(t *testing.T) {
	base := 0
	for base == 0 { // two neighbouring ports that are free
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := l.Addr().(*net.TCPAddr).Port
		if m, err := net.Listen("tcp", "127.0.0.1:"+itoa(p+1)); err == nil {
			m.Close()
			base = p
		}
		l.Close()
	}
	serve(t, "tcp", "127.0.0.1:"+itoa(base), say("first"))
	serve(t, "tcp", "127.0.0.1:"+itoa(base+1), say("second"))
	apply(t, startRelay(t), fwd(t, "x", "127.0.0.2:47110-47111", "127.0.0.1:"+itoa(base)+"-"+itoa(base+1)))
	for port, want := range map[string]string{"47110": "first", "47111": "second"} {
		if got, _ := readAll(t, dial(t, "tcp", "127.0.0.2:"+port)); got != want {
			t.Errorf("port %s leads to %q, want %q", port, got, want)
		}
	}
}

func TestLiveBytes(t *testing.T) {
	hold := make(chan struct{})
	target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		_, _ = io.CopyN(io.Discard, c, 1<<20)
		<-hold
		_, _ = io.Copy(io.Discard, c)
	})
	port := freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "x", port, target.String()))
	c := dial(t, "tcp", "127.0.0.1:"+port)
	const size = 1<<20 + 1000
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes of the open session", func() bool { return r.Stats()["x"].BytesIn == size })
	if list := sessionsOf(r); len(list) != 1 || list[0].BytesIn != size || list[0].Carried != forward.CarryRelay {
		t.Errorf("sessions are %+v", list)
	}
	close(hold)
	c.Close()
	eventually(t, "the session to end", func() bool { return r.Stats()["x"].Open == 0 })
	if s := r.Stats()["x"]; s.BytesIn != size {
		t.Errorf("%d bytes in after the end, want %d", s.BytesIn, size)
	}
}

// TestTotalsNeverGoBack looks at the totals all the while sessions come and go, some of them abruptly.
func TestTotalsNeverGoBack(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo)
	port := freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "x", port, target.String()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 30 {
			c, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err != nil {
				t.Error(err)
				return
			}
			go func() { _, _ = c.Write(make([]byte, 400<<10)) }()
			if _, err := io.CopyN(io.Discard, c, 200<<10); err != nil {
				t.Error(err)
			}
			reset(c)
		}
	}()
	var last forward.Stats
	for ended := false; !ended || last.Open > 0; {
		select {
		case <-done:
			ended = true
		default:
		}
		s := r.Stats()["x"]
		if s.BytesIn < last.BytesIn || s.BytesOut < last.BytesOut || s.Total < last.Total {
			t.Fatalf("totals went back from %+v to %+v", last, s)
		}
		last = s
		time.Sleep(time.Millisecond) // leaves the processors to those it watches
	}
	if last.Total != 30 || last.BytesOut < 30*200<<10 {
		t.Errorf("the totals are %+v", last)
	}
}

func TestKill(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo)
	port := freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "x", port, target.String()))
	a, b := dial(t, "tcp", "127.0.0.1:"+port), dial(t, "tcp", "127.0.0.1:"+port)
	ask(t, a, "a")
	ask(t, b, "b")
	for _, s := range sessionsOf(r) {
		if s.Client != a.LocalAddr().String() {
			continue
		}
		if s.Target != target.String() || s.Forward != "x" || s.Network != forward.TCP || time.Since(s.Since) < 0 {
			t.Errorf("the session is %+v", s)
		}
		if err := r.Kill(s.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("the killed session goes on")
	}
	ask(t, b, "still here")
	for _, id := range []string{"", "r", "r0", "r01", "k1", "r99999999999999999999"} {
		if err := r.Kill(id); !errors.Is(err, ErrNoSession) {
			t.Errorf("Kill(%q) is %v", id, err)
		}
	}
}
