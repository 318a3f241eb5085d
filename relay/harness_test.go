package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/testport"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// patience bounds every wait of the tests; nothing takes this long unless it hangs.
const patience = 10 * time.Second

// startRelay runs a relay on this host until the test ends, and then checks that it left neither goroutine nor descriptor.
func startRelay(t *testing.T) *Relay {
	t.Helper()
	return startRelayOn(t, host.New())
}

// startPortable runs one as other systems than Linux have it.
func startPortable(t *testing.T) *Relay {
	t.Helper()
	return start(t, host.New(), Options{Portable: true})
}

func startRelayOn(t *testing.T, n node.Node) *Relay {
	t.Helper()
	return start(t, n, Options{})
}

func start(t *testing.T, n node.Node, o Options) *Relay {
	t.Helper()
	freePort(t) // the first socket of a process opens the runtime's poller, which stays
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	if o.Nodes == nil {
		o.Nodes = func(name string) (node.Node, error) {
			if name != forward.Host {
				return nil, errors.New("not known")
			}
			return n, nil
		}
	}
	r := New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("Run did not return")
		}
		eventually(t, "goroutines and descriptors to go", func() bool {
			runtime.GC()
			return runtime.NumGoroutine() <= goroutines+1 && openFiles(t) <= files
		})
	})
	return r
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not Linux
	}
	return len(entries)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	buf := make([]byte, 1<<16)
	t.Fatalf("waited in vain for %s\n%s", what, buf[:runtime.Stack(buf, true)])
}

// fwd builds a forward as the configuration would.
func fwd(t *testing.T, name, listen string, to ...string) *forward.Forward {
	t.Helper()
	l, err := forward.ParseListen(listen)
	if err != nil {
		t.Fatal(err)
	}
	f := &forward.Forward{Name: name, Origin: forward.OriginFile, Listen: l}
	for _, s := range to {
		target, err := forward.ParseTarget(s)
		if err != nil {
			t.Fatal(err)
		}
		f.To = append(f.To, target)
	}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	return f
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// apply applies and fails the test on any error.
func apply(t *testing.T, r *Relay, want ...*forward.Forward) {
	t.Helper()
	for name, err := range r.Apply(t.Context(), forward.ListOf(want...)) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// freePort finds a port that is free for both protocols on every address.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := testport.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// serve accepts on network and addr and hands every connection to handle, which need not close it.
func serve(t *testing.T, network, addr string, handle func(net.Conn)) net.Addr {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				handle(c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr()
}

// plain keeps package net from splicing, whose pipes stay open for as long as the collector leaves them.
func plain(c net.Conn) io.ReadWriter { return struct{ io.ReadWriter }{c} }

func echo(c net.Conn) {
	_, _ = io.Copy(plain(c), plain(c))
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// say answers every connection with text and ends it.
func say(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// dialFrom connects from one of this host's loopback addresses.
func dialFrom(t *testing.T, local, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// ask sends text and expects it back on the open connection.
func ask(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

// readAll reads to the end, whatever that end is.
func readAll(t *testing.T, c net.Conn) (string, error) {
	t.Helper()
	var b bytes.Buffer
	_, err := io.Copy(&b, c)
	return b.String(), err
}

func refusedBecomes(t *testing.T, r *Relay, name string, n uint64) {
	t.Helper()
	eventually(t, "refused to be counted", func() bool { return r.Stats()[name].Refused == n })
}

func itoa(n int) string { return strconv.Itoa(n) }

// sessionsOf is the sessions of r.
func sessionsOf(r *Relay) []forward.Session {
	list, _ := r.Sessions() // they are in memory
	return list
}
