package sshwire

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tunnel is our client and our server, and an address that leads to target.
func tunnel(t testing.TB, target string, o CarryOptions) (c *Conn, server chan *Conn, addr string) {
	t.Helper()
	port, server := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect})
	c = startClient(t, port, clientConfig(newTestKey(t)), Options{})
	return c, server, forwardLocal(t, c, target, o)
}

func dialTest(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// TestResetIsPassedOn wants what was sent before a reset to arrive, and then the reset, both ways.
func TestResetIsPassedOn(t *testing.T) {
	noLeaks(t)
	const said = 200_000
	text := strings.Repeat("x", said)
	ends := make(chan error, 1)
	target := startTarget(t, func(c *net.TCPConn) {
		var first [1]byte
		_, _ = io.ReadFull(c, first[:])
		if first[0] == 'r' { // reset by the target
			_, _ = io.WriteString(c, text)
			for sysUnsentOf(c) > 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(50 * time.Millisecond)
			reset(c)
			return
		}
		_, _ = c.Write(first[:]) // it is here
		_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		ends <- err
	})
	_, _, addr := tunnel(t, target, CarryOptions{})
	c := dialTest(t, addr)
	_, _ = c.Write([]byte("r"))
	b, err := io.ReadAll(c)
	if len(b) != said || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	c = dialTest(t, addr)
	_, _ = c.Write([]byte("c"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // until it has gone all the way
		t.Fatal(err)
	}
	reset(c)
	if err := <-ends; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the target saw %v", err)
	}
}

func sysUnsentOf(c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { n = sysUnsent(int32(fd)) })
	}
	return n
}

// TestHalfCloseEitherWay has the target end first, and take what comes after.
func TestHalfCloseEitherWay(t *testing.T) {
	noLeaks(t)
	got := make(chan int64, 1)
	target := startTarget(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
		got <- n
	})
	var ended atomic.Pointer[Carried]
	_, _, addr := tunnel(t, target, CarryOptions{Ended: func(ca *Carried) { ended.Store(ca) }})
	c := dialTest(t, addr)
	b, err := io.ReadAll(c)
	if string(b) != "bye" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := c.Write(make([]byte, 3<<20)); err != nil {
		t.Error(err)
	}
	_ = c.CloseWrite()
	if n := <-got; n != 3<<20 {
		t.Errorf("the target got %d bytes", n)
	}
	eventually(t, "the end", func() bool { return ended.Load() != nil })
	if ca := ended.Load(); ca.Moved(FromSocket) != 3<<20 || ca.Moved(ToSocket) != 3 {
		t.Error(ca.Moved(FromSocket), ca.Moved(ToSocket))
	}
}

// TestBackPressure has a target that does not read: the sender has to stop, and nothing is lost.
func TestBackPressure(t *testing.T) {
	noLeaks(t)
	goOn, got := make(chan struct{}), make(chan int64, 1)
	target := startTarget(t, func(c *net.TCPConn) {
		<-goOn
		n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
		got <- n
	})
	_, _, addr := tunnel(t, target, CarryOptions{})
	c := dialTest(t, addr)
	_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	var sent int64
	for {
		n, err := c.Write(make([]byte, 1<<20))
		sent += int64(n)
		if err != nil {
			break
		}
		if sent > 100<<20 {
			t.Fatal("nothing stops it")
		}
	}
	close(goOn)
	_ = c.CloseWrite()
	if n := <-got; n != sent {
		t.Errorf("%d bytes of %d", n, sent)
	}
}

func TestConnectionDies(t *testing.T) {
	noLeaks(t)
	c, servers, addr := tunnel(t, startEcho(t), CarryOptions{})
	conn := dialTest(t, addr)
	_, _ = conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ch, err := c.OpenChannel(context.Background(), "direct-tcpip", directExtra(startEcho(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	(<-servers).Close()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if _, err := ch.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Error("a channel ended as if all had come:", err)
	}
	<-c.Done()
	var said *DisconnectError
	if err := c.Err(); !errors.As(err, &said) {
		t.Error(err)
	}
}

func TestKillAndIdle(t *testing.T) {
	noLeaks(t)
	target := startEcho(t)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect})
	c := startClient(t, port, clientConfig(newTestKey(t)), Options{})
	for name, idle := range map[string]time.Duration{"kill": 0, "idle": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			pair := socketPair(t)
			defer unix.Close(pair[1])
			opened, ended := make(chan struct{}), make(chan struct{})
			ca := c.OpenChannelCarry("direct-tcpip", directExtra(target), pair[0], CarryOptions{
				Idle: idle, Opened: func(*Carried) { close(opened) }, Ended: func(*Carried) { close(ended) },
			})
			<-opened
			if name == "kill" {
				ca.Kill()
			}
			<-ended
			ca.Kill() // again, and nothing
		})
	}
	for _, carry := range []func(fd int, o CarryOptions) *Carried{
		func(fd int, o CarryOptions) *Carried {
			return c.OpenChannelCarry("direct-tcpip", directExtra(target), fd, o)
		},
		func(fd int, o CarryOptions) *Carried {
			ch, err := c.OpenChannel(context.Background(), "direct-tcpip", directExtra(target), nil)
			if err != nil {
				t.Fatal(err)
			}
			return ch.Carry(fd, o)
		},
	} {
		pair := socketPair(t) // before it is open
		defer unix.Close(pair[1])
		ended := make(chan struct{})
		carry(pair[0], CarryOptions{Ended: func(*Carried) { close(ended) }}).Kill()
		<-ended
	}
}

// TestResetOfWhatIsRead has a reset come while the application is still to read what was sent before.
func TestResetOfWhatIsRead(t *testing.T) {
	noLeaks(t)
	const said = 3 << 20
	target := startTarget(t, func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, said))
		for sysUnsentOf(c) > 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond)
		reset(c)
	})
	_, _, addr := tunnel(t, target, CarryOptions{})
	c := dialTest(t, addr)
	time.Sleep(100 * time.Millisecond)
	n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
	if n != said || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestResetWaitsForTheWindow has a reset come while the peer has granted nothing for what the socket still has.
func TestResetWaitsForTheWindow(t *testing.T) {
	noLeaks(t)
	const said = windowFirst + 400_000 // more than the window and what a pair of sockets holds
	gone := make(chan struct{})
	target := startTarget(t, func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, said))
		for sysUnsentOf(c) > 0 {
			time.Sleep(time.Millisecond)
		}
		reset(c)
		close(gone)
	})
	port, servers := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect})
	c := startClient(t, port, clientConfig(newTestKey(t)), Options{})
	server := <-servers
	pair := socketPair(t)
	c.OpenChannelCarry("direct-tcpip", directExtra(target), pair[0], CarryOptions{})
	f := os.NewFile(uintptr(pair[1]), "application")
	defer f.Close()
	<-gone
	for range 2 { // by then the server's loop has seen the reset
		done := make(chan struct{})
		server.loop.post(func() { close(done) })
		<-done
	}
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{f}); n != said || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v; want %d", n, err, said)
	}
}

// TestCarryStream gives a socket to a channel that was read and written before.
func TestCarryStream(t *testing.T) {
	noLeaks(t)
	c, _, _ := tunnel(t, startEcho(t), CarryOptions{})
	ch, err := c.OpenChannel(context.Background(), "direct-tcpip", directExtra(startEcho(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(ch, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn := dialTest(t, l.Addr().String())
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := sysTake(s.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	ch.Carry(int(fd), CarryOptions{})
	_, _ = conn.Write([]byte("def"))
	_ = conn.CloseWrite()
	if b, err := io.ReadAll(conn); string(b) != "bcdef" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ch.Read(make([]byte, 1)); err == nil {
		t.Error("the channel can be read, too")
	}
}

// A slowLimit lets a slice pass each millisecond.
type slowLimit struct{ paid atomic.Int64 }

func (l *slowLimit) Slice() int { return 16 << 10 }
func (l *slowLimit) Pay(n int64) time.Duration {
	l.paid.Add(n)
	return time.Millisecond
}

func TestLimits(t *testing.T) {
	noLeaks(t)
	up, down := &slowLimit{}, &slowLimit{}
	_, _, addr := tunnel(t, startEcho(t), CarryOptions{Limits: [2]Limit{up, down}})
	dialEcho(t, addr, 300_000)
	if up.paid.Load() != 300_000 || down.paid.Load() != 300_000 {
		t.Error(up.paid.Load(), down.paid.Load())
	}
}

// TestSoak has many channels at once, some of which end abruptly, while keys are exchanged over and over.
func TestSoak(t *testing.T) {
	noLeaks(t)
	echo := startEcho(t)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect, RekeyBytes: 2 << 20})
	c := startClient(t, port, clientConfig(newTestKey(t)), Options{RekeyBytes: 3 << 20})
	addr := forwardLocal(t, c, echo, CarryOptions{})
	var running sync.WaitGroup
	for i := range 24 {
		running.Go(func() {
			for range 6 {
				switch i % 4 {
				case 0:
					conn, err := net.Dial("tcp4", addr)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = conn.Write(make([]byte, rand.IntN(200_000)))
					reset(conn.(*net.TCPConn))
				case 1:
					ch, err := c.OpenChannel(context.Background(), "direct-tcpip", directExtra(echo), nil)
					if err != nil {
						t.Error(err)
						return
					}
					_ = ch.SetDeadline(time.Now().Add(patience))
					if err := exchangeBytes(t, ch, rand.IntN(1<<20)); err != nil {
						t.Error(err)
					}
				default:
					dialEcho(t, addr, rand.IntN(1<<20))
				}
			}
		})
	}
	running.Wait()
	keys := make(chan uint64)
	c.loop.post(func() { keys <- c.out.moved })
	if moved := <-keys; moved > 6<<20 {
		t.Errorf("%d bytes with the same keys", moved)
	}
	// What channels were granted comes back, once: else the budget would mean nothing after a while.
	granted := -1
	for end := time.Now().Add(patience); granted != 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		sums := make(chan int)
		c.loop.post(func() { sums <- c.granted })
		granted = <-sums
	}
	if granted != 0 {
		t.Errorf("%d bytes of windows are granted, and there is no channel", granted)
	}
}

// TestWindowGrows has a far peer and a near one send as fast as they may.
func TestWindowGrows(t *testing.T) {
	noLeaks(t)
	for away, want := range map[time.Duration]int{100 * time.Millisecond: windowMost, time.Millisecond / 2: windowFirst} {
		c, far := openConn(t, newTestKey(t), true)
		c.o = Options{}.complete()
		c.start()
		ch := c.openNow("x", nil, &opening{failed: func(error) {}})
		ch.open, ch.opening = true, nil
		ch.streaming()
		c.roundTrip = roundTrip{away, 1 << 62} // and is not looked up
		for range 100 {
			n := min(ch.granted, ch.window/2)
			ch.granted -= n
			c.loop.now += int64(away) / 2
			ch.consumed(n)
		}
		if ch.window != want || ch.granted+ch.used != ch.window || c.granted != ch.window {
			t.Errorf("with %v the window is %d, granted %d, used %d", away, ch.window, ch.granted, ch.used)
		}
		c.die(ErrClosed)
		c.loop.serve(func() bool { return true })
		unix.Close(far)
	}
}
