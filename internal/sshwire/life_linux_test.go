package sshwire

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSharedLoop has two connections in one loop.
func TestSharedLoop(t *testing.T) {
	noLeaks(t)
	loop, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = loop.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	config := serverConfig(newTestKey(t))
	config.Loop = loop
	port, _ := startServer(t, config, Options{Channel: acceptDirect})
	echo := startEcho(t)
	for range 2 {
		client := clientConfig(newTestKey(t))
		client.Loop = loop
		c := startClient(t, port, client, Options{})
		manyEchoes(t, forwardLocal(t, c, echo, CarryOptions{}))
	}
}

// TestKeepalive wants a peer that says nothing to be given up.
func TestKeepalive(t *testing.T) {
	noLeaks(t)
	port, servers := startServer(t, serverConfig(newTestKey(t)), Options{})
	c := startClient(t, port, clientConfig(newTestKey(t)), Options{Keepalive: 20 * time.Millisecond})
	s := <-servers
	time.Sleep(200 * time.Millisecond)
	if err := c.Err(); err != nil {
		t.Fatal("a peer that answers was given up:", err)
	}
	stop := make(chan struct{})
	s.loop.post(func() { <-stop })
	<-c.Done()
	if err := c.Err(); !errors.Is(err, ErrDead) {
		t.Error(err)
	}
	close(stop)
}

// TestUnixSocket speaks SSH over what is not TCP.
func TestUnixSocket(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("unix", t.TempDir()+"/ssh")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conns := make(chan *Conn, 1)
	go func() {
		s, err := l.Accept()
		if err != nil {
			return
		}
		c, err := Server(s.(*net.UnixConn), serverConfig(newTestKey(t)))
		if err != nil {
			t.Error(err)
			s.Close()
		}
		conns <- c
	}()
	s, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := Client(s.(*net.UnixConn), clientConfig(newTestKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	runConn(t, c, Options{})
	runConn(t, <-conns, Options{Channel: acceptDirect})
	manyEchoes(t, forwardLocal(t, c, startEcho(t), CarryOptions{}))
}

// TestCloseWithoutRun wants nothing left of a connection that was never run, and of a loop.
func TestCloseWithoutRun(t *testing.T) {
	noLeaks(t)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{})
	c, err := Client(dialTCP(t, port), clientConfig(newTestKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	early := make(chan error, 1)
	go func() {
		_, err := c.OpenChannel(context.Background(), "session", nil, nil)
		early <- err
	}()
	eventually(t, "the request to wait", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.early) > 0
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-early; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if err := c.Run(context.Background(), Options{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestDoor takes clients in by the loop that carries them.
func TestDoor(t *testing.T) {
	noLeaks(t)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect})
	c := startClient(t, port, clientConfig(newTestKey(t)), Options{})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	_ = raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	extra := directExtra(startEcho(t))
	d := c.Loop().Listen(fd, func(s int) { c.OpenChannelCarry("direct-tcpip", extra, s, CarryOptions{}) })
	manyEchoes(t, addr)
	d.Close()
	eventually(t, "the port to be closed", func() bool {
		conn, err := net.Dial("tcp4", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	d.Close()
}

// TestKillBeforeRun ends what has not begun.
func TestKillBeforeRun(t *testing.T) {
	noLeaks(t)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: func(in *Incoming) {
		pair := socketPair(t)
		unix.Close(pair[1])
		in.AcceptCarry(pair[0], CarryOptions{}).Kill()
	}})
	c, err := Client(dialTCP(t, port), clientConfig(newTestKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	pair := socketPair(t)
	defer unix.Close(pair[1])
	ended := make(chan struct{})
	c.OpenChannelCarry("x", nil, pair[0], CarryOptions{Ended: func(*Carried) { close(ended) }}).Kill()
	runConn(t, c, Options{})
	<-ended
	var refused *OpenError
	if _, err := c.OpenChannel(context.Background(), "x", nil, nil); !errors.As(err, &refused) {
		t.Error(err)
	}
}

func TestDeadlines(t *testing.T) {
	noLeaks(t)
	c, _, _ := tunnel(t, "127.0.0.1:1", CarryOptions{})
	enough := make(chan struct{})
	quiet := startTarget(t, func(*net.TCPConn) { <-enough })
	ch, err := c.OpenChannel(context.Background(), "direct-tcpip", directExtra(quiet), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = ch.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	var timeout net.Error
	if _, err := ch.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Error(err)
	}
	close(enough)
	_ = ch.SetReadDeadline(time.Time{})
	go ch.Close()
	if _, err := ch.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && err != io.EOF {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := c.OpenChannel(ctx, "direct-tcpip", directExtra("192.0.2.1:9"), nil); err == nil {
		t.Error("opened a channel to nowhere")
	}
}
