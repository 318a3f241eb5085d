package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// asks notes the requests that come.
type asks struct {
	mu  sync.Mutex
	ids []uint64
}

func (a *asks) Opened(*tunnel.Arrival) {}

func (a *asks) Asked(name string, payload []byte, reply func([]byte, error)) {
	u, err := parseUnlisten(payload)
	if name != askUnlisten {
		err = errors.New(name)
	}
	a.mu.Lock()
	a.ids = append(a.ids, u.ID)
	a.mu.Unlock()
	reply(nil, err)
}

// TestUnclaimedListenersAreClosed: what an earlier process listened at, and nobody asks for in this one, is not listened at for ever.
func TestUnclaimedListenersAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := &asks{}
		f := New(Options{})
		h := &handler{far: f}
		near := tunnel.New(tunnel.Options{Side: tunnel.Agent, Handler: h})
		h.session = &session{near, make(chan struct{})}
		there := tunnel.New(tunnel.Options{Side: tunnel.Hub, Handler: heard})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = near.Run(ctx) })
		running.Go(func() { _ = there.Run(ctx) })
		a, b := tunneltest.Pair(tunneltest.Options{})
		running.Go(func() {
			if c, err := tunnel.Receive(ctx, b); err == nil {
				_ = c.Join(there, tunnel.Hello{})
			}
		})
		if _, err := near.Attach(ctx, a, tunnel.Hello{}); err != nil {
			t.Fatal(err)
		}
		at, err := listenOf("tcp", "127.0.0.1", 80)
		if err != nil {
			t.Fatal(err)
		}
		other, err := listenOf("tcp", "127.0.0.1", 81)
		if err != nil {
			t.Fatal(err)
		}
		f.asked.thaw([]FrozenAsking{{ID: 7, Network: "tcp", At: forward.Door{Listen: at}}, {ID: 9, Network: "tcp", At: forward.Door{Listen: other}}})
		claimed := &asking{far: f, network: "tcp", at: forward.Door{Listen: at}}
		if err := f.asked.add(claimed); err != nil || claimed.id != 7 {
			t.Errorf("%d, %v", claimed.id, err)
		}
		early := make(chan error, 1)
		go func() {
			_, err := there.Open(ctx, tunnel.Call{Kind: tunnel.Arrived, Network: "tcp", Listener: 9})
			early <- err
		}()
		synctest.Wait()
		f.disclaim(ctx, h.session)
		var no *tunnel.Error
		if err := <-early; !errors.As(err, &no) || no.Code != tunnel.Gone {
			t.Errorf("who had come there was told %v", err)
		}
		if !slices.Equal(heard.ids, []uint64{9}) {
			t.Errorf("%v were closed", heard.ids)
		}
		cancel()
		running.Wait()
	})
}
