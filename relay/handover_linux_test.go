package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// A life is a relay that can be ended in favour of another.
type life struct {
	*Relay
	end  context.CancelFunc
	done chan error
}

func newLife(t *testing.T, left *Handover, want ...*forward.Forward) *life {
	t.Helper()
	l := begin(t, left)
	apply(t, l.Relay, want...)
	return l
}

// begin is newLife without anything to carry yet.
func begin(t *testing.T, left *Handover) *life {
	t.Helper()
	r := New(Options{Handover: left, Nodes: func(name string) (node.Node, error) {
		if name != forward.Host {
			return nil, errors.New("not known")
		}
		return host.New(), nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	l := &life{r, cancel, make(chan error, 1)}
	go func() { l.done <- r.Run(ctx) }()
	return l
}

// leave ends the life and returns what it left.
func (l *life) leave(t *testing.T) *Handover {
	t.Helper()
	l.Leave()
	l.end()
	select {
	case err := <-l.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("Run did not return")
	}
	return l.Left()
}

// TestHandover lets relays follow each other while clients come, go and stay. (In one process, where the descriptors stay what
// they are; e2e has it with programs.)
func TestHandover(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	l := newLife(t, nil, f)
	stay := dial(t, "tcp", "127.0.0.1:"+port)
	ask(t, stay, "before")
	var calls atomic.Int64
	var callers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, patience)
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(c, "hello")
				_ = c.(*net.TCPConn).CloseWrite()
				if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
					t.Errorf("call %d: %q, %v", calls.Load(), got, err)
				}
				c.Close()
				calls.Add(1)
			}
		})
	}
	for i := range 30 {
		since := calls.Load()
		eventually(t, "calls", func() bool { return calls.Load() > since+10 || t.Failed() })
		left := l.leave(t)
		if i%3 == 0 { // one that ends before it has anything to carry
			left = begin(t, left).leave(t)
		}
		l = newLife(t, left, f)
		ask(t, stay, "after")
	}
	close(stop)
	callers.Wait()
	eventually(t, "the calls to end", func() bool { return l.Stats()["x"].Open == 1 })
	if list := sessionsOf(l.Relay); len(list) != 1 || list[0].BytesIn != uint64(len("before")+30*len("after")) {
		t.Errorf("sessions %+v", list)
	}
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

// TestHandoverResets has sockets that nobody goes on with be reset rather than closed in order, and only those.
func TestHandoverResets(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	l := newLife(t, nil, f)
	stay, other := dial(t, "tcp", "127.0.0.1:"+port), dial(t, "tcp", "127.0.0.1:"+port)
	ask(t, stay, "before")
	ask(t, other, "before")
	left := l.leave(t)
	if len(left.Sessions) != 2 {
		t.Fatalf("%d sessions are left", len(left.Sessions))
	}
	resets := func(fd int) bool {
		on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_LINGER) // of two ints the first
		if err != nil {
			t.Fatal(err)
		}
		return on != 0
	}
	for _, s := range left.Sessions {
		for _, fd := range s.FD {
			if !resets(fd) {
				t.Errorf("descriptor %d would be closed in order", fd)
			}
		}
	}
	l = newLife(t, left, f)
	ask(t, stay, "after")
	ask(t, other, "after")
	for _, s := range left.Sessions {
		for _, fd := range s.FD {
			if resets(fd) {
				t.Errorf("descriptor %d is still one that is reset", fd)
			}
		}
	}
	left = l.leave(t)
	for _, fd := range left.Descriptors() {
		_ = unix.Close(fd)
	}
	if _, err := stay.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a session that nobody goes on with ends with %v", err)
	}
}
