package sshd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// isClosed reports whether the far end closes conn, whatever it says before.
func closedByServer(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, conn)
	return err == nil || !strings.Contains(err.Error(), "timeout")
}

func rawDial(t *testing.T, s *testServer) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestLimitsCount(t *testing.T) {
	l := newLimits(3, 4, 4)
	now := time.Unix(1_000_000, 0)
	source := func(i int) netip.Prefix { return sourceOf(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})) }
	enter := func(i int, want string) {
		t.Helper()
		if _, got := l.enter(source(i), now); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("source %d: %q, want %q", i, got, want)
		}
	}
	enter(1, "")
	enter(1, "")
	enter(1, "")
	enter(1, "from this source that have not logged in")
	for range 3 {
		if !l.login(source(1)) {
			t.Error("there is room")
		}
	}
	enter(1, "")
	if l.login(source(1)) {
		t.Error("one more than may be is logged in")
	}
	enter(1, "too many connections from this source")
	l.leave(source(1), true, false, now)
	enter(2, "")
	enter(3, "")
	for taken := false; !taken; { // some are turned away at random
		_, why := l.enter(source(4), now)
		taken = why == ""
	}
	enter(5, "too many connections that have not logged in")
	for _, i := range []int{1, 2, 3, 4} {
		l.leave(source(i), false, false, now)
	}
	l.leave(source(1), true, false, now)
	l.leave(source(1), true, false, now)
	if len(l.sources) != 0 || l.starting != 0 || l.loggedIn != 0 {
		t.Errorf("something is left: %+v", l)
	}
}

func TestFailuresSlowASourceDown(t *testing.T) {
	l := newLimits(10, 10, 10)
	now := time.Unix(1_000_000, 0)
	bad, good := sourceOf(netip.MustParseAddr("2001:db8::1")), sourceOf(netip.MustParseAddr("2001:db8:0:1::1"))
	if bad != sourceOf(netip.MustParseAddr("2001:db8::2")) || bad == good {
		t.Fatal("a /64 is one source")
	}
	var last time.Duration
	for i := range 12 {
		delay, why := l.enter(bad, now)
		if why != "" || delay < last || i < freeFailures && delay > 0 || i > freeFailures && delay == 0 {
			t.Errorf("after %d failures: %v %s", i, delay, why)
		}
		last = delay
		l.leave(bad, false, true, now)
	}
	if last != longestDelay {
		t.Errorf("the delay ends at %v", last)
	}
	if delay, _ := l.enter(good, now); delay > 0 {
		t.Error("somebody else is slowed down")
	}
	if delay, _ := l.enter(bad, now.Add(2*forgiveAfter)); delay > 0 {
		t.Error("nothing is ever forgiven")
	}
	for i := range maxRemembered + 10 {
		p := sourceOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		l.enter(p, now)
		l.leave(p, false, true, now)
	}
	if len(l.sources) > maxRemembered+2 {
		t.Errorf("%d sources are remembered", len(l.sources))
	}
}

func TestLoginGrace(t *testing.T) {
	s := startServer(t, func(o *Options) { o.LoginGrace = 50 * time.Millisecond })
	silent, slow := rawDial(t, s), rawDial(t, s)
	go func() {
		for _, c := range "SSH-2.0-slow" + strings.Repeat("x", 200) {
			if _, err := fmt.Fprint(slow, string(c)); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if !closedByServer(silent) || !closedByServer(slow) {
		t.Error("who does not log in stays")
	}
}

func TestGraceEndsWithTheLogin(t *testing.T) {
	key := newTestKey(t)
	var c *ssh.Client
	grace := 500 * time.Millisecond
	for ; c == nil; grace *= 2 { // until this machine logs in within it
		s := startServer(t, func(o *Options) { o.LoginGrace = grace }, key.line("", ""))
		var err error
		if c, err = s.tryDial(ssh.PublicKeys(key.Signer)); err != nil && grace > patience {
			t.Fatal(err)
		}
	}
	defer c.Close()
	time.Sleep(grace) // which is twice as much by now
	if _, _, err := c.SendRequest(sshchan.Keepalive, true, nil); err != nil {
		t.Errorf("a client that has logged in: %v", err)
	}
}

func TestStartupsAreBounded(t *testing.T) {
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.MaxStartups = 4 }, key.line("", ""))
	for range 3 {
		rawDial(t, s) // says nothing
	}
	eventually(t, "three to be in", func() bool { s.limits.mu.Lock(); defer s.limits.mu.Unlock(); return s.limits.starting == 3 })
	if !closedByServer(rawDial(t, s)) {
		t.Error("one more was taken in")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.MaxConnections = 1 }, key.line("", ""))
	first := s.dial(t, key)
	// The client has logged in a moment before the server counts it; after an answer it is counted.
	if _, _, err := first.SendRequest(sshchan.Keepalive, true, nil); err != nil {
		t.Fatal(err)
	}
	if c, err := s.tryDial(ssh.PublicKeys(key.Signer)); err == nil {
		if err := c.Wait(); err == nil {
			t.Error("the second stays")
		}
	}
	first.Close()
	eventually(t, "room", func() bool {
		c, err := s.tryDial(ssh.PublicKeys(key.Signer))
		if err != nil {
			return false
		}
		defer c.Close()
		_, _, err = c.SendRequest(sshchan.Keepalive, true, nil)
		return err == nil
	})
}

func TestChannelsAreBounded(t *testing.T) {
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.MaxChannels = 3 }, key.line("", ""))
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	c := s.dial(t, key)
	var open []net.Conn
	for range 3 {
		conn, err := c.Dial("tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	if _, err := c.Dial("tcp", target); err == nil || !strings.Contains(err.Error(), "too many channels") {
		t.Errorf("a fourth channel: %v", err)
	}
	open[0].Close()
	eventually(t, "room", func() bool {
		conn, err := c.Dial("tcp", target)
		return err == nil && conn != nil
	})
}

func TestSixTries(t *testing.T) {
	s := startServer(t, nil)
	tries := 0
	_, err := s.tryDial(ssh.RetryableAuthMethod(ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
		tries++
		return []ssh.Signer{newTestKey(t).Signer}, nil
	}), 20))
	if err == nil || tries > maxTries {
		t.Errorf("%d tries, %v", tries, err)
	}
}
