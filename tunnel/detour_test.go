package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// A detours is a link whose first lane can go on beside it.
type detours struct {
	*besides
	hub  bool
	made chan tunnel.Lane // the hub's ends
	had  *atomic.Int64    // bytes that have passed there
	fail *atomic.Bool
	many *atomic.Int64
}

// A counted is a lane that counts what it reads.
type counted struct {
	tunnel.Lane
	had *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Lane.Read(p)
	c.had.Add(int64(n))
	return n, err
}

func (l *detours) Detour(ctx context.Context) (tunnel.Lane, error) {
	if !l.hub {
		if l.fail.Load() {
			return nil, errNoLane
		}
		l.many.Add(1)
		here, there := l.Beside()
		l.made <- counted{there, l.had}
		return counted{here, l.had}, nil
	}
	select {
	case c := <-l.made:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// detouring has the duo's ends joined by a link of which detours can be made.
func (d *duo) detouring(o tunneltest.Options) (*detours, error) {
	o.Agent, o.Hub, o.Lanes = agentKey, hubKey, true
	a, h := tunneltest.Pair(o)
	agent := &detours{newBesides(a), false, make(chan tunnel.Lane, 8), new(atomic.Int64), new(atomic.Bool), new(atomic.Int64)}
	hub := &detours{newBesides(h), true, agent.made, agent.had, agent.fail, agent.many}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	joined := make(chan error, 1)
	go func() {
		c, err := tunnel.Receive(ctx, hub)
		if err == nil {
			err = c.Join(d.hub.Session, tunnel.Hello{Name: "hub"})
		}
		joined <- err
	}()
	_, err := d.agent.Attach(ctx, agent, tunnel.Hello{Name: "agent"})
	return agent, errors.Join(err, <-joined)
}

// chat has a stream say so many things, and hear each of them.
func chat(t *testing.T, st io.ReadWriter, times int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	for i := range times {
		p := make([]byte, 1+r.IntN(100))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		if _, err := st.Write(p); err != nil {
			t.Errorf("%d: %v", i, err)
			return
		}
		got := make([]byte, len(p))
		if _, err := io.ReadFull(st, got); err != nil || !bytes.Equal(got, p) {
			t.Errorf("%d: what came back is not what was said, or %v", i, err)
			return
		}
	}
}

// TestDetour: while there is much to say in small pieces it goes beside the link, and on the link again when there is not.
func TestDetour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
		l, err := d.detouring(tunneltest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		talk := func() {
			var all sync.WaitGroup
			for i, s := range []*side{d.hub, d.agent, d.hub} {
				st := d.open(s, tcp("x:1"))
				all.Go(func() {
					chat(t, st, 600, uint64(i))
					_ = st.Close()
				})
			}
			all.Wait()
		}
		for round := range int64(3) {
			l.had.Store(0)
			talk()
			if n := l.had.Load(); n == 0 || l.many.Load() != round+1 {
				t.Fatalf("round %d: %d bytes went beside the link, and there were %d detours", round, n, l.many.Load())
			}
			time.Sleep(20 * time.Second)
			l.had.Store(0)
			chat(t, d.open(d.hub, tcp("x:1")), 20, 7)
			if n := l.had.Load(); n != 0 {
				t.Fatalf("round %d: %d bytes went beside the link, where there was little to say", round, n)
			}
		}
		if l.Err() != nil {
			t.Error(l.Err())
		}
		l.fail.Store(true)
		talk()
		if n := l.many.Load(); n != 3 || l.Err() != nil {
			t.Errorf("%d detours, and %v, where none can be made", n, l.Err())
		}
		if s := d.open(d.hub, tcp("x:1")); s.Close() != nil {
			t.Error("a stream does not close")
		}
	})
}

// TestDetoursAreCut: on whichever of its ways the lane is when the link dies, nothing is lost.
func TestDetoursAreCut(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	r := rand.New(rand.NewPCG(1, 2))
	var cuts sync.WaitGroup
	var aside atomic.Int64
	cuts.Go(func() {
		for ctx.Err() == nil {
			l, err := d.detouring(tunneltest.Options{CutAfter: 20000 + r.IntN(200000)})
			if err != nil {
				continue // it was cut already
			}
			select {
			case <-l.Done():
			case <-ctx.Done():
			}
			aside.Add(l.many.Load())
		}
	})
	var all sync.WaitGroup
	for i := range uint64(4) {
		all.Go(func() {
			st, err := []*side{d.agent, d.hub}[i%2].Open(t.Context(), tcp("x:1"))
			if err != nil {
				t.Error(err)
				return
			}
			chat(t, st, 5000, i)
			_ = st.Close()
		})
	}
	all.Wait()
	d.settles()
	cancel()
	cuts.Wait()
	if aside.Load() < 3 {
		t.Errorf("%d detours", aside.Load())
	}
}

// TestMoveAtTheWrongTime: a hub whose agent says MOVE for nothing ends the link.
func TestMoveAtTheWrongTime(t *testing.T) {
	for name, frames := range map[string][]byte{
		"back from nowhere": wire.AppendNumber(nil, wire.TypeMove, 0),
		"to nowhere":        wire.AppendNumber(nil, wire.TypeMove, 2),
		"and more":          wire.AppendNumber(wire.AppendNumber(nil, wire.TypeMove, 1), wire.TypePing, 1),
		"too short":         {byte(wire.TypeMove), 0},
		"of a link without": wire.AppendNumber(nil, wire.TypeMove, 1),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
			a, h := tunneltest.Pair(tunneltest.Options{Agent: agentKey, Hub: hubKey})
			joined := make(chan error, 1)
			go func() {
				c, err := tunnel.Receive(t.Context(), h)
				if err == nil {
					err = c.Join(d.hub.Session, tunnel.Hello{})
				}
				joined <- err
			}()
			lane, err := a.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			hello := wire.Hello{Lowest: 1, Highest: 1, Session: [16]byte{7}}
			_, _ = lane.Write(append(wire.AppendEmpty(hello.Append(nil), wire.TypeReady), frames...))
			if err := <-joined; err != nil {
				t.Fatal(err)
			}
			select {
			case <-a.Done():
			case <-time.After(30 * time.Second):
				t.Error("the link goes on")
			}
		})
	}
}
