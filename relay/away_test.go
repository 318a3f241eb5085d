package relay

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// farNode is a node that listens here and is told apart from every other one.
type farNode struct {
	node.Node
	last net.Listener
}

func (n *farNode) Listen(ctx context.Context, network, addr string) (l net.Listener, err error) {
	n.last, err = n.Node.Listen(ctx, network, addr)
	return plainListener{n.last}, err
}

// plainListener is none that the engine takes over.
type plainListener struct{ net.Listener }

// startFar runs a relay with a node "far", which may be replaced.
func startFar(t *testing.T) (*Relay, *atomic.Pointer[farNode]) {
	t.Helper()
	var far atomic.Pointer[farNode]
	far.Store(&farNode{Node: host.New()})
	r := New(Options{Nodes: func(name string) (node.Node, error) {
		switch n := far.Load(); {
		case name == forward.Host:
			return host.New(), nil
		case n != nil:
			return n, nil
		}
		return nil, errors.New("there is no such node")
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r, &far
}

func TestListenerThatEndedIsOpenedAgain(t *testing.T) {
	r, far := startFar(t)
	f := fwd(t, "a", "127.0.0.1:"+freePort(t), serve(t, "tcp", "127.0.0.1:0", echo).String())
	f.At = "far"
	if err := r.Apply(t.Context(), forward.ListOf(f))["a"]; err != nil {
		t.Fatal(err)
	}
	if r.Lost() {
		t.Error("nothing is lost, and Lost says so")
	}
	_ = far.Load().last.Close()
	eventually(t, "the relay to say that a listener is lost", r.Lost)
	if err := r.Apply(t.Context(), forward.ListOf(f))["a"]; err != nil {
		t.Fatal(err)
	}
	c := dial(t, "tcp", far.Load().last.Addr().String())
	ask(t, c, "hello")
	c.Close()
	if r.Lost() {
		t.Error("the listener is there again, and Lost says that it is not")
	}
}

func TestListenerMovesToTheNodeThatTookTheName(t *testing.T) {
	r, far := startFar(t)
	f := fwd(t, "a", "127.0.0.1:"+freePort(t), "127.0.0.1:1")
	f.At = "far"
	if err := r.Apply(t.Context(), forward.ListOf(f))["a"]; err != nil {
		t.Fatal(err)
	}
	next := &farNode{Node: host.New()}
	far.Store(next)
	if err := r.Apply(t.Context(), forward.ListOf(f))["a"]; err != nil || next.last == nil {
		t.Errorf("the new node listens: %v, %v", next.last != nil, err)
	}
	far.Store(nil)
	if err := r.Apply(t.Context(), forward.ListOf(f))["a"]; err == nil {
		t.Error("the forward listens at a node that there is not any more")
	}
	far.Store(next)
	if err := r.Apply(t.Context(), forward.ListOf(f))["a"]; err != nil {
		t.Error(err)
	}
}

func TestForwardThroughNoNodeWaits(t *testing.T) {
	r, far := startFar(t)
	f := fwd(t, "a", "127.0.0.1:"+freePort(t), "127.0.0.1:1")
	f.Via = "far"
	if err := r.Apply(t.Context(), forward.ListOf(f))["a"]; err != nil {
		t.Fatal(err)
	}
	if why := r.Stats()["a"].Waiting; why != "" {
		t.Errorf("it waits: %s", why)
	}
	far.Store(nil)
	if why := r.Stats()["a"].Waiting; why != "there is no such node" {
		t.Errorf("it waits: %q", why)
	}
}

// saidNode is a node that says how it is doing.
type saidNode struct {
	node.Node
	state atomic.Pointer[node.State]
}

func (n *saidNode) State() node.State { return *n.state.Load() }

// TestWhatANodeSaysOfItself: a forward waits for a node that is away, and of one that is there it says what is strange about it.
func TestWhatANodeSaysOfItself(t *testing.T) {
	far := &saidNode{Node: host.New()}
	far.state.Store(&node.State{Up: true})
	r := New(Options{Nodes: func(name string) (node.Node, error) {
		if name == "far" {
			return far, nil
		}
		return host.New(), nil
	}})
	f := fwd(t, "a", "127.0.0.1:"+freePort(t), "127.0.0.1:1")
	f.Via = "far"
	for _, test := range []struct {
		state         node.State
		waiting, note string
	}{
		{node.State{Up: true}, "", ""},
		{node.State{Up: true, Why: "silent for 3s"}, "", "node far: silent for 3s"},
		{node.State{Why: "gone"}, "node far: gone", ""},
	} {
		far.state.Store(&test.state)
		if waiting, note := r.waiting(f); waiting != test.waiting || note != test.note {
			t.Errorf("%+v: it waits for %q, and %q is to be known", test.state, waiting, note)
		}
	}
}
