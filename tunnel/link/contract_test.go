package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

var tested = []string{TLS, WSS, QUIC}

// TestContract is what every transport has to do, whatever it is.
func TestContract(t *testing.T) {
	for _, transport := range tested {
		t.Run(transport, func(t *testing.T) {
			for _, c := range []struct {
				name string
				run  func(t *testing.T, transport string)
			}{
				{"talk", testTalk}, {"bulk", testBulk}, {"more lanes", testMoreLanes}, {"deadlines", testDeadlines}, {"close", testClose},
				{"close of the other", testPeerClose}, {"datagrams", testDatagrams}, {"accept ends", testAcceptEnds}, {"flush", testFlush},
				{"full", testFull},
			} {
				t.Run(c.name, func(t *testing.T) {
					leaks(t)
					c.run(t, transport)
				})
			}
		})
	}
}

func testTalk(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	if agent.Transport() != transport || hub.Transport() != transport {
		t.Errorf("the transports are %s and %s", agent.Transport(), hub.Transport())
	}
	if !agent.Remote().IsValid() || !hub.Remote().Addr().IsLoopback() {
		t.Errorf("from %v to %v", hub.Remote(), agent.Remote())
	}
	a, h := lanes(t, agent, hub)
	for range 100 {
		say(t, a, "from the agent")
		hear(t, h, "from the agent")
		say(t, h, "from the hub")
		hear(t, a, "from the hub")
	}
	if agent.Err() != nil || hub.Err() != nil {
		t.Errorf("a link that is alive has ended: %v, %v", agent.Err(), hub.Err())
	}
	if agent.RTT() < 0 || agent.RTT() > time.Minute {
		t.Errorf("the RTT is %v", agent.RTT())
	}
}

func testBulk(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	a, h := lanes(t, agent, hub)
	data := make([]byte, 8<<20)
	rand.Read(data)
	var wait sync.WaitGroup
	defer wait.Wait()
	for _, l := range []tunnel.Lane{a, h} {
		wait.Go(func() {
			for rest, n := data, 1; len(rest) > 0; n = n*3%70001 + 1 { // pieces of all sizes
				n := min(n, len(rest))
				if _, err := l.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
			if err := l.Flush(); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			got := make([]byte, len(data))
			if _, err := io.ReadFull(l, got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("what came is not what was sent: %v", err)
			}
		})
	}
}

func testMoreLanes(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	lanes(t, agent, hub)
	ctx := t.Context()
	if transport != QUIC {
		if _, err := agent.Open(ctx); !errors.Is(err, tunnel.ErrOneLane) {
			t.Errorf("the agent's second lane: %v", err)
		}
		if _, err := hub.Open(ctx); !errors.Is(err, tunnel.ErrOneLane) {
			t.Errorf("the hub's lane: %v", err)
		}
		return
	}
	for range 300 {
		a, h := lanes(t, agent, hub)
		say(t, h, "x")
		hear(t, a, "x")
		h2, a2 := lanes(t, hub, agent)
		say(t, a2, "y")
		hear(t, h2, "y")
		a.Close()
		h.Close()
		a2.Close()
		h2.Close()
	}
	// One that nobody reads does not hold up another.
	a, _ := lanes(t, agent, hub)
	a.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for block := make([]byte, 1<<16); ; {
		if _, err := a.Write(block); err != nil {
			break
		}
	}
	other, h := lanes(t, agent, hub)
	say(t, other, "past it")
	hear(t, h, "past it")
}

func testDeadlines(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	a, _ := lanes(t, agent, hub)
	a.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if _, err := a.Read(make([]byte, 1)); !timeout(err) {
		t.Errorf("a read whose deadline passed: %v", err)
	}
}

func timeout(err error) bool {
	var e interface{ Timeout() bool }
	return errors.As(err, &e) && e.Timeout()
}

func testClose(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	a, _ := lanes(t, agent, hub)
	read := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		read <- err
	}()
	agent.Close()
	agent.Close()
	if err := <-read; err == nil {
		t.Error("a read goes on after Close")
	}
	<-agent.Done()
	if agent.Err() == nil {
		t.Error("the link has not ended")
	}
	if _, err := a.Write([]byte("x")); err == nil && a.Flush() == nil {
		t.Error("a write works after Close")
	}
	if _, err := agent.Open(t.Context()); err == nil {
		t.Error("a lane opens after Close")
	}
	if _, err := agent.Accept(t.Context()); err == nil {
		t.Error("a lane is accepted after Close")
	}
}

func testPeerClose(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	a, h := lanes(t, agent, hub)
	say(t, h, "goodbye")
	h.SetWriteDeadline(time.Time{})
	hear(t, a, "goodbye")
	hub.Close()
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("a read works after the other end has closed")
	}
	<-agent.Done()
	if agent.Err() == nil {
		t.Error("no reason")
	}
}

func testDatagrams(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	if transport != QUIC {
		if err := agent.Datagram([]byte("x")); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a datagram: %v", err)
		}
		if err := hub.Datagrams(func([]byte) {}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("datagrams: %v", err)
		}
		return
	}
	got := make(chan string, 16)
	ended := make(chan error, 1)
	go func() { ended <- hub.Datagrams(func(p []byte) { got <- string(p) }) }()
	for _, text := range []string{"a", "bb"} {
		if err := agent.Datagram([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != text {
			t.Errorf("%q came, not %q", s, text)
		}
	}
	var large *tunnel.TooLargeError
	if err := agent.Datagram(make([]byte, 65000)); !errors.As(err, &large) || large.Max < 1000 || large.Max > 65000 {
		t.Fatalf("a large one: %v", err)
	}
	if err := agent.Datagram(bytes.Repeat([]byte{1}, large.Max)); err != nil {
		t.Errorf("one of the size that was said: %v", err)
	}
	if s := <-got; len(s) != large.Max {
		t.Errorf("%d bytes came", len(s))
	}
	agent.Close()
	if err := <-ended; err == nil {
		t.Error("Datagrams returned without a reason")
	}
}

func testAcceptEnds(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	lanes(t, agent, hub)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := hub.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Accept: %v", err)
	}
	accepted := make(chan error)
	go func() {
		_, err := agent.Accept(context.Background())
		accepted <- err
	}()
	agent.Close()
	if err := <-accepted; err == nil {
		t.Error("Accept goes on after Close")
	}
}

func testFlush(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	a, h := lanes(t, agent, hub)
	io.WriteString(a, "held")
	h.SetReadDeadline(time.Now().Add(time.Minute))
	a.Flush()
	hear(t, h, "held")
	if err := a.Flush(); err != nil {
		t.Errorf("a Flush of nothing: %v", err)
	}
}

// testFull: the other end does not read. Whoever writes waits, and no longer than the deadline.
func testFull(t *testing.T, transport string) {
	agent, hub := pair(t, transport)
	a, _ := lanes(t, agent, hub)
	a.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	block := make([]byte, 1<<16)
	for range 10000 {
		if _, err := a.Write(block); err != nil {
			if !timeout(err) {
				t.Errorf("a write that waits for too long: %v", err)
			}
			return
		}
	}
	t.Error("there is no end of what can be written")
}
