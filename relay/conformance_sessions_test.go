package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// oneByteWrites sends each byte by a system call, and with TCP_NODELAY, which Go sets, in a segment of its own.
func oneByteWrites(t *testing.T, g *rig) {
	const n = 10_000
	client, target := g.open(t)
	drip := func(c net.Conn, seed uint64) func() error {
		return func() error {
			for _, b := range []byte(text(seed, n)) {
				if _, err := c.Write([]byte{b}); err != nil {
					return err
				}
			}
			return fin(c)
		}
	}
	together(t, drip(client, 1), drip(target, 2),
		func() error { return expectPayload(target, 1, n, 1000) },
		func() error { return expectPayload(client, 2, n, 7) })
	g.ends(t, 1)
	g.carried(t, n, n)
}

// endBeforeTarget has clients say all that they have to say before anybody has accepted them.
func endBeforeTarget(t *testing.T, g *rig) {
	const n = 100
	clients := make([]net.Conn, n)
	for i := range clients {
		c, err := g.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients[i] = c
		if i%2 == 0 { // the others send their FIN alone
			_, _ = fmt.Fprintf(c, "client %d", i)
		}
		if err := fin(c); err != nil {
			t.Fatal(err)
		}
	}
	for range clients {
		c, err := g.accept()
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(c)
		if err != nil {
			t.Error(err)
		}
		_, _ = c.Write(append(said, '.'))
		c.Close()
	}
	for i, c := range clients {
		want := "."
		if i%2 == 0 {
			want = fmt.Sprintf("client %d.", i)
		}
		if got, err := io.ReadAll(c); err != nil || string(got) != want {
			t.Errorf("client %d got %q, %v; want %q", i, got, err, want)
		}
	}
	g.ends(t, n)
}

// resetBeforeTarget has clients that are gone by the time they are accepted. Whether the target hears of them is the relay's
// choice; if it does, then of a reset. A unix socket cannot reset, so there it is an orderly end.
func resetBeforeTarget(t *testing.T, g *rig) {
	served := make(chan error, 1)
	go func() {
		defer close(served)
		for {
			c, err := g.target.Accept()
			if err != nil {
				return
			}
			if err := g.greetOrReset(c); err != nil {
				select {
				case served <- err: // the first is enough
				default:
				}
			}
			c.Close()
		}
	}()
	for range 100 {
		c, err := g.dial()
		if err != nil {
			t.Fatal(err)
		}
		abort(c)
	}
	last, err := g.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	_, _ = io.WriteString(last, "hello")
	if got, err := io.ReadAll(last); err != nil || !bytes.Equal(got, []byte("hello")) {
		t.Errorf("the client that stayed got %q, %v", got, err)
	}
	last.Close()
	eventually(t, "the sessions to end", func() bool {
		s := g.stats()
		return s.Open == 0 && len(sessionsOf(g.relay)) == 0
	})
	g.target.Close()
	for err := range served {
		t.Error(err)
	}
}

// greetOrReset sends back the greeting of a client that stays, and expects a reset of any other.
func (g *rig) greetOrReset(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	greeting := make([]byte, 5)
	n, err := io.ReadFull(c, greeting)
	if n == len(greeting) {
		_, err = c.Write(greeting)
		return err
	}
	if err == io.EOF && (g.near != "tcp" || !isTCP(c)) || isReset(err) {
		return nil
	}
	return fmt.Errorf("the target got %d bytes, then %w; want a reset", n, err)
}

// targetRefuses has clients meet a reset while there is nobody at the target, and be served when there is.
func targetRefuses(t *testing.T, g *rig) {
	g.target.Close()
	const n = 20
	g.turnsAway(t, n)
	var err error
	if g.target, err = net.Listen(g.far, g.target.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer g.target.Close()
	client, target := g.open(t)
	exchange(client, target)
	client.fin()
	target.fin()
	g.ends(t, n+1)
}

// targetUnreachable is the same for a target that there is no way to: a limited broadcast address (RFC 919, 7) has no TCP.
func targetUnreachable(t *testing.T, g *rig) {
	nowhere := "255.255.255.255:9"
	if g.far == "unix" {
		nowhere = "unix:" + filepath.Join(t.TempDir(), "nobody")
	}
	apply(t, g.relay, fwd(t, "x", g.listen, nowhere))
	g.turnsAway(t, 20)
}

// turnsAway expects that n clients are reset, whether or not they have sent something by then.
func (g *rig) turnsAway(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		c, err := g.dial()
		if err == nil { // the reset may be quicker than the dial
			var sent error
			if i%2 == 0 {
				_, sent = io.WriteString(c, "hello")
			}
			var got []byte
			got, err = io.ReadAll(c)
			if c.Close(); len(got) == 0 && (abrupt(c, err) || isReset(sent)) { // a socket says it once
				continue
			}
		}
		if !isReset(err) {
			t.Errorf("client %d saw %v, want a reset", i, orEOF(err))
		}
	}
	refusedBecomes(t, g.relay, "x", uint64(n))
}

// killed ends one session of two.
func killed(t *testing.T, g *rig) {
	client, target := g.open(t)
	exchange(client, target)
	list := sessionsOf(g.relay)
	if len(list) != 1 {
		t.Fatalf("there are %d sessions, want 1", len(list))
	}
	client2, target2 := g.open(t)
	exchange(client2, target2)
	if err := g.relay.Kill(list[0].ID); err != nil {
		t.Fatal(err)
	}
	client.expectReset()
	target.expectReset()
	eventually(t, "the killed session to end", func() bool { return g.stats().Open == 1 })
	if err := g.relay.Kill(list[0].ID); !errors.Is(err, ErrNoSession) {
		t.Errorf("killed once more: %v", err)
	}
	exchange(client2, target2)
	g.killWhileStuck(t)
	exchange(client2, target2)
	client2.fin()
	target2.fin()
	g.ends(t, 3)
}

// killWhileStuck kills a session in the midst of bulk that nobody reads, each way.
func (g *rig) killWhileStuck(t *testing.T) {
	t.Helper()
	before := sessionsOf(g.relay)
	client, target := g.open(t)
	up, down := startFlood(client.Conn), startFlood(target.Conn)
	stuck(t, up, down)
	for _, s := range sessionsOf(g.relay) {
		if s.ID != before[0].ID {
			if err := g.relay.Kill(s.ID); err != nil {
				t.Error(err)
			}
		}
	}
	for _, f := range []*flood{up, down} {
		if err := <-f.err; !isReset(err) {
			t.Errorf("a write ended by %v, want a reset", err)
		}
	}
}

// forwardRemoved ends sessions that wait, that carry, and that are stuck.
func forwardRemoved(t *testing.T, g *rig) {
	idle, idleTarget := g.open(t)
	exchange(idle, idleTarget)
	half, halfTarget := g.open(t)
	half.fin()
	halfTarget.expectEOF()
	busy, busyTarget := g.open(t)
	stuckClient, stuckTarget := g.open(t)
	floods := []*flood{startFlood(stuckClient.Conn), startFlood(stuckTarget.Conn)}
	stuck(t, floods...)
	floods = append(floods, startFlood(busy.Conn))
	if _, err := io.CopyN(io.Discard, busyTarget, 1<<20); err != nil {
		t.Fatal(err)
	}
	go busyTarget.sink()

	apply(t, g.relay)
	idle.expectReset()
	idleTarget.expectReset()
	half.expectReset()
	halfTarget.writeUntilReset()
	for _, f := range floods {
		if err := <-f.err; !isReset(err) {
			t.Errorf("a write ended by %v, want a reset", err)
		}
	}
	eventually(t, "the sessions to go", func() bool { return len(sessionsOf(g.relay)) == 0 })
	if c, err := g.dial(); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}

// totals compares what is counted with what was sent, while sessions are open and after they have ended.
func totals(t *testing.T, g *rig) {
	sizes := []int{0, 1, 1000, 65536, 70_001, 6 << 20}
	var clients, targets []*end
	in, out := uint64(0), uint64(0)
	for i, size := range sizes {
		client, target := g.open(t)
		clients, targets = append(clients, client), append(targets, target)
		back := sizes[len(sizes)-1-i]
		together(t,
			func() error { _, err := io.CopyN(client, payload(1), int64(size)); return err },
			func() error { _, err := io.CopyN(target, payload(2), int64(back)); return err },
			func() error { _, err := io.CopyN(&checker{want: payload(1)}, target, int64(size)); return err },
			func() error { _, err := io.CopyN(&checker{want: payload(2)}, client, int64(back)); return err })
		in, out = in+uint64(size), out+uint64(back)
	}
	eventually(t, "the totals of open sessions", func() bool {
		s := g.stats()
		return s.BytesIn >= in && s.BytesOut >= out && s.Open == len(sizes) && s.Total == uint64(len(sizes))
	})
	g.carried(t, in, out)
	var listed []uint64
	for _, s := range sessionsOf(g.relay) {
		listed = append(listed, s.BytesIn)
	}
	slices.Sort(listed)
	for i, n := range listed {
		if n != uint64(sizes[i]) {
			t.Errorf("the sessions are listed with %d bytes in, want %d", listed, sizes)
			break
		}
	}
	for i, c := range clients {
		c.fin()
		targets[i].fin()
	}
	g.ends(t, uint64(len(sizes)))
	g.carried(t, in, out)
}
