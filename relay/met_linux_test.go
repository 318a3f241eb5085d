package relay

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// A greetingNode is a bearingNode whose listeners show what arrives.
type greetingNode struct{ *bearingNode }

func (n *greetingNode) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.bearingNode.Listen(ctx, network, addr)
	return &greetingListener{Listener: l, node: n.bearingNode}, err
}

type greetingListener struct {
	net.Listener
	node  *bearingNode
	greet atomic.Pointer[func(node.Arrival) bool]
}

func (l *greetingListener) Greet(greet func(node.Arrival) bool) { l.greet.Store(&greet) }

// Accept shows every connection before it returns it.
func (l *greetingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if greet := l.greet.Load(); greet == nil || !(*greet)(&shown{c.(*bearingConn)}) {
			return c, nil
		}
	}
}

type shown struct{ *bearingConn }

func (a *shown) Refuse() { reset(a.Conn) }

// Meet does with a goroutine what nodes do in a loop.
func (a *shown) Meet(fd int, o node.MeetOptions) node.Borne {
	l := &leading{}
	go func() {
		for timeout := o.Timeout; ; {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			_, err := unix.Poll(poll, int(timeout/time.Millisecond))
			if err == unix.EINTR {
				continue
			}
			errno, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if errno == 0 {
				break
			}
			_ = unix.Close(fd)
			if fd, timeout = o.Failed(unix.Errno(errno)); fd < 0 {
				reset(a.Conn)
				o.Ended(l)
				return
			}
		}
		o.Connected()
		b, _ := a.Bear(fd, o.BearOptions)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.Borne = b; l.killed {
			b.Kill()
		}
	}()
	return l
}

// TestMet has a node carry what arrives there: to a target, to the second address of one, up to a limit, to a target that refuses; and
// what nobody can meet is accepted as ever.
func TestMet(t *testing.T) {
	n := &greetingNode{&bearingNode{Node: host.New()}}
	r := start(t, nil, Options{Nodes: func(name string) (node.Node, error) {
		if name == forward.Host {
			return host.New(), nil
		}
		return n, nil
	}})
	echoes := serve(t, "tcp", "127.0.0.1:0", echo).(*net.TCPAddr)
	port := strconv.Itoa(echoes.Port)
	good := fwd(t, "good", "127.0.0.1:"+freePort(t), echoes.String())
	local := fwd(t, "local", "127.0.0.2:"+freePort(t), ":"+port)
	bad := fwd(t, "bad", "127.0.0.3:"+freePort(t), "127.0.0.4:"+freePort(t))
	named := fwd(t, "named", "127.0.0.5:"+freePort(t), "localhost:"+port)
	good.MaxConnections = 1
	all := []*forward.Forward{good, local, bad, named}
	for _, f := range all {
		f.At = "far"
	}
	apply(t, r, all...)
	at := func(f *forward.Forward) string { return f.Listen.Addr.String() + ":" + f.Listen.Ports.String() }

	c := dial(t, "tcp", at(good))
	ask(t, c, "ping")
	refused := func(f *forward.Forward) {
		t.Helper()
		if c, err := net.Dial("tcp", at(f)); err == nil { // it may be reset before it is there
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: a client gets in", f.Name)
			}
			_ = c.Close()
		}
		eventually(t, "the refusal to be counted", func() bool { return r.Stats()[f.Name].Refused == 1 })
	}
	refused(good)
	refused(bad)
	if s := r.Stats()["bad"]; s.Total != 0 || s.Note == "" {
		t.Errorf("bad counts %+v", s)
	}
	list, _ := r.Sessions()
	if len(list) != 1 || list[0].Target != good.To[0].String() {
		t.Fatalf("sessions: %+v", list)
	}
	if err := r.Kill(list[0].ID); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a killed session goes on")
	}
	for _, f := range []*forward.Forward{local, named} {
		c := dial(t, "tcp", at(f))
		ask(t, c, "ping")
		_ = c.Close()
		eventually(t, "the session to end", func() bool { return r.Stats()[f.Name].Open == 0 })
		if s := r.Stats()[f.Name]; s.Total != 1 || s.BytesIn != 4 || s.BytesOut != 4 {
			t.Errorf("%s counts %+v", f.Name, s)
		}
	}
	eventually(t, "the session to end", func() bool { return r.Stats()["good"].Open == 0 })
	if s := r.Stats()["good"]; s.Total != 1 || s.Refused != 1 {
		t.Errorf("good counts %+v", s)
	}
}
