package agent_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/node/nodetest"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// A turnstile counts who is inside.
type turnstile struct {
	inside atomic.Int64
	full   atomic.Bool
}

func (g *turnstile) Enter(tunnel.Call) (agent.Pass, error) {
	if g.full.Load() {
		return agent.Pass{}, &tunnel.Error{Code: tunnel.TooMany}
	}
	g.inside.Add(1)
	return agent.Pass{Leave: func() { g.inside.Add(-1) }}, nil
}

// A strict landlord permits what it is told to.
type strict struct {
	agent.Landlord
	no atomic.Bool
}

func (s *strict) Permit(at forward.Door) error {
	if s.no.Load() {
		return errors.New("not there")
	}
	return s.Landlord.Permit(at)
}

// observed keeps the nodes that forwards dial from.
type observed struct {
	*nodetest.Forwards
	nodes chan node.Node
}

func (o *observed) Put(ctx context.Context, key string, door forward.Door, n node.Node) (string, forward.Door, error) {
	o.nodes <- n
	return o.Forwards.Put(ctx, key, door, n)
}

// socketPair is a client and the descriptor of its other end.
func socketPair(t *testing.T) (client *net.TCPConn, fd int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	f, err := near.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), fd
}

// connecting is a socket that connects to addr.
func connecting(t *testing.T, addr net.Addr) int {
	t.Helper()
	to := addr.(*net.TCPAddr).AddrPort()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	return fd
}

// A trial is an agent that greets whoever comes to the hub for it.
type trial struct {
	*pair
	t        *testing.T
	gate     turnstile
	landlord strict
	place    node.Leader
	listener net.Listener
	said     chan string
}

func newTrial(t *testing.T) *trial {
	tr := &trial{t: t, said: make(chan string, 20)}
	tr.landlord.Landlord, _ = everywhere(t)
	nodes := make(chan node.Node, 1)
	tr.pair = connect(t, tunneltest.Options{}, func(far *agent.Options, _ *agent.HubOptions) {
		far.Gate, far.Landlord = &tr.gate, &tr.landlord
		far.Forwards = &observed{far.Forwards.(*nodetest.Forwards), nodes}
	})
	var err error
	if tr.listener, err = tr.hub.Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.listener.Close() })
	isUp(t, tr.listener.(node.Stated))
	tr.place = (<-nodes).(node.Leader)
	return tr
}

// lead leads a client, and says what becomes of it.
func (tr *trial) lead(l node.Leader, addr string) (client *net.TCPConn, ok bool) {
	client, fd := socketPair(tr.t)
	_, ok = l.Lead(fd, netip.MustParseAddrPort("192.0.2.7:1234"), "tcp", addr, node.LeadOptions{
		BearOptions: node.BearOptions{Ended: func(node.Borne) { tr.said <- "ended" }},
		Timeout:     30 * time.Second,
		Connected:   func() { tr.said <- "connected" },
		Failed:      func(err error) { tr.said <- err.Error() },
		Left: func() {
			_ = unix.Close(fd)
			tr.said <- "left"
		},
	})
	if !ok {
		_ = unix.Close(fd)
	}
	return client, ok
}

func (tr *trial) hears(want ...string) {
	tr.t.Helper()
	for _, w := range want {
		if got := <-tr.said; got != w {
			tr.t.Errorf("%q, want %q", got, w)
		}
	}
}

// echoes is somebody who says what he is told.
func echoes(t *testing.T) net.Addr {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr()
}

func (tr *trial) talks(c *net.TCPConn) {
	tr.t.Helper()
	if _, err := c.Write([]byte("hello")); err != nil {
		tr.t.Fatal(err)
	}
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		tr.t.Errorf("%q, %v", got, err)
	}
}

// empty is that everybody has left.
func (tr *trial) empty() {
	tr.t.Helper()
	if n := tr.gate.inside.Load(); n != 0 {
		tr.t.Errorf("%d have not left", n)
	}
}

// TestLedToAListener has clients led to an agent that meets them, refuses them, or leaves them to Accept.
func TestLedToAListener(t *testing.T) {
	tr := newTrial(t)
	target := echoes(t)
	met := make(chan string, 5)
	verdict := "meet"
	tr.listener.(node.Greeter).Greet(func(a node.Arrival) bool {
		if a.RemoteAddr().String() != "192.0.2.7:1234" || a.LocalAddr().String() != tr.listener.Addr().String() {
			t.Errorf("from %s to %s", a.RemoteAddr(), a.LocalAddr())
		}
		switch verdict {
		case "leave":
			return false
		case "refuse":
			a.Refuse()
		default:
			a.Meet(connecting(t, target), node.MeetOptions{
				BearOptions: node.BearOptions{Ended: func(node.Borne) { met <- "ended" }}, Timeout: 30 * time.Second,
				Connected: func() { met <- "connected" }, Failed: func(error) (int, time.Duration) { return -1, 0 },
			})
		}
		return true
	})
	c, ok := tr.lead(tr.place, "")
	if !ok {
		t.Fatal("not led")
	}
	tr.talks(c)
	tr.hears("connected", "ended")
	if a, b := <-met, <-met; a != "connected" || b != "ended" {
		t.Errorf("%s, %s", a, b)
	}
	tr.empty()

	verdict = "refuse"
	if c, ok = tr.lead(tr.place, ""); !ok {
		t.Fatal("not led")
	}
	tr.hears("agent pi: "+tunnel.Refused.String(), "ended")
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("who was refused sees %v", err)
	}
	tr.empty()

	verdict = "leave"
	if c, ok = tr.lead(tr.place, ""); !ok {
		t.Fatal("not led")
	}
	accepted, err := tr.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(accepted, accepted)
		_ = accepted.Close()
	}()
	tr.talks(c)
	tr.hears("connected", "ended")
	tr.empty()
}

// TestLedToATarget has an agent dial.
func TestLedToATarget(t *testing.T) {
	tr := newTrial(t)
	c, ok := tr.lead(tr.far, echoes(t).String())
	if !ok {
		t.Fatal("not led")
	}
	tr.talks(c)
	tr.hears("connected", "ended")
	tr.empty()
}

// TestNotLed: what takes waiting, or is not permitted, is left to DialFor.
func TestNotLed(t *testing.T) {
	tr := newTrial(t)
	refused := func(why string, l node.Leader) {
		t.Helper()
		if _, ok := tr.lead(l, "127.0.0.1:1"); ok {
			t.Errorf("led, %s", why)
		}
		tr.empty()
	}
	tr.gate.full.Store(true)
	refused("though there are as many as there may be", tr.place)
	refused("though there are as many as there may be", tr.far)
	tr.gate.full.Store(false)
	tr.landlord.no.Store(true)
	refused("though it may not listen there any more", tr.place)
	tr.landlord.no.Store(false)
	if _, fd := socketPair(t); fd >= 0 {
		defer unix.Close(fd)
		if _, ok := tr.far.Lead(fd, netip.AddrPort{}, "udp", "127.0.0.1:1", node.LeadOptions{}); ok {
			t.Error("datagrams are led")
		}
	}
	refused("without a session", agent.New(agent.Options{Gate: &tr.gate}))
	if len(tr.said) > 0 {
		t.Error(<-tr.said)
	}
}

// TestLedIsGivenBack: the session ends before there is an answer.
func TestLedIsGivenBack(t *testing.T) {
	tr := newTrial(t)
	if _, ok := tr.lead(tr.place, ""); !ok {
		t.Fatal("not led")
	}
	tr.far.Session().End(tunnel.Gone, "over")
	tr.hears("left")
	tr.empty()
}
