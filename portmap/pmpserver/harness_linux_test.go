package pmpserver

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/testport"
	"github.com/fairlead-net/fairlead/portmap"
)

// patience is how long a test waits for what must come; silence is how long for what must not.
const (
	patience = 20 * time.Second
	silence  = 150 * time.Millisecond
)

var both = []portmap.Protocol{portmap.NATPMP, portmap.PCP}

// loopback is the place of tests that need no namespace.
func loopback(t testing.TB) portmap.Place {
	t.Helper()
	i, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err) // every Linux has it
	}
	return portmap.Place{Interface: *i, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}}
}

// freePort is one that nobody has: 5351 may be a true server's of this machine.
func freePort(t testing.TB) uint16 {
	t.Helper()
	text, err := testport.Free()
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}

// running starts a server on the loopback interface, on a port that is returned, and stops it at the end. Nothing of it may be left.
func running(t testing.TB, o Options) (*Server, uint16) {
	t.Helper()
	if o.Port == 0 {
		o.Port = freePort(t)
	}
	if o.Places == nil {
		lo := loopback(t)
		o.Places = func() []portmap.Place { return []portmap.Place{lo} }
	}
	if o.Spec.Protocols == nil {
		o.Spec.Protocols = both
	}
	s := New(o)
	start(t, s, func(run func() error) error { return run() })
	return s, o.Port
}

// start runs s by means of in, until the end of the test.
func start(t testing.TB, s *Server, in func(func() error) error) (stop func()) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in(func() error { return s.Run(ctx) }) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run has not returned")
		}
		for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines || openFiles(t) > files; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("%d goroutines and %d files, there were %d and %d", runtime.NumGoroutine(), openFiles(t), goroutines, files)
				return
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// A host is a client's socket.
type host struct {
	t    testing.TB
	conn net.Conn
}

func dial(t testing.TB, network, from, to string, port uint16) host {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial(network, net.JoinHostPort(to, strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.(*net.UDPConn).SetReadBuffer(1 << 20)
	return host{t, conn}
}

// send does so without waiting for an answer.
func (h host) send(message []byte) {
	h.t.Helper()
	if _, err := h.conn.Write(message); err != nil && !refused(err) {
		h.t.Fatal(err)
	}
}

// ask sends until there is an answer: the server may be about to start.
func (h host) ask(message []byte) []byte {
	h.t.Helper()
	b := make([]byte, 2000)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		h.send(message)
		_ = h.conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := h.conn.Read(b)
		if err == nil {
			return b[:n]
		}
		if refused(err) {
			time.Sleep(time.Millisecond)
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			h.t.Fatal(err)
		}
	}
	h.t.Fatalf("no answer to %x", message)
	return nil
}

// receive is the next answer, nil for none.
func (h host) receive(wait time.Duration) []byte {
	b := make([]byte, 2000)
	_ = h.conn.SetReadDeadline(time.Now().Add(wait))
	n, err := h.conn.Read(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

// refused reports whether nobody listened yet.
func refused(err error) bool { return strings.Contains(err.Error(), "connection refused") }

// octets reads hexadecimal with blanks in it.
func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never was that %s", what)
		}
	}
}
