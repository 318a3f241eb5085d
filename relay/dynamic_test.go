package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/relay/head"
)

// A headFunc is a head.Head.
type headFunc func(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error)

func (f headFunc) Serve(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error) {
	return f(ctx, client, env)
}

// A client that was taken in when the forward was a proxy is served as one, though the forward is none any more.
func TestProxyBecomesPlain(t *testing.T) {
	served := false
	h := headFunc(func(context.Context, net.Conn, head.Env) (head.Outcome, error) {
		served = true
		return head.Outcome{}, nil
	})
	r := New(Options{})
	proxy := fwd(t, "p", "127.0.0.1:1", "socks")
	task := newTask(proxy)
	task.change(proxy, h, nil)
	near, far := net.Pipe()
	defer far.Close()
	s := &stream{near: near, cancel: func() {}}
	if err := task.enter(s, proxy); err != nil {
		t.Fatal(err)
	}
	task.change(fwd(t, "p", "127.0.0.1:1", "127.0.0.1:2"), nil, nil)
	r.serveDynamic(t.Context(), s, proxy)
	if !served {
		t.Error("the client was not served")
	}
}

// Clients that live long in goroutines, and end with this process, are not waited for.
func TestLeavingWaitsForNobodyWhoStays(t *testing.T) {
	stays := headFunc(func(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error) {
		env.Count(1, 1)
		env.Count(1, 1)
		_, err := client.Read(make([]byte, 1))
		return head.Outcome{}, err
	})
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	r := start(t, pipeNode{host.New()}, Options{Heads: func(*forward.Forward) head.Head { return stays }})
	proxy, plain := freePort(t), freePort(t)
	apply(t, r, fwd(t, "plain", plain, target), fwd(t, "proxy", "127.0.0.1:"+proxy, "socks"))
	a, b := dial(t, "tcp", "127.0.0.1:"+plain), dial(t, "tcp", "127.0.0.1:"+proxy)
	ask(t, a, "hello")
	eventually(t, "nobody to be on his way", func() bool { return r.slow.Load() == 0 && len(r.tasks["proxy"].list()) == 1 })
	a.Close()
	b.Close()
	eventually(t, "the clients to leave", func() bool {
		return len(r.tasks["proxy"].list()) == 0 && len(r.tasks["plain"].list()) == 0 && r.slow.Load() == 0
	})
}

// pipeNode dials connections that are no sockets to whoever looks.
type pipeNode struct{ node.Node }

func (n pipeNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.Node.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return wrapped{c}, nil
}

type wrapped struct{ net.Conn }

func (w wrapped) CloseWrite() error { return w.Conn.(*net.TCPConn).CloseWrite() }

// What the engine does not carry may be idle no longer than what it does.
func TestIdleWithoutTheEngine(t *testing.T) {
	counts := headFunc(func(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error) {
		env.Count(1, 1)
		_, err := client.Read(make([]byte, 1))
		return head.Outcome{}, err
	})
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	r := start(t, pipeNode{host.New()}, Options{Heads: func(*forward.Forward) head.Head { return counts }})
	proxy, plain := freePort(t), freePort(t)
	forwards := []*forward.Forward{fwd(t, "plain", plain, target), fwd(t, "proxy", "127.0.0.1:"+proxy, "socks")}
	for _, f := range forwards {
		f.IdleTimeout = 3 * time.Second // so long that a busy machine does not hold up the test for that time
	}
	apply(t, r, forwards...)
	a, b := dial(t, "tcp", "127.0.0.1:"+plain), dial(t, "tcp", "127.0.0.1:"+proxy)
	for end := time.Now().Add(forwards[0].IdleTimeout * 5 / 4); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ask(t, a, "hello")
	}
	for _, c := range []net.Conn{a, b} {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it is idle and goes on: %v", err)
		}
	}
}
