package link

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

func identity(t testing.TB) *Identity {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIdentity(private)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// A bench is a hub's listener on the loopback interface.
type bench struct {
	*Listener
	addr string
	stop func()
}

// hub starts a listener. change, if any, has the last word on its options.
func hub(t testing.TB, change func(*ListenOptions)) *bench {
	t.Helper()
	tcp, udp := sockets(t)
	o := ListenOptions{Identity: identity(t), TCP: []net.Listener{tcp}, UDP: []net.PacketConn{udp}, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	if change != nil {
		change(&o)
	}
	l := NewListener(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	b := &bench{Listener: l, addr: tcp.Addr().String()}
	done := false
	b.stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		udp.Close()
	}
	t.Cleanup(b.stop)
	return b
}

// sockets are a TCP and a UDP socket of one port.
func sockets(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for TCP and UDP")
	return nil, nil
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// dialer is an agent's for a hub.
func dialer(t testing.TB, b *bench, change func(*DialOptions)) *Dialer {
	t.Helper()
	o := DialOptions{Identity: identity(t), Hub: []string{b.addr}, Key: b.Identity.Key(), Proxy: NoProxy}
	if change != nil {
		change(&o)
	}
	d, err := NewDialer(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pair is both ends of a link.
func pair(t testing.TB, transport string) (agent, hubEnd tunnel.Link) {
	t.Helper()
	b := hub(t, nil)
	d := dialer(t, b, func(o *DialOptions) { o.Transports = []string{transport} })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	agent, err := d.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hubEnd, err = b.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		agent.Close()
		hubEnd.Close()
	})
	if hubEnd.Peer() != d.Identity.Key() || agent.Peer() != b.Identity.Key() {
		t.Fatal("the ends do not know each other's keys")
	}
	return agent, hubEnd
}

// lanes opens a lane and has it accepted, which takes a byte.
func lanes(t testing.TB, from, to tunnel.Link) (a, b tunnel.Lane) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := from.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	say(t, a, "!")
	b, err = to.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hear(t, b, "!")
	return a, b
}

func say(t testing.TB, l tunnel.Lane, text string) {
	t.Helper()
	if _, err := io.WriteString(l, text); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
}

func hear(t testing.TB, l tunnel.Lane, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(l, b); err != nil || string(b) != text {
		t.Fatalf("heard %q, %v; want %q", b, err, text)
	}
}

// leaks fails the test if, at its end, there are more goroutines or descriptors than now.
func leaks(t testing.TB) {
	t.Helper()
	routines, files := runtime.NumGoroutine(), descriptors(t)
	t.Cleanup(func() {
		var r, f int
		for range 200 {
			if r, f = runtime.NumGoroutine(), descriptors(t); r <= routines && f <= files {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines and %d descriptors, and there were %d and %d\n%s", r, f, routines, files, buf[:runtime.Stack(buf, true)])
	})
}

func descriptors(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
