// Package headtest serves clients with a head on the loopback interface, for the tests of heads. Its Env has no policy but
// what a test says, and dials real sockets.
package headtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
)

// Patience bounds every wait; nothing takes this long unless it hangs.
const Patience = 10 * time.Second

// A Server serves clients with a head until the test ends, and then checks that it left neither goroutines nor descriptors.
type Server struct {
	Head  head.Head
	Users map[string]string                     // who may log in, and with what; nil: nobody has to
	Deny  func(host string, port uint16) bool   // nil: nothing
	Fail  map[string]error                      // what dialling and sending to a host, or a login as a user, fails with
	Hosts map[string]string                     // names, and the address of each
	Local string                                // the address to listen on; "" is 127.0.0.1
	Plain bool                                  // datagrams come by a net.PacketConn that is nothing more
	Ended func(out head.Outcome, failure error) // called when a client was served
	In    atomic.Int64                          // what heads have counted
	Out   atomic.Int64
	Dials atomic.Int64
	// Logins is how often somebody tried to log in.
	Logins atomic.Int64
}

// Start listens and returns the address.
func (s *Server) Start(t testing.TB) string {
	t.Helper()
	if s.Local == "" {
		s.Local = "127.0.0.1"
	}
	warm(t)
	goroutines, files := runtime.NumGoroutine(), openFiles()
	l, err := net.Listen("tcp", net.JoinHostPort(s.Local, "0"))
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { s.serve(ctx, client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		running.Wait()
		Eventually(t, "goroutines and descriptors to go", func() bool {
			runtime.GC()
			return runtime.NumGoroutine() <= goroutines+1 && openFiles() <= files
		})
	})
	return l.Addr().String()
}

// warm opens a socket, since the first one of a process opens the runtime's poller, which stays.
func warm(t testing.TB) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func (s *Server) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(Patience))
	out, err := s.Head.Serve(ctx, client, &env{s, client})
	if s.Ended != nil {
		s.Ended(out, err)
	}
	if err != nil || out.Target == nil {
		return
	}
	defer out.Target.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); out.Target.Close() })
	defer stop()
	_, _ = out.Target.Write(out.Ahead)
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{client, out.Target}, {out.Target, client}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].(interface{ CloseWrite() error }).CloseWrite()
		})
	}
	both.Wait()
}

type env struct {
	*Server
	client net.Conn
}

func (e *env) NeedsLogin() bool { return e.Users != nil }

func (e *env) Login(_ context.Context, user, password string) error {
	e.Logins.Add(1)
	if err := e.Fail[user]; err != nil {
		return err
	}
	if want, known := e.Users[user]; !known || password != want {
		return fmt.Errorf("user %q: %w", user, head.ErrLogin)
	}
	return nil
}

func (e *env) resolve(host string, port uint16) (string, error) {
	switch {
	case e.Fail[host] != nil:
		return "", e.Fail[host]
	case e.Deny != nil && e.Deny(host, port):
		return "", head.ErrDenied
	}
	if addr := e.Hosts[host]; addr != "" {
		host = addr
	}
	return net.JoinHostPort(host, fmt.Sprint(port)), nil
}

func (e *env) Dial(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	e.Settled()
	e.Dials.Add(1)
	addr, err := e.resolve(host, port)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (e *env) Listen(_ context.Context, host string, port uint16) (net.Listener, error) {
	e.Settled()
	if _, err := e.resolve(host, port); err != nil {
		return nil, err
	}
	return net.Listen("tcp", net.JoinHostPort(e.Local, "0"))
}

func (e *env) ListenPacket(context.Context) (net.PacketConn, error) {
	e.Settled()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(e.Local, "0"))
	if err == nil && e.Plain {
		return struct{ net.PacketConn }{conn}, nil
	}
	return conn, err
}

func (e *env) Packets(context.Context) (head.PacketTarget, error) {
	conn, err := net.ListenPacket("udp", ":0")
	return &packets{env: e, PacketConn: conn}, err
}

func (e *env) Settled() { _ = e.client.SetDeadline(time.Time{}) }

func (e *env) Count(in, out int) {
	e.In.Add(int64(in))
	e.Out.Add(int64(out))
}

type packets struct {
	*env
	net.PacketConn
}

func (p *packets) Send(_ context.Context, payload []byte, host string, port uint16) error {
	addr, err := p.resolve(host, port)
	if err != nil {
		return err
	}
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	_, err = p.WriteTo(payload, to)
	return err
}

func (p *packets) Receive(buffer []byte) (int, net.Addr, error) { return p.ReadFrom(buffer) }

// Echo serves TCP on the loopback interface: what is sent comes back, and so does the end of it. It returns the address.
func Echo(t testing.TB, ip string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Skip(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { defer c.Close(); _, _ = io.Copy(c, c) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

// EchoPackets serves UDP likewise.
func EchoPackets(t testing.TB, ip string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Skip(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().String()
}

// Run runs a program and returns what it wrote. The test is skipped without the program, or fails where nothing may be
// skipped.
func Run(t testing.TB, stdin io.Reader, extra []string, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Env = stdin, append(os.Environ(), extra...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Eventually waits until ok.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	buf := make([]byte, 1<<16)
	t.Fatalf("waited in vain for %s\n%s", what, buf[:runtime.Stack(buf, true)])
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // not Linux
	}
	return len(entries)
}
