package relay

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// A lastingNode is one whose connections carry sockets on while relays follow each other.
type lastingNode struct {
	node.Node
	away bool // nobody is dialled before ctx ends

	mu  sync.Mutex
	all map[string]*lasting
}

type lasting struct {
	node.Borne
	ticket string

	mu sync.Mutex
	o  node.BearOptions
}

func (l *lasting) Ticket() string { return l.ticket }

// with has somebody else be told of the end.
func (l *lasting) with(o node.BearOptions) node.BearOptions {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, l.o = l.o, o
	return o
}

type lastingConn struct {
	bearingConn
	of *lastingNode
}

func (n *lastingNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n.away {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	c, err := n.Node.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &lastingConn{bearingConn{c, &bearingNode{}}, n}, nil
}

func (c *lastingConn) Bear(fd int, o node.BearOptions) (node.Borne, bool) {
	n := c.of
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &lasting{ticket: fmt.Sprint(len(n.all)), o: o}
	l.Borne, _ = c.bearingConn.Bear(fd, node.BearOptions{Ended: func(node.Borne) { l.with(node.BearOptions{}).Ended(l) }})
	n.all[l.ticket] = l
	return l, true
}

// adopted has a relay take all that it was left.
func (n *lastingNode) adopted(r *Relay) (list []node.Lasting) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ticket, l := range n.all {
		if o, ok := r.Adopt(ticket); ok {
			l.with(o)
			list = append(list, l)
		}
	}
	return list
}

// beginWith is begin with a node, of which not all forwards come at first.
func beginWith(t *testing.T, left *Handover, n node.Node) *life {
	t.Helper()
	r := New(Options{Handover: left, Patient: true, Nodes: func(name string) (node.Node, error) {
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

// TestWards has streams that a node carries go on in the next relay, whether their forwards come before they are adopted or afterwards.
func TestWards(t *testing.T) {
	n := &lastingNode{Node: host.New(), all: map[string]*lasting{}}
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	first, late, lost := fwd(t, "first", freePort(t), target), fwd(t, "late", freePort(t), target), fwd(t, "lost", freePort(t), target)
	var clients []net.Conn
	for _, f := range []*forward.Forward{first, late, lost} {
		f.Via = "far"
	}
	l := beginWith(t, nil, n)
	apply(t, l.Relay, first, late, lost)
	for _, f := range []*forward.Forward{first, late, lost} {
		c := dial(t, "tcp", "127.0.0.1:"+f.Listen.Ports.String())
		ask(t, c, "before")
		clients = append(clients, c)
	}
	for i := range 3 {
		eventually(t, "nobody to be dialled for", func() bool { return l.slow.Load() == 0 })
		left := l.leave(t)
		want := 2
		if i == 0 {
			want = 3
		}
		if len(left.Borne) != want || len(left.Sessions) != 0 {
			t.Fatalf("round %d: %+v", i, left)
		}
		l = beginWith(t, left, n)
		apply(t, l.Relay, first)
		list := n.adopted(l.Relay)
		if _, again := l.Adopt(left.Borne[0].Ticket); again || len(list) != want {
			t.Errorf("round %d: %d were adopted, one again: %v", i, len(list), again)
		}
		if i == 1 { // another process follows before all has come
			left = l.leave(t)
			if len(left.Borne) != want {
				t.Fatalf("%+v", left)
			}
			l = beginWith(t, left, n)
			apply(t, l.Relay, first)
			list = n.adopted(l.Relay)
		}
		l.Adopted(list)
		apply(t, l.Relay, first, late)
		for _, c := range clients[:2] {
			ask(t, c, "after")
		}
		l.LetGo(t.Context())
		bytes := uint64(len("before") + (i+1)*len("after"))
		all := sessionsOf(l.Relay)
		for _, s := range all {
			if s.BytesIn != bytes || s.BytesOut != bytes {
				t.Errorf("round %d: %+v, want %d bytes", i, s, bytes)
			}
		}
		if s := l.Stats()["late"]; len(all) != 2 || s.Open != 1 || s.Total != 0 || s.BytesIn > uint64(len("after")) {
			t.Errorf("round %d: %d sessions, %+v", i, len(all), s)
		}
	}
	if _, err := clients[2].Read(make([]byte, 1)); err == nil {
		t.Error("a stream goes on whose forward has gone")
	}
	for _, s := range sessionsOf(l.Relay) {
		if err := l.Kill(s.ID); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "all to end", func() bool { return len(sessionsOf(l.Relay)) == 0 && l.held.Load() == 0 })
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

// TestDiallingIsHandedOver has a client whose target is away wait for it in the next relay, too.
func TestDiallingIsHandedOver(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	f := fwd(t, "x", freePort(t), target)
	f.Via = "far"
	l := beginWith(t, nil, &lastingNode{away: true})
	apply(t, l.Relay, f)
	c := dial(t, "tcp", "127.0.0.1:"+f.Listen.Ports.String())
	eventually(t, "the client to be dialled for", func() bool { return l.slow.Load() == 1 })
	left := l.leave(t)
	if len(left.Clients) != 1 {
		t.Fatalf("%+v", left)
	}
	l = beginWith(t, left, &lastingNode{Node: host.New(), all: map[string]*lasting{}})
	apply(t, l.Relay, f)
	ask(t, c, "at last")
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}
