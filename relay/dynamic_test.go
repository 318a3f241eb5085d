package relay

import (
	"context"
	"net"
	"testing"

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
	task.change(proxy, h)
	near, far := net.Pipe()
	defer far.Close()
	s := &stream{near: near, cancel: func() {}}
	if err := task.enter(s, proxy); err != nil {
		t.Fatal(err)
	}
	task.change(fwd(t, "p", "127.0.0.1:1", "127.0.0.1:2"), nil)
	r.serveDynamic(t.Context(), s, proxy)
	if !served {
		t.Error("the client was not served")
	}
}
