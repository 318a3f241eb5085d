package relay

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// A transparent is a fake Transparent that says what it was asked for.
type transparent struct {
	mu    sync.Mutex
	calls []string
	err   error // the answer to Acquire
}

func (f *transparent) Acquire() error { return f.note("acquire", f.err) }
func (f *transparent) Release() error { return f.note("release", nil) }

func (f *transparent) note(call string, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	return err
}

// took returns the calls since it was last asked.
func (f *transparent) took() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := strings.Join(f.calls, " ")
	f.calls = nil
	return calls
}

// keepFwd is fwd with source = "keep". Clients of these tests are on loopback, so their addresses are not kept.
func keepFwd(t *testing.T, name, listen, to string) *forward.Forward {
	f := fwd(t, name, listen, to)
	f.Source = forward.SourceKeep
	return f
}

func TestKeeperComesAndGoes(t *testing.T) {
	fake := &transparent{}
	r := startRelay(t)
	r.keep.transparent = fake
	expect := func(what, want string) {
		t.Helper()
		if got := fake.took(); got != want {
			t.Errorf("%s: %q, expected %q", what, got, want)
		}
	}
	port := freePort(t)
	plain := fwd(t, "a", "127.0.0.1:"+port, serve(t, "tcp", "127.0.0.1:0", echo).String())
	apply(t, r, plain)
	expect("what an earlier process left", "release")
	apply(t, r)
	expect("nothing to do", "")

	kept := keepFwd(t, "a", "127.0.0.1:"+port, plain.To[0].String())
	apply(t, r, kept)
	apply(t, r, kept, keepFwd(t, "b", "127.0.0.1:"+freePort(t), plain.To[0].String()))
	expect("two that keep", "acquire")
	c := dial(t, "tcp", "127.0.0.1:"+port)
	ask(t, c, "hello")

	apply(t, r, plain)
	r.reviewAddresses()
	expect("a session goes on", "")
	ask(t, c, "still there")
	_ = c.Close()
	eventually(t, "the routing to go with the session", func() bool {
		r.reviewAddresses()
		return fake.took() == "release"
	})
	apply(t, r, kept)
	if err := r.Clear(); err != nil {
		t.Error(err)
	}
	expect("down", "acquire release")
}

// TestKeeperFails has one forward fail and not the other, and come back.
func TestKeeperFails(t *testing.T) {
	fake := &transparent{err: errors.New("no such luck")}
	r := startRelay(t)
	r.keep.transparent = fake
	to := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	want := []*forward.Forward{fwd(t, "a", "127.0.0.1:"+freePort(t), to), keepFwd(t, "b", "127.0.0.1:"+port, to)}
	result := r.Apply(t.Context(), forward.ListOf(want...))
	if result["a"] != nil || result["b"] == nil || !strings.Contains(result["b"].Error(), "no such luck") {
		t.Errorf("got %v", result)
	}
	fake.err = nil
	apply(t, r, want...)
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
	if r.Lost() {
		t.Error("lost what is there")
	}
	fake.err = errors.New("taken away")
	if !r.Lost() {
		t.Error("what was taken away is not missed")
	}
	if result := r.Apply(t.Context(), forward.ListOf(want...)); result["a"] != nil || result["b"] == nil {
		t.Errorf("got %v", result)
	}
}

// A plainNode dials from its own addresses alone.
type plainNode struct{ node.Node }

// TestKeepNeedsASourceNode turns a client away rather than show the target another address.
func TestKeepNeedsASourceNode(t *testing.T) {
	r := startRelayOn(t, plainNode{host.New()})
	s := &session{network: forward.TCP, client: netip.MustParseAddrPort("192.0.2.1:5000")}
	if _, err := r.dialer(s, keepFwd(t, "a", "80", "192.168.1.1")); err == nil || !strings.Contains(err.Error(), "its own addresses only") {
		t.Errorf("got %v", err)
	}
}
