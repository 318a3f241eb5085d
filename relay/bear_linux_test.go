package relay

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// A bearingNode is a node whose connections carry sockets by themselves, with goroutines here.
type bearingNode struct {
	node.Node
	refuses bool
	prompt  bool // who kills what it carries is told of the end before that returns
	borne   atomic.Int64
}

type bearingConn struct {
	net.Conn
	node *bearingNode
}

func (n *bearingNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.Node.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &bearingConn{c, n}, nil
}

func (n *bearingNode) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.Node.Listen(ctx, network, addr)
	return &bearingListener{l, n}, err
}

type bearingListener struct {
	net.Listener
	node *bearingNode
}

func (l *bearingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &bearingConn{c, l.node}, nil
}

func (c *bearingConn) CloseWrite() error { return closeWrite(c.Conn) }

// leadingNode leads clients from accept to end, too.
type leadingNode struct {
	*bearingNode
	led, left atomic.Int64
}

func (n *leadingNode) Lead(fd int, _ netip.AddrPort, network, addr string, o node.LeadOptions) (node.Borne, bool) {
	if n.refuses {
		return nil, false
	}
	n.led.Add(1)
	l := &leading{}
	go func() {
		if o.First != nil && !asks(fd, o.First, &addr) {
			n.left.Add(1)
			o.First.Left()
			return
		}
		c, err := n.Node.Dial(context.Background(), cmp.Or(network, "tcp"), addr)
		if err != nil {
			if o.First == nil {
				_ = unix.Close(fd)
			}
			o.Failed(err)
			o.Ended(l)
			return
		}
		o.Connected()
		b, _ := (&bearingConn{c, n.bearingNode}).Bear(fd, o.BearOptions)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.Borne = b; l.killed {
			b.Kill()
		}
	}()
	return l, true
}

// asks asks a client where it goes; false is that it is left to others.
func asks(fd int, first *node.First, addr *string) bool {
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, int(first.Patience/time.Millisecond)); err != nil && err != unix.EINTR {
			return false
		}
		switch to, next := first.Ask(); next {
		case node.Asked:
			*addr = to
			return true
		case node.Leave:
			return false
		}
	}
}

type leading struct {
	mu     sync.Mutex
	killed bool
	node.Borne
}

func (l *leading) Moved() (from, to uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Borne == nil {
		return 0, 0
	}
	return l.Borne.Moved()
}

func (l *leading) Kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed = true
	if l.Borne != nil {
		l.Borne.Kill()
	}
}

type bearing struct {
	socket, conn net.Conn
	from, to     atomic.Uint64
	prompt       bool
	ended        func()
}

func (c *bearingConn) Bear(fd int, o node.BearOptions) (node.Borne, bool) {
	if c.node.refuses {
		return nil, false
	}
	c.node.borne.Add(1)
	file := os.NewFile(uintptr(fd), "borne")
	socket, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		panic(err)
	}
	b := &bearing{socket: socket, conn: c.Conn, prompt: c.node.prompt}
	var over atomic.Bool
	b.ended = func() {
		if over.CompareAndSwap(false, true) { // it may be killed while it is told
			o.Ended(b)
		}
	}
	go func() {
		var both sync.WaitGroup
		both.Go(func() { b.move(c.Conn, socket, &b.from) })
		both.Go(func() { b.move(socket, c.Conn, &b.to) })
		both.Wait()
		b.Kill()
		b.ended()
	}()
	return b, true
}

func (b *bearing) move(to, from net.Conn, count *atomic.Uint64) {
	_, _ = io.Copy(counting{plain(to), count}, plain(from))
	_ = closeWrite(to)
}

// counting counts what passes before it is there.
type counting struct {
	io.Writer
	count *atomic.Uint64
}

func (c counting) Write(p []byte) (int, error) {
	c.count.Add(uint64(len(p)))
	return c.Writer.Write(p)
}

func (b *bearing) Moved() (from, to uint64) { return b.from.Load(), b.to.Load() }

func (b *bearing) Kill() {
	_ = b.socket.Close()
	_ = b.conn.Close()
	if b.prompt {
		b.ended()
	}
}

// TestBorne has a node's connections carry the sockets of streams, in either direction; one that cannot leaves that to the
// relay.
func TestBorne(t *testing.T) {
	for _, n := range []*bearingNode{{Node: host.New()}, {Node: host.New(), refuses: true}, {Node: host.New(), prompt: true}} {
		r := start(t, nil, Options{Nodes: func(name string) (node.Node, error) {
			if name == forward.Host {
				return host.New(), nil
			}
			return n, nil
		}})
		addr := serve(t, "tcp", "127.0.0.1:0", echo).String()
		out, in := fwd(t, "out", "127.0.0.1:"+freePort(t), addr), fwd(t, "in", "127.0.0.1:"+freePort(t), addr)
		out.Via, in.At = "far", "far"
		apply(t, r, out, in)
		for _, f := range []*forward.Forward{out, in} {
			to := "127.0.0.1:" + f.Listen.Ports.String()
			c := dial(t, "tcp", to)
			ask(t, c, "ping")
			_ = closeWrite(c)
			if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
				t.Errorf("%s: at the end %q, %v", f.Name, got, err)
			}
			_ = c.Close()
			eventually(t, "the session to end", func() bool { return r.Stats()[f.Name].Open == 0 })
			if s := r.Stats()[f.Name]; s.Total != 1 || s.BytesIn != 4 || s.BytesOut != 4 {
				t.Errorf("%s counts %+v", f.Name, s)
			}
			if want := map[bool]int64{false: 1}[n.refuses]; n.borne.Load() != want {
				t.Errorf("%s: %d were borne, not %d", f.Name, n.borne.Load(), want)
			}

			c = dial(t, "tcp", to)
			eventually(t, "the session to be listed", func() bool { return r.Stats()[f.Name].Open == 1 })
			list, _ := r.Sessions()
			if err := r.Kill(list[0].ID); err != nil {
				t.Error(err)
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: a killed session goes on", f.Name)
			}
			_ = c.Close()
			eventually(t, "the killed session to go", func() bool { return r.Stats()[f.Name].Open == 0 })
			n.borne.Store(0)
		}
	}
}

// TestLed has a node lead clients by itself: to their end, to a target that refuses, and while it does not want to.
func TestLed(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		n := &leadingNode{bearingNode: &bearingNode{Node: host.New(), refuses: refuses}}
		r := start(t, nil, Options{Nodes: func(name string) (node.Node, error) {
			if name == forward.Host {
				return host.New(), nil
			}
			return n, nil
		}})
		good := fwd(t, "good", "127.0.0.1:"+freePort(t), serve(t, "tcp", "127.0.0.1:0", echo).String())
		bad := fwd(t, "bad", "127.0.0.2:"+freePort(t), "127.0.0.3:"+freePort(t))
		good.Via, bad.Via, good.MaxConnections = "far", "far", 1
		apply(t, r, good, bad)
		to := "127.0.0.1:" + good.Listen.Ports.String()
		c := dial(t, "tcp", to)
		ask(t, c, "ping")
		if another, err := net.Dial("tcp", to); err == nil { // it may be reset before it is there
			if _, err := another.Read(make([]byte, 1)); err == nil {
				t.Error("one more than max_connections got in")
			}
			_ = another.Close()
		}
		list, _ := r.Sessions()
		if len(list) != 1 || list[0].Target != good.To[0].String() {
			t.Errorf("sessions: %+v", list)
		}
		if err := r.Kill(list[0].ID); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a killed session goes on")
		}
		eventually(t, "the session to end", func() bool { return r.Stats()["good"].Open == 0 })
		if s := r.Stats()["good"]; s.Total != 1 || s.Refused != 1 {
			t.Errorf("good counts %+v", s)
		}
		if c, err := net.Dial("tcp", "127.0.0.2:"+bad.Listen.Ports.String()); err == nil {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("a target that refuses answers")
			}
			_ = c.Close()
		}
		eventually(t, "the refusal to be counted", func() bool { s := r.Stats()["bad"]; return s.Refused == 1 && s.Total == 0 && s.Note != "" })
		if want := map[bool]int64{false: 2}[refuses]; n.led.Load() != want {
			t.Errorf("%d were led, not %d", n.led.Load(), want)
		}
	}
}
