package tunnel_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// manyPings is about so many bytes of PING, and how many that are.
func manyPings(size int) (b []byte, n int) {
	for ; len(b) < size; n++ {
		b = wire.AppendNumber(b, wire.TypePing, wire.MaxVarint)
	}
	return b, n
}

// TestAnswersAreNotHoarded: who makes the other end talk, and does not listen, is not listened to, until he does.
func TestAnswersAreNotHoarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, link, lane, end := raw(t, accepting{})
		defer end()
		pings, n := manyPings(64 << 10)
		const times = 200
		var sent atomic.Int64
		go func() {
			for range times {
				_, _ = lane.Write(pings)
				sent.Add(int64(len(pings)))
			}
		}()
		synctest.Wait()
		if got := sent.Load(); got > 4<<20 {
			t.Errorf("%d bytes of questions were taken, and no answer was read", got)
		}
		pongs := 0
		for b, have := make([]byte, 64<<10), 0; pongs < n*times; {
			m, err := lane.Read(b[have:])
			if err != nil {
				t.Fatalf("after %d of %d answers: %v", pongs, n*times, err)
			}
			have += m
			used := 0
			for {
				typ, size, head, err := wire.Head(b[used:have], wire.MaxBody)
				if err != nil {
					t.Fatal(err)
				}
				if head == 0 || have-used < head+size {
					break
				}
				used += head + size
				if typ == wire.TypePong {
					pongs++
				}
			}
			have = copy(b, b[used:have])
		}
		if link.Err() != nil {
			t.Error(link.Err())
		}
	})
}

// TestAskingWithoutReadingEndsTheLink: who never reads is as good as silent.
func TestAskingWithoutReadingEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, link, lane, end := raw(t, accepting{})
		defer end()
		pings, _ := manyPings(64 << 10)
		began := time.Now()
		for {
			if _, err := lane.Write(pings); err != nil {
				break
			}
		}
		if took := time.Since(began); link.Err() == nil || took > 10*time.Second {
			t.Errorf("after %v: %v", took, link.Err())
		}
	})
}

// drain reads what comes, and says something every second.
func drain(lane tunnel.Lane) {
	go func() { _, _ = io.Copy(io.Discard, lane) }()
	for {
		if _, err := lane.Write(wire.AppendNumber(nil, wire.TypePing, 1)); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// TestLinkHasToBecomeReady: who joins and never says what he knows has no link.
func TestLinkHasToBecomeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, link, lane, end := raw(t, accepting{})
		go drain(lane)
		select {
		case <-link.Done():
		case <-time.After(11 * time.Second):
			t.Error("the link goes on")
		}
		end()
		time.Sleep(2 * time.Second) // drain notices
	})
}

// again has the agent of a raw session join by another link.
func again(t *testing.T, s *tunnel.Session, o tunneltest.Options) (*tunneltest.Link, tunnel.Lane) {
	t.Helper()
	a, h := tunneltest.Pair(o)
	lane, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hello := wire.Hello{Lowest: 1, Highest: 1}
	_, _ = lane.Write(hello.Append(nil))
	c, err := tunnel.Receive(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Join(s, tunnel.Hello{}); err != nil {
		t.Fatal(err)
	}
	return a, lane
}

// TestLeftLinkIsClosed: a link that was left ends although its other end takes nothing more, and says something now and then.
func TestLeftLinkIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, link, lane, end := raw(t, accepting{})
		ready := wire.AppendEmpty(nil, wire.TypeReady)
		_, _ = lane.Write(ready)
		pings, _ := manyPings(256 << 10) // more than is under way
		_, _ = lane.Write(pings)
		go func() {
			for {
				time.Sleep(time.Second)
				if _, err := lane.Write(wire.AppendNumber(nil, wire.TypePing, 1)); err != nil {
					return
				}
			}
		}()
		_, second := again(t, s, tunneltest.Options{})
		_, _ = second.Write(ready)
		go drain(second)
		select {
		case <-link.Done():
		case <-time.After(7 * time.Second):
			t.Error("the link goes on")
		}
		synctest.Wait()
		if n := len(s.Status().Links); n != 1 {
			t.Errorf("%d links", n)
		}
		end()
		time.Sleep(2 * time.Second)
	})
}

// A porter keeps what arrives.
type porter struct {
	accepting
	came chan *tunnel.Arrival
}

func (p porter) Opened(a *tunnel.Arrival) { p.came <- a }

// TestDatagramsBeforeTheAnswer: nobody has to keep what comes on a flow that he has not accepted.
func TestDatagramsBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := porter{came: make(chan *tunnel.Arrival, 1)}
		_, _, lane, end := raw(t, p)
		defer end()
		open := wire.Open{Stream: 1, Kind: 1, Network: "udp", Address: "x:1"}
		_, _ = lane.Write(wire.AppendDatagram(open.Append(nil), 1, []byte("early")))
		synctest.Wait()
		st, err := (<-p.came).Accept(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = lane.Write(wire.AppendDatagram(nil, 1, []byte("later")))
		b := make([]byte, 10)
		if n, err := st.Read(b); string(b[:n]) != "later" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	})
}

// TestUnreadDatagramsAreFew: all flows of a session together keep as much as it may, and not each as much as one may.
func TestUnreadDatagramsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flows, size = 40, 60000
		came := make(chan *tunnel.Stream, flows)
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{Memory: 1 << 20})
		d.agent.opened = func(a *tunnel.Arrival) {
			if st, err := a.Accept(nil); err == nil {
				came <- st
			}
		}
		d.mustConnect()
		var near, far []*tunnel.Stream
		for range flows {
			near = append(near, d.open(d.hub, tunnel.Call{Kind: tunnel.Dial, Network: "udp", Address: "x:1"}))
			far = append(far, <-came)
		}
		fill := func() {
			for _, st := range near {
				_, _ = st.Write(make([]byte, size))
				synctest.Wait() // so that the lane drops none
			}
		}
		read := func(flows []*tunnel.Stream) (n int) {
			for _, st := range flows {
				_ = st.SetReadDeadline(time.Now().Add(time.Second))
				for {
					if _, err := st.Read(make([]byte, size)); err != nil {
						break
					}
					n++
				}
			}
			return n
		}
		for round := range 2 { // what was read makes room
			fill()
			if n := read(far); n < 3 || n*size > 1<<20/4 {
				t.Errorf("round %d: %d datagrams of %d bytes were kept", round, n, size)
			}
		}
		fill()
		for _, st := range near[:flows/2] { // what has ended does
			_ = st.Close()
		}
		synctest.Wait()
		near, far = near[flows/2:], far[flows/2:]
		fill()
		if n := read(far); n < 3 {
			t.Errorf("%d datagrams were kept", n)
		}
	})
}

// TestFewLanesBeforeReady: who has not said what he knows needs no lanes for that.
func TestFewLanesBeforeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _, end := raw(t, accepting{})
		defer end()
		link, first := again(t, s, tunneltest.Options{Lanes: true})
		usable := func() (n int) {
			for range 100 {
				lane, err := link.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if _, err := lane.Write([]byte{byte(wire.TypeData)}); err == nil {
					n++
				}
			}
			return n
		}
		if n := usable(); n == 0 || n > 20 {
			t.Errorf("%d lanes of a link that is not ready", n)
		}
		_, _ = first.Write(wire.AppendEmpty(nil, wire.TypeReady))
		synctest.Wait()
		if n := usable(); n != 100 {
			t.Errorf("%d lanes of 100", n)
		}
	})
}

// counting counts the lines of a log that are news.
type counting struct {
	slog.Handler
	lines *atomic.Int64
}

func (c counting) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (c counting) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "link ") {
		c.lines.Add(1)
	}
	return nil
}

// TestFlappingIsNoNews: the other end decides how often links come and go, and not how much is in the log.
func TestFlappingIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines atomic.Int64
		log := slog.New(counting{slog.DiscardHandler, &lines})
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{Log: log})
		for range 100 {
			d.mustConnect().Cut()
			synctest.Wait()
		}
		if n := lines.Load(); n > 2*10 { // of each end
			t.Errorf("%d lines", n)
		}
		time.Sleep(2 * time.Minute)
		lines.Store(0)
		d.mustConnect()
		synctest.Wait()
		if n := lines.Load(); n != 2 {
			t.Errorf("%d lines of a link after some time", n)
		}
	})
}
