package sshnode

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// A proxy carries TCP until it is told to carry nothing more, without closing anything: what a cut cable looks like.
type proxy struct {
	net.Listener
	to   string
	mute atomic.Bool
	mu   sync.Mutex
	all  []net.Conn
}

func startTestProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to}
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.all {
			_ = c.Close()
		}
	})
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", p.to)
			if err != nil {
				_ = a.Close()
				continue
			}
			p.mu.Lock()
			p.all = append(p.all, a, b)
			p.mu.Unlock()
			cut := p.mute.Load
			if p.mute.Load() {
				// Connections that came after the cut are carried: the way is a new one.
				cut = func() bool { return false }
			}
			go carry(a, b, cut)
			go carry(b, a, cut)
		}
	}()
	return p
}

func carry(to, from net.Conn, cut func() bool) {
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		switch {
		case err != nil && cut():
			return // and nothing is closed
		case err != nil:
			_ = to.Close()
			return
		case cut():
			continue
		}
		_, _ = to.Write(buf[:k])
	}
}

func TestCutSilently(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, o Options) {
		s := startSSHD(t)
		p := startTestProxy(t, s.addr)
		spec := s.spec()
		spec.Target = "root@" + p.Addr().String()
		spec.Keepalive = 300 * time.Millisecond
		_, port, _ := net.SplitHostPort(p.Addr().String())
		s.write("known_hosts", "[127.0.0.1]:"+port+" "+s.read("host_ed25519.pub"))
		n := runNode(t, spec, o)
		l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		eventually(t, "the server listens", func() bool { return l.(node.Stated).State().Up })
		addr := l.Addr().String()
		open, err := n.Dial(t.Context(), "tcp", echoServer(t, "tcp", "127.0.0.1:0").String())
		if err != nil {
			t.Fatal(err)
		}
		defer open.Close()

		p.mute.Store(true)
		if _, err := io.ReadAll(open); !errors.Is(err, sshchan.ErrLost) {
			t.Errorf("the channel ended with %v, want %v", err, sshchan.ErrLost)
		}
		eventually(t, "there is a new connection", func() bool { return n.State().Up })
		c, err := n.Dial(t.Context(), "tcp", echoServer(t, "tcp", "127.0.0.1:0").String())
		if err != nil {
			t.Fatal(err)
		}
		echoes(t, c, 1<<10)
		_ = c.Close()
		// The old session of sshd still holds the port, and goes when somebody ends it.
		eventually(t, "the listener says that it is refused", func() bool {
			return strings.Contains(l.(node.Stated).State().Why, "refuses")
		})
		p.mu.Lock()
		_ = p.all[1].Close() // towards sshd
		p.mu.Unlock()
		eventually(t, "the server listens again", func() bool { return l.(node.Stated).State().Up })
		if l.Addr().String() != addr {
			t.Errorf("the port is %s now, and was %s", l.Addr(), addr)
		}
		acceptsFrom(t, l, addr)
	})
}

// acceptsFrom connects to addr on this host and wants that connection from l.
func acceptsFrom(t *testing.T, l net.Listener, addr string) {
	t.Helper()
	d, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != d.LocalAddr().String() {
		t.Errorf("RemoteAddr is %s, want %s", c.RemoteAddr(), d.LocalAddr())
	}
	go func() { _, _ = io.Copy(c, c); _ = c.(interface{ CloseWrite() error }).CloseWrite() }()
	echoes(t, d, 1<<20)
}

func TestRestartedServer(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	n := runNode(t, s.spec(), Options{})
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sock := filepath.Join(s.dir, "listening")
	u, err := n.Listen(t.Context(), "unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	bound := <-l.(*listener).Bound()
	echo := echoServer(t, "tcp", "127.0.0.1:0").String()
	open, err := n.Dial(t.Context(), "tcp", echo)
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	if _, err := io.ReadAll(open); err == nil {
		t.Error("a channel of a server that was killed ended as if it had been closed")
	}
	_ = open.Close()
	eventually(t, "the node is away", func() bool { return !n.State().Up })
	eventually(t, "so is the listener, and says why", func() bool { st := l.(node.Stated).State(); return !st.Up && st.Why != "" })
	_ = os.Remove(sock) // what a killed sshd leaves behind
	waited := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := n.Dial(ctx, "tcp", echo)
		if err == nil {
			_ = c.Close()
		}
		waited <- err
	}()
	s.start()
	if err := <-waited; err != nil {
		t.Errorf("a dial that waited failed: %v", err)
	}
	eventually(t, "the listeners are back", func() bool {
		return l.(node.Stated).State().Up && u.(node.Stated).State().Up
	})
	if l.Addr().String() != bound.String() {
		t.Errorf("the port is %s now, and was %s", l.Addr(), bound)
	}
	acceptsFrom(t, l, bound.String())
}

func TestConnectionsAreSpread(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	spec := s.spec()
	spec.Connections = 3
	n := runNode(t, spec, Options{})
	eventually(t, "there are three connections", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.links) == 3
	})
	echo := echoServer(t, "tcp", "127.0.0.1:0").String()
	var all []net.Conn
	for range 9 {
		c, err := n.Dial(t.Context(), "tcp", echo)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	n.mu.Lock()
	links := append([]*link{}, n.links...)
	n.mu.Unlock()
	for _, l := range links {
		if k := l.channels.Load(); k != 3 {
			t.Errorf("a connection has %d channels, want 3", k)
		}
	}
	links[0].kill(errors.New("a test"))
	broken := 0
	<-links[0].done
	for _, c := range all {
		_, err := c.Write([]byte("x"))
		if err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		switch {
		case errors.Is(err, sshchan.ErrLost):
			broken++
		case err != nil:
			t.Error(err)
		}
		_ = c.Close()
	}
	if broken != 3 {
		t.Errorf("%d channels ended, want 3", broken)
	}
}

func TestRunLeavesNothing(t *testing.T) {
	s := startSSHD(t)
	before := runtime.NumGoroutine()
	for range 3 {
		n, err := New(node.Spec{Name: "far", SSH: s.spec()}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		l, err := n.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		<-l.(*listener).Bound()
		c, err := n.Dial(ctx, "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		a, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		_, _ = a.Read(make([]byte, 1))
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := l.Accept(); !errors.Is(err, node.ErrClosed) {
			t.Errorf("Accept after Run: %v, want %v", err, node.ErrClosed)
		}
		if _, err := n.Dial(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, node.ErrClosed) {
			t.Errorf("Dial after Run: %v, want %v", err, node.ErrClosed)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("Read after Run succeeded")
		}
		_, _, _ = c.Close(), a.Close(), l.Close()
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}
