package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// A leadingLasting leads and greets, and what it carries outlives the relay. While it is silent, who is led waits.
type leadingLasting struct {
	*lastingNode

	mu     sync.Mutex
	silent bool
	waits  []func() // gives back whom it was to lead
}

func (n *leadingLasting) Lead(fd int, _ netip.AddrPort, network, addr string, o node.LeadOptions) (node.Borne, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.silent {
		n.waits = append(n.waits, o.Left)
		return &leading{}, true
	}
	c, err := n.lastingNode.Dial(context.Background(), network, addr)
	if err != nil {
		return nil, false
	}
	o.Connected()
	return c.(*lastingConn).Bear(fd, o.BearOptions)
}

// giveBack is what a tunnel does whose session has ended.
func (n *leadingLasting) giveBack() {
	n.mu.Lock()
	waits := n.waits
	n.waits, n.silent = nil, false
	n.mu.Unlock()
	for _, left := range waits {
		left()
	}
}

func (n *leadingLasting) beSilent() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = true
}

func (n *leadingLasting) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.Node.Listen(ctx, network, addr)
	return &lastingListener{greetingListener{Listener: l}, n.lastingNode}, err
}

type lastingListener struct {
	greetingListener
	of *lastingNode
}

func (l *lastingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := &lastingConn{bearingConn{c, &bearingNode{}}, l.of}
		if greet := l.greet.Load(); greet == nil || !(*greet)(&lastingArrival{conn}) {
			return conn, nil
		}
	}
}

type lastingArrival struct{ *lastingConn }

func (a *lastingArrival) Refuse() { reset(a.Conn) }

func (a *lastingArrival) Meet(fd int, o node.MeetOptions) node.Borne {
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); err != unix.EINTR {
			break
		}
	}
	o.Connected()
	b, _ := a.Bear(fd, o.BearOptions)
	return b
}

// beginLeading is beginWith for such a node.
func beginLeading(t *testing.T, left *Handover, n *leadingLasting) *life {
	t.Helper()
	r := New(Options{Handover: left, NodesLeave: NodesLeave{Freeze: n.giveBack}, Nodes: func(name string) (node.Node, error) {
		if name == forward.Host {
			return host.New(), nil
		}
		return n, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	l := &life{r, cancel, make(chan error, 1)}
	go func() { l.done <- r.Run(ctx) }()
	return l
}

// TestLedAndMetGoOn has whom a node leads or meets go on in the next relay, and whom it has yet to connect be led there.
func TestLedAndMetGoOn(t *testing.T) {
	n := &leadingLasting{lastingNode: &lastingNode{Node: host.New(), all: map[string]*lasting{}}}
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	led, met := fwd(t, "led", freePort(t), target), fwd(t, "met", "127.0.0.1:"+freePort(t), target)
	led.Via, met.At = "far", "far"
	l := beginLeading(t, nil, n)
	apply(t, l.Relay, led, met)
	at := func(f *forward.Forward) string { return "127.0.0.1:" + f.Listen.Ports.String() }
	var clients []net.Conn
	for _, f := range []*forward.Forward{led, met} {
		c := dial(t, "tcp", at(f))
		ask(t, c, "before")
		clients = append(clients, c)
	}
	n.beSilent()
	early := dial(t, "tcp", at(led))
	eventually(t, "the client to be led", func() bool { return l.leading.Load() == 1 })
	left := l.leave(t)
	if len(left.Borne) != 2 || left.Borne[0].AtTarget == left.Borne[1].AtTarget || len(left.Clients) != 1 {
		t.Fatalf("%+v", left)
	}
	for _, b := range left.Borne {
		if b.AtTarget != (b.Forward == "met") || b.Where != target || b.Target != target {
			t.Errorf("%+v", b)
		}
	}
	l = beginLeading(t, left, n)
	list := n.adopted(l.Relay)
	l.Adopted(list)
	apply(t, l.Relay, led, met)
	ask(t, early, "at last")
	for _, c := range clients {
		ask(t, c, "after")
	}
	sessions := sessionsOf(l.Relay)
	if len(list) != 2 || len(sessions) != 3 {
		t.Errorf("%d were adopted, %d go on", len(list), len(sessions))
	}
	for _, s := range sessions {
		if want := uint64(len("before") + len("after")); s.BytesIn != want && s.BytesIn != uint64(len("at last")) || s.BytesIn != s.BytesOut {
			t.Errorf("%+v", s)
		}
	}
	for _, c := range append(clients, early) {
		_ = c.Close()
	}
	eventually(t, "all to end", func() bool {
		return len(sessionsOf(l.Relay)) == 0 && l.held.Load() == 0 && l.slow.Load() == 0 && l.leading.Load() == 0
	})
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

// TestWhoIsGivenBackIsServed has a node lose touch while it leads a client, who is then dialled for.
func TestWhoIsGivenBackIsServed(t *testing.T) {
	n := &leadingLasting{lastingNode: &lastingNode{Node: host.New(), all: map[string]*lasting{}}}
	f := fwd(t, "led", freePort(t), serve(t, "tcp", "127.0.0.1:0", echo).String())
	f.Via = "far"
	l := beginLeading(t, nil, n)
	apply(t, l.Relay, f)
	n.beSilent()
	var clients []net.Conn
	for range 2 {
		clients = append(clients, dial(t, "tcp", "127.0.0.1:"+f.Listen.Ports.String()))
	}
	eventually(t, "the clients to be led", func() bool { return l.leading.Load() == 2 })
	if len(sessionsOf(l.Relay)) != 0 || l.Stats()["led"].Total != 0 {
		t.Errorf("they are served: %+v", l.Stats()["led"])
	}
	n.giveBack()
	for _, c := range clients {
		ask(t, c, "ping")
	}
	if s := l.Stats()["led"]; s.Total != 2 || s.Open != 2 || s.Refused != 0 || l.leading.Load() != 0 {
		t.Errorf("%+v, %d are led", s, l.leading.Load())
	}
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	if n := l.held.Load(); n != 0 {
		t.Errorf("%d descriptors are held", n)
	}
}
