package sshd

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestForwardsBothWays(t *testing.T) {
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "alice@laptop"))
	target := echo(t, "tcp", "127.0.0.1:0", "target")
	c := s.dial(t, key)

	conn, err := c.Dial("tcp", target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := tryTalk(deadlineless{conn}, "target"); err != nil {
		t.Error(err)
	}

	l, err := c.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerAs(conn, "client")
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	call(t, "tcp", "127.0.0.1:"+port, "client")
	eventually(t, "sessions to end", func() bool { return len(s.Sessions()) == 0 })
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if places := s.forwards.places(); len(places) > 0 {
		t.Errorf("after the cancel there are %v", places)
	}
	if _, err = c.Listen("tcp", "localhost:0"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	eventually(t, "the listener to go with its client", func() bool { return len(s.forwards.places()) == 0 })
	s.stop()
	target.Close()
	leaks()
}

// deadlineless is a connection of x/crypto, which refuses deadlines.
type deadlineless struct{ net.Conn }

func (d deadlineless) CloseWrite() error {
	return d.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func TestPasswordsAreRefused(t *testing.T) {
	s := startServer(t, nil, newTestKey(t).line("", ""))
	if _, err := s.tryDial(ssh.Password("secret")); err == nil {
		t.Error("a password let a client in")
	}
	if _, err := s.tryDial(); err == nil {
		t.Error("a client came in with nothing")
	}
	if _, err := s.tryDial(ssh.PublicKeys(newTestKey(t))); err == nil {
		t.Error("a foreign key let a client in")
	}
}

func TestNewRefuses(t *testing.T) {
	whole := Options{
		HostKeys:  []ssh.Signer{newTestKey(t)},
		Authorize: func() (*Keys, error) { return nil, nil },
		Dial:      func(context.Context, netip.AddrPort, string, string) (net.Conn, error) { return nil, nil },
		Forwards:  newFakeForwards(),
	}
	if _, err := New(whole); err != nil {
		t.Errorf("with all that it needs: %v", err)
	}
	for _, change := range []func(*Options){
		func(o *Options) { o.HostKeys = nil },
		func(o *Options) { o.Authorize = nil },
		func(o *Options) { o.Dial = nil },
		func(o *Options) { o.Forwards = nil },
		func(o *Options) { o.GatewayPorts = "maybe" },
	} {
		o := whole
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// TestRunEndsWithItsListener closes one of two listeners from outside.
func TestRunEndsWithItsListener(t *testing.T) {
	leaks := checkLeaks(t)
	s, err := New(Options{
		HostKeys:  []ssh.Signer{newTestKey(t)},
		Authorize: func() (*Keys, error) { return keysOf(t), nil },
		Dial:      func(context.Context, netip.AddrPort, string, string) (net.Conn, error) { return nil, nil },
		Forwards:  newFakeForwards(),
	})
	if err != nil {
		t.Fatal(err)
	}
	var listeners []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	ended := make(chan error)
	go func() { ended <- s.Run(t.Context(), listeners...) }()
	conn, err := net.Dial("tcp", listeners[1].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	listeners[0].Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "was closed") {
		t.Errorf("Run: %v", err)
	}
	if !closedByServer(conn) {
		t.Error("a client stays")
	}
	conn.Close()
	leaks()
}
