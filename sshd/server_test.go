package sshd

import (
	"net"
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
