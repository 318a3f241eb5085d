package sshd

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// socketPair is a connection, and the descriptor of its other end, which does not block.
func socketPair(t *testing.T) (near net.Conn, fd int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fd, ok := detach(far)
	if !ok {
		t.Fatal("no descriptor")
	}
	return near, fd
}

// A ledReport is what a Leader or Bearer says.
type ledReport struct {
	connected, ended atomic.Int32
	failed           chan error
	moved            [2]atomic.Uint64
}

func (r *ledReport) options(timeout time.Duration) node.LeadOptions {
	r.failed = make(chan error, 2)
	return node.LeadOptions{
		BearOptions: node.BearOptions{Ended: func(b node.Borne) {
			from, to := b.Moved()
			r.moved[0].Store(from)
			r.moved[1].Store(to)
			b.Kill() // does no harm
			r.ended.Add(1)
		}},
		Timeout: timeout, Connected: func() { r.connected.Add(1) }, Failed: func(err error) { r.failed <- err },
	}
}

func nodeOf(s *testServer) (node.Node, string) {
	s.forwards.mu.Lock()
	defer s.forwards.mu.Unlock()
	for _, f := range s.forwards.open {
		return f.node, ":" + f.listen.Ports.String()
	}
	return nil, ""
}

func skipPlain(t *testing.T) {
	t.Helper()
	if os.Getenv(plainEnv) != "" || !fastGCM() {
		t.Skip("x/crypto carries no sockets")
	}
}

func TestLead(t *testing.T) {
	skipPlain(t)
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.MaxChannels = 1 }, key.line("", "alice"))
	c := s.dial(t, key)
	if err := listenAs(t, c, "0", "alice"); err != nil {
		t.Fatal(err)
	}
	n, addr := nodeOf(s)
	leader := n.(node.Leader)
	who := netip.MustParseAddrPort("192.0.2.1:99")
	var report ledReport
	near, fd := socketPair(t)
	if _, ok := leader.Lead(fd, who, "tcp", ":1", report.options(0)); ok {
		t.Fatal("it leads to where nobody listens")
	}
	if _, ok := leader.Lead(fd, who, "tcp", addr, report.options(patience)); !ok {
		t.Fatal("it does not lead")
	}
	another, second := socketPair(t)
	var idle ledReport
	if _, ok := leader.Lead(second, who, "tcp", addr, idle.options(0)); ok {
		t.Error("more channels than may be")
	}
	if err := tryTalk(near, "alice"); err != nil {
		t.Error(err)
	}
	eventually(t, "the end", func() bool { return report.ended.Load() == 1 && len(s.Sessions()) == 0 })
	if from, to := report.moved[0].Load(), report.moved[1].Load(); report.connected.Load() != 1 || from != 6 || to != 24 {
		t.Errorf("connected %d times; moved %d and %d bytes", report.connected.Load(), from, to)
	}

	eventually(t, "room", func() bool { return s.clientOf().opened.Load() == 0 })
	borne, ok := leader.Lead(second, who, "tcp", addr, idle.options(patience))
	if !ok {
		t.Fatal("it does not lead")
	}
	eventually(t, "the session", func() bool { return len(s.Sessions()) == 1 })
	borne.Kill()
	if _, err := another.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("after Kill: %v, want a reset", err)
	}
	eventually(t, "the killed one to end", func() bool { return idle.ended.Load() == 1 && len(s.Sessions()) == 0 })
	c.Close()
	s.stop()
	if _, ok := leader.Lead(-1, who, "tcp", addr, idle.options(0)); ok {
		t.Error("it leads to a client that has left")
	}
	near.Close()
	another.Close()
	leaks()
}

// TestLeadFails has a client refuse, be silent, and go.
func TestLeadFails(t *testing.T) {
	skipPlain(t)
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "alice"))
	c := s.dial(t, key)
	asked := c.HandleChannelOpen(sshchan.Forwarded)
	if ok, _, err := c.SendRequest(sshchan.Forward, true, ssh.Marshal(sshchan.TCPRequest{Host: "localhost", Port: 0})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	n, addr := nodeOf(s)
	for _, test := range []struct {
		name    string
		timeout time.Duration
		answer  func(ssh.NewChannel)
		want    error
	}{
		{"refusal", patience, func(nc ssh.NewChannel) { _ = nc.Reject(ssh.ConnectionFailed, "no") }, node.ErrFar},
		{"prohibited", 0, func(nc ssh.NewChannel) { _ = nc.Reject(ssh.Prohibited, "no") }, node.ErrRefused},
		{"silence", time.Millisecond, func(ssh.NewChannel) {}, context.DeadlineExceeded},
		{"death", patience, func(ssh.NewChannel) { c.Close() }, node.ErrAway},
	} {
		var report ledReport
		near, fd := socketPair(t)
		if _, ok := n.(node.Leader).Lead(fd, netip.AddrPort{}, "tcp", addr, report.options(test.timeout)); !ok {
			t.Fatalf("%s: it does not lead", test.name)
		}
		test.answer(<-asked)
		if err := <-report.failed; !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if _, err := near.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v, want a reset", test.name, err)
		}
		eventually(t, "the end after a "+test.name, func() bool { return report.ended.Load() == 1 })
		if report.connected.Load() > 0 || len(report.failed) > 0 {
			t.Errorf("%s: too much is said", test.name)
		}
		near.Close()
	}
	s.stop()
	leaks()
}

func TestBear(t *testing.T) {
	skipPlain(t)
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "alice"))
	c := s.dial(t, key)
	if err := listenAs(t, c, "0", "alice"); err != nil {
		t.Fatal(err)
	}
	n, addr := nodeOf(s)
	conn, err := n.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Sessions()) != 1 {
		t.Errorf("sessions: %v", s.Sessions())
	}
	near, fd := socketPair(t)
	var report ledReport
	if _, ok := conn.(node.Bearer).Bear(fd, report.options(0).BearOptions); !ok {
		t.Fatal("it does not bear")
	}
	if err := tryTalk(near, "alice"); err != nil {
		t.Error(err)
	}
	eventually(t, "the end", func() bool {
		return report.ended.Load() == 1 && len(s.Sessions()) == 0 && s.clientOf().opened.Load() == 0
	})
	c.Close()
	s.stop()
	leaks()
}

// TestStuckTargetIsSeen has a client fill what a target does not read.
func TestStuckTargetIsSeen(t *testing.T) {
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "alice"))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	conn, err := s.dial(t, key).Dial("tcp", silent.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for buffer := make([]byte, 1<<20); err == nil; {
			_, err = conn.Write(buffer)
		}
	}()
	now := time.Now()
	eventually(t, "it to stand still", func() bool {
		list := s.allFlows()
		if len(list) != 1 {
			return false
		}
		list[0].look(now)
		now = now.Add(time.Second)
		ended := tooMany(list, now, 1<<20)
		if len(ended) == 1 {
			(*ended[0].load.Load()).Kill()
		}
		return len(ended) == 1
	})
	eventually(t, "it to be ended", func() bool { return len(s.Sessions()) == 0 })
}
