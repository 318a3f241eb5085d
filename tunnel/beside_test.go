package tunnel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// A besides is a link with lanes beside it, which the test brings.
type besides struct {
	*tunneltest.Link
	got   func(tunnel.Lane)
	bring func() error  // nil: it cannot be done
	none  chan struct{} // NotBrought was called
}

func newBesides(l *tunneltest.Link) *besides {
	return &besides{Link: l, none: make(chan struct{}, 1<<10)}
}

var errNoLane = errors.New("there are no lanes beside this link")

// Side is none that comes, and the hub waits to hear that.
func (b *besides) Side(ctx context.Context, ask func()) (tunnel.Lane, error) {
	ask()
	select {
	case <-b.none:
		return nil, errNoLane
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *besides) Bring(context.Context) error {
	if b.bring == nil {
		return errNoLane
	}
	return b.bring()
}

func (b *besides) NotBrought() {
	select {
	case b.none <- struct{}{}:
	default:
	}
}

func (b *besides) Detour(context.Context) (tunnel.Lane, error) { return nil, tunnel.ErrOneLane }

func (b *besides) Sides(got func(lane tunnel.Lane)) { b.got = got }

// askedAgent is an agent's link, and how its hub, which is the test, asks for lanes beside it: it returns how many times the agent has said that there is none.
func askedAgent(t *testing.T) (agent *besides, ask func(times int) (none int)) {
	d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
	a, h := tunneltest.Pair(tunneltest.Options{Agent: agentKey, Hub: hubKey})
	agent = newBesides(a)
	attached := make(chan error)
	go func() {
		_, err := d.agent.Attach(t.Context(), agent, tunnel.Hello{})
		attached <- err
	}()
	lane, err := h.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hello := wire.Hello{Lowest: 1, Highest: 1, Session: [16]byte{7}}
	_, _ = lane.Write(wire.AppendEmpty(hello.Append(nil), wire.TypeReady))
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	heard := make(chan wire.Type, 1<<10)
	go func() {
		defer close(heard)
		var b []byte
		for {
			typ, size, n, _ := wire.Head(b, wire.MaxBody)
			if n > 0 && len(b) >= n+size {
				heard <- typ
				b = b[n+size:]
				continue
			}
			more := make([]byte, 4096)
			n, err := lane.Read(more)
			if b = append(b, more[:n]...); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { a.Cut() })
	return agent, func(times int) (none int) {
		_, _ = lane.Write([]byte{0x90, 0})
		for range times {
			_, _ = lane.Write(wire.AppendEmpty(nil, wire.TypeSide))
		}
		synctest.Wait()
		for {
			select {
			case typ, open := <-heard:
				switch {
				case !open:
					t.Fatal("the link has ended")
				case typ == wire.TypeNoSide:
					none++
				}
			default:
				return none
			}
		}
	}
}

// TestAgentBringsNone: an agent that cannot bring a lane says so, and does not try again at once.
func TestAgentBringsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent, ask := askedAgent(t)
		tries := 0
		agent.bring = func() error {
			tries++
			return errNoLane
		}
		if none := ask(1); none != 1 || tries != 1 {
			t.Errorf("it says so %d times, and has tried %d times", none, tries)
		}
		if none := ask(3); none != 3 || tries != 1 {
			t.Errorf("asked 3 times more, it says so %d times, and has tried %d times", none, tries)
		}
		for range 11 {
			time.Sleep(time.Second)
			ask(0) // or it is dead
		}
		if none := ask(1); none != 1 || tries != 2 {
			t.Errorf("a while later it says so %d times, and has tried %d times", none, tries)
		}
	})
}

// TestAgentBringsInVain: a hub that has lanes brought, and ends each without a word, does not have its agent dial for ever.
func TestAgentBringsInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent, ask := askedAgent(t)
		near, far := tunneltest.Pair(tunneltest.Options{Lanes: true})
		tries, say := 0, false
		agent.bring = func() error {
			tries++
			lane, err := near.Open(t.Context())
			if err != nil {
				return err
			}
			brought, err := far.Accept(t.Context())
			if err != nil {
				return err
			}
			if say {
				_, _ = lane.Write([]byte{0x90, 0})
			}
			agent.got(brought)
			return lane.Close()
		}
		say = true
		for range 100 {
			ask(1)
		}
		if tries != 100 {
			t.Errorf("of lanes that are of use there are %d", tries)
		}
		tries, say = 0, false
		none := 0
		for range 100 {
			none += ask(1)
		}
		if tries > 50 || none != 100-tries {
			t.Errorf("of 100 lanes in vain it has brought %d, and refused %d", tries, none)
		}
		near.Cut()
	})
}

// TestHubHearsOfNone: a hub whose agent brings no lane has one of the link's own, and does not wait.
func TestHubHearsOfNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
		a, h := tunneltest.Pair(tunneltest.Options{Agent: agentKey, Hub: hubKey, Lanes: true})
		go func() {
			if c, err := tunnel.Receive(t.Context(), newBesides(h)); err == nil {
				_ = c.Join(d.hub.Session, tunnel.Hello{})
			}
		}()
		if _, err := d.agent.Attach(t.Context(), newBesides(a), tunnel.Hello{}); err != nil {
			t.Fatal(err)
		}
		st := d.open(d.hub, tcp("x:1"))
		began := time.Now()
		for n := 0; a.Lanes() < 2 && n < 1000; n++ {
			_, _ = st.Write(make([]byte, 16<<10))
			b := make([]byte, 16<<10)
			for got := 0; got < len(b); {
				n, err := st.Read(b[got:])
				if got += n; err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		if took := time.Since(began); a.Lanes() < 2 || took >= time.Second {
			t.Errorf("after %v there are %d lanes", took, a.Lanes())
		}
		_ = st.Close()
		a.Cut()
	})
}
