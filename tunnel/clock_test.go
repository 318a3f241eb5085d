package tunnel_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

func TestSilentLinkDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
		l := d.mustConnect()
		time.Sleep(time.Minute)
		if l.Err() != nil || !d.hub.State().Up || !d.agent.State().Up {
			t.Fatalf("a link that is idle has ended: %v", l.Err())
		}
		before := time.Now()
		l.Stall(true)
		changed := d.agent.Changed()
		if state := d.agent.State(); !state.Up || state.Why != "" {
			t.Errorf("of a link that works: %+v", state)
		}
		time.Sleep(4 * time.Second)
		if state := d.agent.State(); !state.Up || !strings.HasPrefix(state.Why, "silent for ") {
			t.Errorf("of a link that is silent: %+v", state)
		}
		<-changed
		if took := time.Since(before); took > 10*time.Second || took < 6*time.Second {
			t.Errorf("a silent link was noticed after %v", took)
		}
		synctest.Wait()
		if d.agent.State().Up || d.agent.State().Why == "" {
			t.Errorf("%+v", d.agent.State())
		}
	})
}

func TestSessionEndsWithoutALink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{Resume: time.Minute})
		l := d.mustConnect()
		st := d.open(d.hub, tcp("x:1"))
		l.Cut()
		time.Sleep(50 * time.Second)
		l = d.mustConnect()
		_, _ = st.Write([]byte("still here"))
		b := make([]byte, 10)
		if _, err := io.ReadFull(st, b); err != nil || string(b) != "still here" {
			t.Fatalf("%q, %v", b, err)
		}
		l.Cut()
		time.Sleep(61 * time.Second)
		if _, err := st.Read(b); !errors.Is(err, node.ErrClosed) {
			t.Errorf("a stream of a session that was not resumed: %v", err)
		}
		if _, err := d.hub.Open(t.Context(), tcp("x:1")); !errors.Is(err, node.ErrClosed) {
			t.Errorf("%v", err)
		}
		if _, err := d.connect(tunneltest.Options{}); err == nil {
			t.Error("a session that has ended takes a link")
		}
	})
}

// TestADayOfSilence: idle streams stay, a link that dies now and then changes nothing.
func TestADayOfSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
		var streams []*tunnel.Stream
		l := d.mustConnect()
		for range 20 {
			streams = append(streams, d.open(d.hub, tcp("x:1")))
		}
		for range 24 {
			time.Sleep(time.Hour)
			l.Cut()
			time.Sleep(time.Minute)
			l = d.mustConnect()
		}
		for _, st := range streams {
			_, _ = st.Write([]byte("hello"))
			b := make([]byte, 5)
			if _, err := io.ReadFull(st, b); err != nil {
				t.Fatal(err)
			}
			_ = st.Close()
		}
		d.settles()
		if n := d.hub.Status().Resumed; n != 24 {
			t.Errorf("resumed %d times", n)
		}
	})
}

// TestBetterLinkTakesOver moves streams to a newer link, and back when that dies.
func TestBetterLinkTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
		old := d.mustConnect()
		st := d.open(d.hub, tcp("x:1"))
		say := func() {
			t.Helper()
			_, _ = st.Write([]byte("hello"))
			b := make([]byte, 5)
			if _, err := io.ReadFull(st, b); err != nil {
				t.Fatal(err)
			}
		}
		say()
		d.mustConnect()
		say()
		time.Sleep(6 * time.Second)
		if old.Err() == nil {
			t.Error("the older link was not left")
		}
		if n := len(d.hub.Status().Links); n != 1 {
			t.Errorf("%d links", n)
		}
		say()
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{Window: 4096})
		d.agent.opened = func(a *tunnel.Arrival) { _, _ = a.Accept(nil) }
		d.mustConnect()
		st := d.open(d.hub, tcp("x:1"))
		_ = st.SetDeadline(time.Now().Add(time.Second))
		if _, err := st.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) && err.Error() == "" {
			t.Error(err)
		}
		n, err := st.Write(make([]byte, 10000))
		var timeout interface{ Timeout() bool }
		if n > 4096 || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = st.SetDeadline(time.Time{})
		_ = st.Close()
		if _, err := st.Read(make([]byte, 1)); err == nil {
			t.Error("a closed stream is read")
		}
	})
}

// TestClosedStreams: what was written arrives although not everything was read, and nothing is left of the stream.
func TestClosedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
		there := make(chan *tunnel.Stream, 1)
		d.agent.opened = func(a *tunnel.Arrival) {
			st, _ := a.Accept(nil)
			there <- st
		}
		d.mustConnect()

		st := d.open(d.hub, tcp("x:1"))
		far := <-there
		_, _ = st.Write([]byte("a question that nobody reads"))
		synctest.Wait()
		_, _ = far.Write([]byte("the answer"))
		_ = far.Close()
		got, err := io.ReadAll(st)
		if string(got) != "the answer" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		time.Sleep(time.Second)
		if _, err := st.Write([]byte("more")); err == nil {
			t.Error("a stream that the other end has closed is written to")
		}
		_ = st.Close()
		d.settles()

		st = d.open(d.hub, tcp("x:1")) // and the other end never ends it
		<-there
		_ = st.Close()
		time.Sleep(2 * time.Minute)
		d.settles()
	})
}

// TestSilentLinkDiesBesideLanes: that something comes on a lane beside a link does not keep a link alive on which nothing comes.
func TestSilentLinkDiesBesideLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDuoInBubble(t, tunneltest.Options{}, tunnel.Options{})
		a, h := tunneltest.Pair(tunneltest.Options{Agent: agentKey, Hub: hubKey})
		agent, hub := newBesides(a), newBesides(h)
		go func() {
			if c, err := tunnel.Receive(t.Context(), hub); err == nil {
				_ = c.Join(d.hub.Session, tunnel.Hello{})
			}
		}()
		if _, err := d.agent.Attach(t.Context(), agent, tunnel.Hello{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		near, far := tunneltest.Pair(tunneltest.Options{Lanes: true})
		var said []tunnel.Lane
		for _, end := range []*besides{agent, hub} {
			lane, err := near.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			heard, err := far.Accept(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			end.got(heard)
			said = append(said, lane)
		}
		began := time.Now()
		a.Stall(true)
		for d.hub.State().Up && time.Since(began) < time.Minute {
			time.Sleep(time.Second)
			for _, lane := range said {
				_, _ = lane.Write([]byte{byte(wire.Optional), 0})
			}
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a silent link was noticed after %v", took)
		}
		near.Cut()
	})
}
