package agent_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/node/nodetest"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// slow is Forwards that take their time to listen.
type slow struct {
	*nodetest.Forwards
	put     chan struct{} // Put was called
	proceed chan struct{}
	deleted chan string
}

func newSlow(f *nodetest.Forwards) *slow {
	return &slow{f, make(chan struct{}, 16), make(chan struct{}), make(chan string, 16)}
}

func (s *slow) Put(ctx context.Context, key string, listen forward.Door, n node.Node) (string, forward.Door, error) {
	name, bound, err := s.Forwards.Put(ctx, key, listen, n)
	s.put <- struct{}{}
	<-s.proceed
	return name, bound, err
}

func (s *slow) Delete(ctx context.Context, name string, n node.Node) error {
	s.deleted <- name
	return s.Forwards.Delete(ctx, name, n)
}

// A fickle landlord changes its mind.
type fickle struct {
	agent.Landlord
	no atomic.Bool
}

func (f *fickle) Permit(at forward.Door) error {
	if f.no.Load() {
		return errors.New("not any more")
	}
	return f.Landlord.Permit(at)
}

// closes waits until nobody listens, and looks that each listener is closed once.
func (s *slow) closes(t *testing.T, far *agent.Far) {
	t.Helper()
	select {
	case name := <-s.deleted:
		if name == "" {
			t.Error("what has no name was closed")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it is listened for still")
	}
	for deadline := time.Now().Add(30 * time.Second); len(s.Open()) > 0 || far.Listens() > 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v is listened at, and %d are known", s.Open(), far.Listens())
		}
	}
	select {
	case name := <-s.deleted:
		t.Errorf("%q was closed, too", name)
	default:
	}
}

// TestPermissionEndsWhileAPlaceIsOpened: what is no longer permitted when somebody has begun to listen is closed again.
func TestPermissionEndsWhileAPlaceIsOpened(t *testing.T) {
	var s *slow
	var landlord *fickle
	p := connect(t, tunneltest.Options{}, func(far *agent.Options, _ *agent.HubOptions) {
		s = newSlow(far.Forwards.(*nodetest.Forwards))
		landlord = &fickle{Landlord: far.Landlord}
		far.Forwards, far.Landlord = s, landlord
	})
	isUp(t, p.hub)
	l, err := p.hub.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	<-s.put
	landlord.no.Store(true)
	p.far.Revise()
	for p.far.Listens() > 0 { // it has looked
		time.Sleep(time.Millisecond)
	}
	close(s.proceed)
	s.closes(t, p.far)
	if l.(node.Stated).State().Up {
		t.Error("the listener thinks that it is there")
	}
}

// connectsOnce has an agent connect to its hub once, and wait for ever after that.
func connectsOnce(hub *agent.HubOptions) {
	first, connect := true, hub.Connect
	hub.Connect = func(ctx context.Context, failed func(error)) (tunnel.Link, error) {
		if !first {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		first = false
		return connect(ctx, failed)
	}
}

// TestSessionEndsWhileAPlaceIsOpened: a place that somebody has begun to listen at for a session that has ended meanwhile is nobody's.
func TestSessionEndsWhileAPlaceIsOpened(t *testing.T) {
	var s *slow
	p := connect(t, tunneltest.Options{}, func(far *agent.Options, hub *agent.HubOptions) {
		s = newSlow(far.Forwards.(*nodetest.Forwards))
		far.Forwards, far.Linger = s, time.Hour
		connectsOnce(hub)
	})
	isUp(t, p.hub)
	l, err := p.hub.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	<-s.put
	p.far.Session().End(tunnel.Gone, "that was it")
	for p.far.Session() != nil {
		time.Sleep(time.Millisecond)
	}
	close(s.proceed)
	s.closes(t, p.far)
}

// TestSessionsAgainAndAgain: an agent with a place that begins session after session costs the hub no goroutine for each.
func TestSessionsAgainAndAgain(t *testing.T) {
	p := connect(t, tunneltest.Options{}, func(far *agent.Options, hub *agent.HubOptions) {
		far.Linger = time.Hour
		connectsOnce(hub)
	})
	isUp(t, p.hub)
	l, err := p.hub.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	isUp(t, l.(node.Stated))
	before := runtime.NumGoroutine()
	for i := range 1000 {
		p.far.Begin(tunnel.Options{Side: tunnel.Hub, ID: tunnel.ID{byte(i), byte(i >> 8), 1}})
	}
	for deadline := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before+100; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, and there were %d", runtime.NumGoroutine(), before)
		}
	}
}

// TestHubThatForgets: a hub that takes an agent in and knows nothing of it a moment later does not have it come back without a pause.
func TestHubThatForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		came := 0
		hub, err := agent.NewHub(agent.HubOptions{
			Connect: func(context.Context, func(error)) (tunnel.Link, error) {
				came++
				a, h := tunneltest.Pair(tunneltest.Options{Agent: agentKey, Hub: hubKey})
				go func() {
					c, err := tunnel.Receive(context.Background(), h)
					switch {
					case err != nil:
					case c.Hello.Resume:
						c.Refuse(tunnel.Gone, "")
					default:
						s := tunnel.New(tunnel.Options{Side: tunnel.Hub, ID: c.Hello.Session})
						ctx, cancel := context.WithCancel(context.Background())
						go func() { _ = s.Run(ctx) }()
						_ = c.Join(s, tunnel.Hello{})
						time.Sleep(time.Millisecond)
						h.Cut()
						cancel()
					}
				}()
				return a, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- hub.Run(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		<-done
		if came < 10 || came > 1000 {
			t.Errorf("in a minute it has come %d times", came)
		}
	})
}
