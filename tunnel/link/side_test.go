package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// besidePair is both ends of a link that may have lanes beside it, and what is brought to each.
func besidePair(t *testing.T, b *bench, d *Dialer, transport string) (agent, hub tunnel.Sider, toAgent, toHub chan tunnel.Lane) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	a, err := d.by(ctx, transport)
	if err != nil {
		t.Fatal(err)
	}
	h, err := b.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		h.Close()
	})
	agent, hub = a.(tunnel.Sider), h.(tunnel.Sider)
	toAgent, toHub = make(chan tunnel.Lane, 1), make(chan tunnel.Lane, 1)
	agent.Sides(func(l tunnel.Lane) { toAgent <- l })
	hub.Sides(func(l tunnel.Lane) { toHub <- l })
	return agent, hub, toAgent, toHub
}

// TestSides: both ends get lanes to write, which end with the link.
func TestSides(t *testing.T) {
	for _, transport := range []string{QUIC, TLS} {
		t.Run(transport, func(t *testing.T) {
			leaks(t)
			b := hub(t, nil)
			agent, hub, toAgent, toHub := besidePair(t, b, dialer(t, b, nil), transport)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			up, err := agent.Side(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			say(t, up, "up")
			heard := <-toHub
			hear(t, heard, "up")

			brought := make(chan error, 1)
			asked := make(chan bool, 1)
			go func() {
				down, err := hub.Side(ctx, func() { asked <- true })
				if err == nil {
					say(t, down, "down")
				}
				brought <- err
			}()
			<-asked
			if err := agent.Bring(ctx); err != nil {
				t.Fatal(err)
			}
			hear(t, <-toAgent, "down")
			if err := <-brought; err != nil {
				t.Fatal(err)
			}
			agent.Close()
			if _, err := heard.Read(make([]byte, 1)); err == nil {
				t.Error("a lane outlives its link")
			}
			if _, err := agent.Side(ctx, nil); err == nil {
				t.Error("a link that has ended gets another lane")
			}
		})
	}
}

// TestDetours: the agent makes a connection that both write, the hub gets it, and one is kept until then.
func TestDetours(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	agent, hub, _, _ := besidePair(t, b, dialer(t, b, nil), QUIC)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 2 {
		here, err := agent.Detour(ctx)
		if err != nil {
			t.Fatal(err)
		}
		there, err := hub.Detour(ctx)
		if err != nil {
			t.Fatal(err)
		}
		say(t, here, "there")
		hear(t, there, "there")
		say(t, there, "back")
		hear(t, here, "back")
		here.Close()
		there.Close()
	}
	first, err := agent.Detour(ctx)
	if err != nil {
		t.Fatal(err)
	}
	second, err := agent.Detour(ctx)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan int, 2)
	for i, l := range []tunnel.Lane{first, second} {
		go func() {
			_, _ = l.Read(make([]byte, 1))
			closed <- i
		}()
	}
	<-closed // the one that the hub has no room for
	agent.Close()
	<-closed
	for {
		if l, err := hub.Detour(ctx); err != nil {
			break
		} else if _, err := l.Read(make([]byte, 1)); err == nil {
			t.Fatal("a detour outlives its link")
		}
	}
	if ctx.Err() != nil {
		t.Error("the hub waits for a detour of a link that has ended")
	}

	agent, hub, _, _ = besidePair(t, b, dialer(t, b, nil), TLS)
	for _, end := range []tunnel.Sider{agent, hub} {
		if _, err := end.Detour(ctx); !errors.Is(err, tunnel.ErrOneLane) {
			t.Errorf("by TLS: %v", err)
		}
	}
}

// TestSidesAreOfALink: a lane is for who has the link that it says it is of.
func TestSidesAreOfALink(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	d := dialer(t, b, nil)
	agent, _, _, _ := besidePair(t, b, d, QUIC)
	id := agent.(*quicLink).id
	stranger := dialer(t, b, nil)
	for _, c := range []struct {
		name string
		dial func(context.Context) (*records, error)
		said []byte
	}{
		{"no such link", sideOf(d, b.addr), make([]byte, len(id)+1)},
		{"another agent's link", sideOf(stranger, b.addr), append(id[:len(id):len(id)], agentWrites)},
		{"nobody writes", sideOf(d, b.addr), append(id[:len(id):len(id)], 7)},
		{"nobody waits for it", sideOf(d, b.addr), append(id[:len(id):len(id)], hubWrites)},
	} {
		r, err := c.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.conn.Write(c.said); err != nil {
			t.Fatal(err)
		}
		r.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := r.conn.Read(make([]byte, 1)); err == nil || temporary(err) {
			t.Errorf("%s: it was taken: %v", c.name, err)
		}
		r.conn.Close()
	}
}

func sideOf(d *Dialer, addr string) func(context.Context) (*records, error) {
	return func(ctx context.Context) (*records, error) {
		r, _, err := d.dialSide(ctx, addr)
		return r, err
	}
}

// TestSidesAreBounded: neither end has more beside a link than there may be.
func TestSidesAreBounded(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	agent, _, _, toHub := besidePair(t, b, dialer(t, b, nil), TLS)
	for range sidesMost {
		l, err := agent.Side(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		say(t, l, "x")
		hear(t, <-toHub, "x")
	}
	if _, err := agent.Side(t.Context(), nil); !errors.Is(err, errManySides) {
		t.Errorf("one more: %v", err)
	}
}

// TestOnlyQUICHasNoSides: who may not use TCP does not use it for lanes either.
func TestOnlyQUICHasNoSides(t *testing.T) {
	agent, hub := pair(t, QUIC)
	if _, err := agent.(tunnel.Sider).Side(t.Context(), nil); !errors.Is(err, errNoSides) {
		t.Errorf("a lane: %v", err)
	}
	end := hub.(tunnel.Sider)
	end.NotBrought() // nobody has asked
	_, err := end.Side(t.Context(), func() {
		if err := agent.(tunnel.Sider).Bring(t.Context()); !errors.Is(err, errNoSides) {
			t.Errorf("a lane for the hub: %v", err)
		}
		end.NotBrought()
	})
	if !errors.Is(err, errNotBrought) {
		t.Errorf("a lane that the agent does not bring: %v", err)
	}
}

// A taker accepts every stream and gives it to the test.
type taker chan *tunnel.Stream

func (c taker) Opened(a *tunnel.Arrival) {
	if st, err := a.Accept(nil); err == nil {
		c <- st
	}
}
func (taker) Asked(_ string, _ []byte, reply func([]byte, error)) { reply(nil, nil) }

// TestBulkGoesBesideAndBack: what a stream sends a lot of goes beside the link, and when all lanes there die it goes on on the link, whole.
func TestBulkGoesBesideAndBack(t *testing.T) {
	for _, transport := range []string{QUIC, TLS} {
		t.Run(transport, func(t *testing.T) {
			leaks(t)
			b := hub(t, nil)
			d := dialer(t, b, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			a, err := d.by(ctx, transport)
			if err != nil {
				t.Fatal(err)
			}
			h, err := b.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			came := make(taker, 1)
			agent := tunnel.New(tunnel.Options{Side: tunnel.Agent, ID: tunnel.ID{1}, Handler: came})
			far := tunnel.New(tunnel.Options{Side: tunnel.Hub, ID: tunnel.ID{1}, Handler: came})
			ended := make(chan error, 2)
			running, stop := context.WithCancel(context.Background())
			for _, s := range []*tunnel.Session{agent, far} {
				go func() { ended <- s.Run(running) }()
			}
			defer func() {
				stop()
				<-ended
				<-ended
			}()
			joined := make(chan error, 1)
			go func() {
				c, err := tunnel.Receive(ctx, h)
				if err == nil {
					err = c.Join(far, tunnel.Hello{})
				}
				joined <- err
			}()
			if _, err := agent.Attach(ctx, a, tunnel.Hello{}); err != nil {
				t.Fatal(err)
			}
			if err := <-joined; err != nil {
				t.Fatal(err)
			}
			st, err := far.Open(ctx, tunnel.Call{Kind: tunnel.Dial, Network: "tcp", Address: "x:1"})
			if err != nil {
				t.Fatal(err)
			}
			other := <-came
			for _, way := range []struct{ from, to *tunnel.Stream }{{st, other}, {other, st}} {
				beside(t, sidesOf(a), way.from, way.to)
			}
			st.Close()
			other.Close()
		})
	}
}

func sidesOf(l tunnel.Link) *sides {
	if q, ok := l.(*quicLink); ok {
		return q.sides
	}
	return l.(*oneLane).sides
}

// beside sends until there is a lane beside the link, ends all of those, and sends more.
func beside(t *testing.T, s *sides, from, to *tunnel.Stream) {
	t.Helper()
	piece := make([]byte, 256<<10)
	rand.Read(piece)
	exchange := func() {
		t.Helper()
		sent := make(chan error, 1)
		go func() {
			_, err := from.Write(piece)
			sent <- err
		}()
		got := make([]byte, len(piece))
		to.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, piece) {
			t.Fatalf("what came is not what was sent: %v", err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	lanes := func() (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for l := range s.all {
			n++
			l.beneath.Close()
		}
		return n
	}
	for tries := 0; ; tries++ {
		exchange()
		if lanes() > 0 {
			break
		}
		if tries > 1000 {
			t.Fatal("nothing goes beside the link")
		}
		time.Sleep(10 * time.Millisecond)
	}
	for range 8 {
		exchange()
	}
}

// TestSideNeedsAKey: who shows none gets as far with a lane as with a link.
func TestSideNeedsAKey(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	c, err := tls.Dial("tcp", b.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{sideALPN}})
	if err == nil {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if err == nil || temporary(err) {
		t.Errorf("it was let in: %v", err)
	}
}
