package sshd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// listenAs has a client listen at a port and answer there under a name.
func listenAs(t *testing.T, c *ssh.Client, port, name string) error {
	t.Helper()
	l, err := c.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerAs(conn, name)
		}
	}()
	return nil
}

// TestTakeover has a second connection of the same key come while the first still counts as alive.
func TestTakeover(t *testing.T) {
	key, other := newTestKey(t), newTestKey(t)
	s := startServer(t, nil, key.line("", "alice"), other.line("", "alice"))
	port := freePort(t)
	first, second, stranger := s.dial(t, key), s.dial(t, key), s.dial(t, other)
	if err := listenAs(t, first, port, "first"); err != nil {
		t.Fatal(err)
	}
	call(t, "tcp", "127.0.0.1:"+port, "first")
	if err := listenAs(t, stranger, port, "stranger"); err == nil {
		t.Error("another key with the same comment takes the listener over")
	}
	if err := listenAs(t, second, port, "second"); err != nil {
		t.Fatal(err)
	}
	call(t, "tcp", "127.0.0.1:"+port, "second")
	first.Close()
	eventually(t, "the first to leave", func() bool { return strings.Contains(s.log.String(), "SSH client left") })
	call(t, "tcp", "127.0.0.1:"+port, "second")
	if n := len(s.forwards.places()); n != 1 {
		t.Errorf("%d listeners, want 1", n)
	}
	second.Close()
	eventually(t, "the listener to go", func() bool { return len(s.forwards.places()) == 0 })
	if err := listenAs(t, stranger, port, "stranger"); err != nil {
		t.Errorf("the port is free now: %v", err)
	}
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	if len(s.claims.of) != 1 {
		t.Errorf("claims are left: %v", s.claims.of)
	}
}

func TestListenersOfAKeyAreCounted(t *testing.T) {
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.MaxListeners = 2 }, key.line("", "alice"))
	a, b := s.dial(t, key), s.dial(t, key)
	port := freePort(t)
	if err := errors.Join(listenAs(t, a, port, "a"), listenAs(t, b, "0", "b")); err != nil {
		t.Fatal(err)
	}
	if err := listenAs(t, b, "0", "b"); err == nil {
		t.Error("a third listener")
	}
	if err := listenAs(t, a, port, "a"); err == nil {
		t.Error("the same listener twice by one client")
	}
	if err := listenAs(t, b, port, "b"); err != nil {
		t.Errorf("taking over needs no room: %v", err)
	}
}

// TestDeadClient cuts a client off without a word: its network drops everything.
func TestDeadClient(t *testing.T) {
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.Keepalive = 50 * time.Millisecond }, key.line("", "alice"))
	raw, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	cut := &cutConn{Conn: raw, cut: make(chan struct{})}
	sc, channels, requests, err := ssh.NewClientConn(cut, s.addr, &ssh.ClientConfig{
		User: "x", Auth: []ssh.AuthMethod{ssh.PublicKeys(key.Signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(sc, channels, requests)
	port := freePort(t)
	if err := listenAs(t, c, port, "alice"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(150 * time.Millisecond) // it answers, and stays
	call(t, "tcp", "127.0.0.1:"+port, "alice")
	close(cut.cut)
	eventually(t, "the dead client's listener to go", func() bool { return len(s.forwards.places()) == 0 })
	eventually(t, "why", func() bool { return strings.Contains(s.log.String(), errDead.Error()) })
	raw.Close()
	s.stop()
	leaks()
}

// A cutConn neither reads nor writes once it is cut.
type cutConn struct {
	net.Conn
	cut chan struct{}
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.cut:
		return 0, io.ErrUnexpectedEOF
	default:
		return n, err
	}
}

func (c *cutConn) Write(p []byte) (int, error) {
	select {
	case <-c.cut:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

func (c *cutConn) Close() error { return nil }

// TestNode looks at the node that a client is.
func TestNode(t *testing.T) {
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "alice"))
	c := s.dial(t, key)
	port := freePort(t)
	l, err := c.Listen("tcp", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	origins := make(chan net.Addr, 2)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			origins <- conn.RemoteAddr()
			go answerAs(conn, "alice")
		}
	}()
	s.forwards.mu.Lock()
	var n node.Node
	for _, f := range s.forwards.open {
		n = f.node
	}
	s.forwards.mu.Unlock()

	ctx := context.Background()
	if _, err := n.Listen(ctx, "tcp", ":0"); !errors.Is(err, node.ErrUnfit) {
		t.Errorf("Listen: %v", err)
	}
	if _, err := n.Dial(ctx, "udp", ":"+port); !errors.Is(err, node.ErrUnfit) {
		t.Errorf("udp: %v", err)
	}
	if _, err := n.Dial(ctx, "tcp", ":1"); !errors.Is(err, node.ErrRefused) {
		t.Errorf("a port for which it does not listen: %v", err)
	}
	if _, err := n.Dial(ctx, "unix", "/nothing"); !errors.Is(err, node.ErrRefused) {
		t.Errorf("a path for which it does not listen: %v", err)
	}
	who := netip.MustParseAddrPort("192.0.2.1:99")
	conn, err := n.(node.Introducer).DialFor(ctx, who, "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-origins; got.String() != who.String() {
		t.Errorf("the client learns of %v", got)
	}
	if list := s.Sessions(); len(list) != 1 || list[0].Kind != sshchan.Forwarded || list[0].Key != "alice" {
		t.Errorf("sessions: %+v", list)
	}
	if err := tryTalk(conn, "alice"); err != nil {
		t.Error(err)
	}
	if conn, err = n.Dial(ctx, "tcp", ":"+port); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c.Close()
	if _, err := io.ReadAll(conn); !errors.Is(err, sshchan.ErrLost) {
		t.Errorf("after the client left: %v, want %v", err, sshchan.ErrLost)
	}
	eventually(t, "the client to be away", func() bool {
		_, err := n.Dial(ctx, "tcp", ":"+port)
		return errors.Is(err, node.ErrAway) || errors.Is(err, node.ErrRefused)
	})
}

// TestNodeDoesNotWaitForever asks a client that never answers.
func TestNodeDoesNotWaitForever(t *testing.T) {
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "alice"))
	c := s.dial(t, key)
	silent := c.HandleChannelOpen(sshchan.Forwarded) // nobody takes from it
	if ok, _, err := c.SendRequest(sshchan.Forward, true, ssh.Marshal(sshchan.TCPRequest{Host: "localhost", Port: 0})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	s.forwards.mu.Lock()
	var one *fakeForward
	for _, f := range s.forwards.open {
		one = f
	}
	s.forwards.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := one.node.Dial(ctx, "tcp", ":"+one.listen.Ports.String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial: %v", err)
	}
	_ = (<-silent).Reject(ssh.Prohibited, "too late")
	c.Close()
	s.stop()
	leaks()
}

// TestFailedTakeoverLeavesTheClaim has Forwards refuse the second client.
func TestFailedTakeoverLeavesTheClaim(t *testing.T) {
	key := newTestKey(t)
	once := &onceForwards{}
	s := startServer(t, func(o *Options) { o.Forwards, o.MaxListeners = once, 1 }, key.line("", "alice"))
	first, second := s.dial(t, key), s.dial(t, key)
	ask := func(c *ssh.Client, port uint32) bool {
		ok, _, err := c.SendRequest(sshchan.Forward, true, ssh.Marshal(sshchan.TCPRequest{Host: "localhost", Port: port}))
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !ask(first, 8080) || ask(second, 8080) {
		t.Fatal("the first is to get it, the second not")
	}
	once.allow.Store(true)
	if ask(second, 8081) {
		t.Error("the claim of the first was forgotten")
	}
	if ok, _, err := first.SendRequest(sshchan.Cancel, true, ssh.Marshal(sshchan.TCPRequest{Host: "localhost", Port: 8080})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if !ask(second, 8081) {
		t.Error("the claim of the first was never given back")
	}
}

// onceForwards opens nothing, and says no from the second time on until it is told otherwise.
type onceForwards struct {
	recordingForwards
	used, allow atomic.Bool
}

func (o *onceForwards) Put(ctx context.Context, key string, l forward.Door, n node.Node) (string, forward.Door, error) {
	if o.used.Swap(true) && !o.allow.Load() {
		return "", l, errors.New("not again")
	}
	return o.recordingForwards.Put(ctx, key, l, n)
}
