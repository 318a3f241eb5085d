package sshwire

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noLeaks wants as many goroutines and descriptors after the test as before.
func noLeaks(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		eventually(t, "goroutines to end", func() bool { return runtime.NumGoroutine() <= goroutines })
		eventually(t, "descriptors to be closed", func() bool { return openFiles(t) <= files })
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// runConn runs a connection until the test ends.
func runConn(t testing.TB, c *Conn, o Options) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(context.Background(), o)
	}()
	t.Cleanup(func() {
		c.Close()
		<-ended
	})
}

// startServer serves clients on a free port until the test ends.
func startServer(t testing.TB, config *ServerConfig, o Options) (port string, conns chan *Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	conns = make(chan *Conn, 16)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		running := make(chan struct{}, 1000)
		n := 0
		for {
			tcp, err := l.Accept()
			if err != nil {
				break
			}
			n++
			go func() {
				defer func() { running <- struct{}{} }()
				c, err := Server(tcp.(*net.TCPConn), config)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Logf("login: %v", err)
					}
					tcp.Close()
					return
				}
				select {
				case conns <- c:
				default:
				}
				if err := c.Run(ctx, o); err != nil && ctx.Err() == nil {
					t.Logf("server: %v", err)
				}
			}()
		}
		for range n {
			<-running
		}
	}()
	t.Cleanup(func() {
		l.Close()
		cancel()
		<-ended
	})
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, conns
}

// startClient logs in and runs until the test ends.
func startClient(t testing.TB, port string, config *ClientConfig, o Options) *Conn {
	t.Helper()
	c, err := Client(dialTCP(t, port), config)
	if err != nil {
		t.Fatal(err)
	}
	runConn(t, c, o)
	return c
}

// startEcho is a server that says what it hears, and ends when its client does.
func startEcho(t testing.TB) (addr string) {
	t.Helper()
	return startTarget(t, func(c *net.TCPConn) {
		_, _ = io.Copy(struct{ io.Writer }{c}, c) // splice would leave pipes to the collector
		_ = c.CloseWrite()
	})
}

func startTarget(t testing.TB, serve func(*net.TCPConn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// forwardLocal is ssh -L: sockets that are accepted are carried to the target.
func forwardLocal(t testing.TB, c *Conn, to string, o CarryOptions) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			fd, err := sysTake(s.(*net.TCPConn))
			if err != nil {
				return
			}
			c.OpenChannelCarry("direct-tcpip", directExtra(to), int(fd), o)
		}
	}()
	return l.Addr().String()
}

// exchange sends size random bytes through an echo and wants them back, with half-closes.
func exchangeBytes(t testing.TB, conn io.ReadWriteCloser, size int) error {
	defer conn.Close()
	sent := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		source := rand.NewChaCha8([32]byte{byte(size)})
		buffer := make([]byte, 70_000)
		for left := size; left > 0; {
			n := min(left, 1+rand.IntN(len(buffer)))
			_, _ = source.Read(buffer[:n])
			h.Write(buffer[:n])
			if _, err := conn.Write(buffer[:n]); err != nil {
				t.Logf("write: %v", err)
				break
			}
			left -= n
		}
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
		sent <- [32]byte(h.Sum(nil))
	}()
	h := sha256.New()
	n, err := io.Copy(h, conn)
	if err != nil {
		return err
	}
	if n != int64(size) || [32]byte(h.Sum(nil)) != <-sent {
		return errors.New("other bytes came back")
	}
	return nil
}

func dialEcho(t testing.TB, addr string, size int) {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Error(err)
		return
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if err := exchangeBytes(t, c, size); err != nil {
		t.Errorf("%d bytes: %v", size, err)
	}
}

var sizes = []int{0, 1, 100, 32 << 10, 32<<10 + 1, 300_000, 5 << 20}

// manyEchoes sends all sizes at once.
func manyEchoes(t *testing.T, addr string) {
	t.Helper()
	done := make(chan struct{})
	for _, size := range sizes {
		go func() {
			defer func() { done <- struct{}{} }()
			dialEcho(t, addr, size)
		}()
	}
	for range sizes {
		<-done
	}
}

func TestClientCarriesByOpenSSH(t *testing.T) {
	user := newTestKey(t)
	port := startSSHD(t, user)
	noLeaks(t)
	for name, o := range map[string]Options{"plain": {}, "rekey": {RekeyBytes: 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			c := startClient(t, port, clientConfig(user), o)
			manyEchoes(t, forwardLocal(t, c, startEcho(t), CarryOptions{}))
		})
	}
}

func TestClientWithRekeyingOpenSSH(t *testing.T) {
	user := newTestKey(t)
	port := startSSHD(t, user, "RekeyLimit 1M")
	c := startClient(t, port, clientConfig(user), Options{})
	manyEchoes(t, forwardLocal(t, c, startEcho(t), CarryOptions{}))
}

func TestServerCarriesForOpenSSH(t *testing.T) {
	noLeaks(t)
	user := newTestKey(t)
	echo := startEcho(t)
	for name, args := range map[string][]string{
		"plain": nil, "rekey": {"-o", "RekeyLimit=1M"}, "aes256": {"-c", CipherAES256GCM},
	} {
		t.Run(name, func(t *testing.T) {
			port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect})
			local := freePort(t)
			start(t, program(t, "ssh"), sshArgs(user, port, append(args, "-N", "-L", "127.0.0.1:"+local+":"+echo, "root@127.0.0.1")...)...)
			waitPort(t, local)
			manyEchoes(t, "127.0.0.1:"+local)
		})
	}
}

func TestOwnClientAndServer(t *testing.T) {
	noLeaks(t)
	echo := startEcho(t)
	for name, o := range map[string]Options{"plain": {}, "rekey": {RekeyBytes: 300_000}} {
		t.Run(name, func(t *testing.T) {
			serving := o
			serving.Channel = acceptDirect
			port, _ := startServer(t, serverConfig(newTestKey(t)), serving)
			c := startClient(t, port, clientConfig(newTestKey(t)), o)
			manyEchoes(t, forwardLocal(t, c, echo, CarryOptions{}))
			t.Run("stream", func(t *testing.T) {
				for _, size := range sizes {
					ch, err := c.OpenChannel(context.Background(), "direct-tcpip", directExtra(echo), nil)
					if err != nil {
						t.Fatal(err)
					}
					_ = ch.SetDeadline(time.Now().Add(patience))
					if err := exchangeBytes(t, ch, size); err != nil {
						t.Errorf("%d bytes: %v", size, err)
					}
				}
			})
		})
	}
}

func TestSession(t *testing.T) {
	user := newTestKey(t)
	port := startSSHD(t, user)
	noLeaks(t)
	c := startClient(t, port, clientConfig(user), Options{})
	status := make(chan uint32, 1)
	ch, err := c.OpenChannel(context.Background(), "session", nil, func(r *Request) {
		if r.Type == "exit-status" {
			body := reader{b: r.Payload}
			status <- body.u32()
		}
		r.Reply(false, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	stderr := ch.Stderr()
	ok, err := ch.SendRequest(context.Background(), "exec", true, appendString(nil, "cat; echo told >&2; exit 7"))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if _, err := ch.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = ch.CloseWrite()
	out, err := io.ReadAll(ch)
	if err != nil || string(out) != "hello" {
		t.Errorf("%q, %v", out, err)
	}
	told, err := io.ReadAll(stderr)
	if err != nil || string(told) != "told\n" {
		t.Errorf("%q, %v", told, err)
	}
	if got := <-status; got != 7 {
		t.Errorf("exit status %d", got)
	}
	ok, _, err = c.SendRequest(context.Background(), "keepalive@openssh.com", true, nil)
	if ok || err != nil {
		t.Error(ok, err)
	}
}

func TestOpenErrors(t *testing.T) {
	user := newTestKey(t)
	port := startSSHD(t, user)
	noLeaks(t)
	c := startClient(t, port, clientConfig(user), Options{})
	var refused *OpenError
	_, err := c.OpenChannel(context.Background(), "direct-tcpip", directExtra("127.0.0.1:1"), nil)
	if !errors.As(err, &refused) || refused.Reason != ConnectionFailed {
		t.Error(err)
	}
	pair := socketPair(t)
	failed := make(chan error, 1)
	c.OpenChannelCarry("direct-tcpip", directExtra("127.0.0.1:1"), pair[0], CarryOptions{Failed: func(err error) (int, time.Duration) {
		failed <- err
		return -1, 0
	}})
	if err := <-failed; !errors.As(err, &refused) {
		t.Error(err)
	}
	if err := unix.Close(pair[0]); err != nil {
		t.Error("the socket was not given back:", err)
	}
	unix.Close(pair[1])
	c.Close()
	<-c.Done()
	if _, err := c.OpenChannel(context.Background(), "session", nil, nil); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func socketPair(t testing.TB) [2]int {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
