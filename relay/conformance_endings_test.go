package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// A duel is a case about how a session ends. It is played with the client as a and the target as b, and the other way round.
type duel struct {
	name  string
	kind  duelKind
	fight func(a, b *end)
}

type duelKind uint8

const (
	orderly   duelKind = iota // every byte is delivered and counted
	byReset                   // a resets, so it has to be TCP
	unnoticed                 // the same, and only a watchful engine learns of it
	truncated                 // a closes without having read all
)

var endings = []duel{
	{"FIN, then the other answers", orderly, func(a, b *end) {
		a.send("question")
		a.fin()
		b.expect("question")
		b.expectEOF()
		b.send("answer")
		a.expect("answer")
		b.fin()
		a.expectEOF()
	}},
	{"FIN, and the other goes on at length", orderly, func(a, b *end) {
		long := text(1, 3<<20)
		b.send("before")
		a.expect("before")
		a.send("last words")
		a.fin()
		together(a.t, func() error { b.expectSoon("last words"); b.send(long); b.fin(); return nil },
			func() error { return expectPayload(a, 1, int64(len(long)), 32<<10) })
		b.expectEOF()
	}},
	{"FIN, and single bytes against it", orderly, func(a, b *end) {
		a.fin()
		b.expectEOF()
		for _, one := range strings.Split(text(2, 300), "") {
			b.send(one)
			a.expect(one)
		}
		b.fin()
		a.expectEOF()
	}},
	{"both FIN at once", orderly, func(a, b *end) {
		a.send("from a")
		b.send("from b")
		together(a.t, func() error { return fin(a.Conn) }, func() error { return fin(b.Conn) })
		a.expect("from b")
		a.expectEOF()
		b.expect("from a")
		b.expectEOF()
	}},
	{"FIN with the last bytes in one segment", orderly, func(a, b *end) {
		b.send("hello")
		a.expect("hello")
		a.sendWithFIN("last words")
		b.expect("last words")
		b.expectEOF()
		b.sendWithFIN("farewell")
		a.expect("farewell")
		a.expectEOF()
	}},
	{"all of it in one segment with its FIN", orderly, func(a, b *end) {
		a.sendWithFIN("all")
		b.sendWithFIN("all of mine")
		b.expect("all")
		b.expectEOF()
		a.expect("all of mine")
		a.expectEOF()
	}},
	{"FIN and no byte ever", orderly, func(a, b *end) {
		a.fin()
		b.expectEOF()
		b.fin()
		a.expectEOF()
	}},
	{"FIN behind more than the buffers hold", orderly, func(a, b *end) {
		const size = 24 << 20
		done := make(chan error, 1)
		go func() { done <- sendPayload(a, 3, size) }()
		b.send("meanwhile")
		a.expect("meanwhile")
		b.fin()
		a.expectEOF()
		if err := errors.Join(expectPayload(b, 3, size, 64<<10), <-done); err != nil {
			a.t.Error(err)
		}
		a.sent += size
	}},
	{"close after the last byte was read", orderly, func(a, b *end) {
		b.send("question")
		a.expect("question")
		a.send("answer")
		a.Close()
		b.expect("answer")
		b.expectEOF()
		b.fin()
	}},

	{"reset before any byte", byReset, func(a, b *end) {
		a.abort()
		b.expectReset()
	}},
	{"reset between bytes", byReset, func(a, b *end) {
		exchange(a, b)
		a.abort()
		b.expectReset()
	}},
	{"bytes and a reset right behind them", byReset, func(a, b *end) {
		exchange(a, b)
		last := text(4, 20_000) // in the relay's receive buffer before the reset is
		a.send(last)
		a.abort()
		b.expectBeforeReset(last)
	}},
	{"reset amid bulk to the one who resets", byReset, func(a, b *end) {
		hit := make(chan struct{})
		go func() {
			_, _ = io.CopyN(io.Discard, a, 9<<20)
			a.abort()
			close(hit)
		}()
		b.writeUntilReset()
		<-hit
	}},
	{"reset amid bulk from the one who resets", byReset, func(a, b *end) {
		go func() {
			_, _ = io.CopyN(a, payload(5), 9<<20)
			a.abort()
		}()
		check := &checker{want: payload(5)}
		if _, err := io.Copy(check, struct{ io.Reader }{b}); !abrupt(b.Conn, err) || check.n > 9<<20 {
			b.t.Errorf("%d bytes, then %v; want a reset", check.n, orEOF(err))
		}
	}},
	{"reset after its own FIN", byReset, func(a, b *end) {
		exchange(a, b)
		a.fin()
		b.expectEOF()
		a.abort()
		b.writeUntilReset()
	}},
	{"reset after the other's FIN", byReset, func(a, b *end) {
		exchange(a, b)
		b.fin()
		a.expectEOF()
		a.send("more")
		b.expect("more")
		a.abort()
		b.expectReset()
	}},
	{"both reset", byReset, func(a, b *end) {
		exchange(a, b)
		together(a.t, func() error { a.abort(); return nil }, func() error { b.abort(); return nil })
	}},

	{"reset after its own FIN, and the other is silent", unnoticed, func(a, b *end) {
		exchange(a, b)
		a.fin()
		b.expectEOF()
		a.abort()
	}},
	{"reset behind more than the buffers hold", unnoticed, func(a, b *end) {
		a.fill()
		a.abort() // b is reading nothing
	}},
	{"reset while bytes for it are stuck", unnoticed, func(a, b *end) {
		a.fill()
		b.send("unread")
		a.abort()
	}},

	{"answer and close amid an upload", truncated, func(a, b *end) {
		// What a server does that refuses an upload by 413 Content Too Large.
		stop := make(chan struct{})
		go func() { b.writeUntilReset(); close(stop) }()
		if _, err := io.CopyN(io.Discard, a, 100_000); err != nil {
			a.t.Error(err)
		}
		a.send("413")
		a.Close()
		b.expect("413")
		<-stop
	}},
	{"answer and close over one unread byte", truncated, func(a, b *end) {
		exchange(a, b)
		b.send("?")
		a.peek()
		a.send("413")
		a.Close()
		b.expect("413")
	}},
}

// playFromBothSides plays d with each end in the part of a.
func playFromBothSides(t *testing.T, g *rig, d duel) {
	n, in, out := uint64(0), uint64(0), uint64(0)
	for _, first := range []string{"client", "target"} {
		t.Run("by the "+first, func(t *testing.T) {
			client, target := g.open(t)
			a, b := client, target
			if first == "target" {
				a, b = target, client
			}
			n++
			switch {
			case d.kind == byReset && !a.isTCP(), d.kind == unnoticed && (!a.isTCP() || !g.watchful):
				client.Close() // nothing to show here
				target.Close()
				g.ends(t, n)
				return
			}
			d.fight(a, b)
			g.ends(t, n)
			if d.kind == unnoticed {
				b.sink()
				b.writeUntilReset()
			}
			if in, out = in+client.sent, out+target.sent; d.kind == orderly {
				g.carried(t, in, out)
			}
		})
	}
}

// exchange sends a little each way.
func exchange(a, b *end) {
	a.t.Helper()
	a.send("a word of a")
	b.send("a word of b")
	b.expect("a word of a")
	a.expect("a word of b")
}

// expectSoon is expect for a goroutine of its own, which must not end the test.
func (e *end) expectSoon(text string) {
	got := make([]byte, len(text))
	if _, err := io.ReadFull(e.Conn, got); err != nil || string(got) != text {
		e.t.Errorf("the %s got %.40q, %v; want %.40q", e.name, got, err, text)
	}
}

// expectBeforeReset expects text and then a reset. TCP may throw away what was received but not read when a reset comes (RFC
// 9293, 3.10.7.4); Linux delivers it first, so there a relay has no excuse.
func (e *end) expectBeforeReset(text string) {
	e.t.Helper()
	got, err := io.ReadAll(e.Conn)
	if !abrupt(e.Conn, err) {
		e.t.Errorf("the %s saw %v, want a reset", e.name, orEOF(err))
	}
	if !strings.HasPrefix(text, string(got)) {
		e.t.Errorf("the %s got %d bytes that are not what was sent", e.name, len(got))
	}
	if runtime.GOOS == "linux" && len(got) != len(text) {
		e.t.Errorf("the %s got %d of the %d bytes before the reset", e.name, len(got), len(text))
	}
}

// fill writes until nobody takes any more.
func (e *end) fill() {
	e.t.Helper()
	f := startFlood(e.Conn)
	stuck(e.t, f)
	if err := f.stop(); err != nil {
		e.t.Fatal(err)
	}
}

// sink reads to whatever end there is.
func (e *end) sink() { _, _ = io.Copy(io.Discard, e.Conn) }

// deadAfter kills one end after it has sent or received just so many bytes. The offsets lie around the sizes of buffers,
// pipes and segments.
func deadAfter(t *testing.T, g *rig) {
	offsets := []int64{0, 1, 2, 1000, 4096, 16383, 16384, 16385, 65483, 65535, 65536, 65537, 1 << 20, 4<<20 - 1, 4 << 20, 4<<20 + 1, 5 << 20}
	total := uint64(0)
	for _, k := range offsets {
		for _, c := range []struct {
			name    string
			killer  func(client, target net.Conn) (killer, survivor net.Conn)
			receive bool
		}{
			{"client that sends", func(c, d net.Conn) (net.Conn, net.Conn) { return c, d }, false},
			{"target that sends", func(c, d net.Conn) (net.Conn, net.Conn) { return d, c }, false},
			{"client that receives", func(c, d net.Conn) (net.Conn, net.Conn) { return c, d }, true},
			{"target that receives", func(c, d net.Conn) (net.Conn, net.Conn) { return d, c }, true},
		} {
			client, target, err := g.pair()
			if err != nil {
				t.Fatal(err)
			}
			killer, survivor := c.killer(client, target)
			if c.receive {
				err = diesReceiving(killer, survivor, k)
			} else {
				err = diesSending(killer, survivor, k)
			}
			if err != nil {
				t.Errorf("%s dies after %d bytes: %v", c.name, k, err)
			}
			client.Close()
			target.Close()
			total++
		}
	}
	g.ends(t, total)
}

// diesSending kills one end after k bytes. The other sees no more than those, and no orderly end unless a unix socket died,
// which loses nothing.
func diesSending(killer, survivor net.Conn, k int64) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(killer, payload(6), k)
		abort(killer)
		sent <- err
	}()
	check := &checker{want: payload(6)}
	_, err := io.Copy(check, struct{ io.Reader }{survivor})
	died := <-sent
	switch {
	case died != nil:
		return died
	case !isTCP(killer) && err == nil && check.n == k:
		return nil
	case !isTCP(killer) || !abrupt(survivor, err) || check.n > k:
		return fmt.Errorf("the other saw %d bytes and %v", check.n, orEOF(err))
	}
	return nil
}

// diesReceiving kills one end after k bytes have arrived. The other, which goes on sending, must see that.
func diesReceiving(killer, survivor net.Conn, k int64) error {
	got := make(chan error, 1)
	go func() {
		check := &checker{want: payload(7)}
		_, err := io.CopyN(check, struct{ io.Reader }{killer}, k)
		abort(killer)
		got <- err
	}()
	_, err := io.Copy(survivor, payload(7))
	if died := <-got; died != nil {
		return died
	}
	if !isReset(err) {
		return fmt.Errorf("the other's write failed by %w, want a reset", err)
	}
	return nil
}
