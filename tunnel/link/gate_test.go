package link

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A lobby is a gate, and who was sent away.
type lobby struct {
	*gate
	gone []string
}

// in comes in, if it may, and waits until who has to make room for it has gone, which is not said before the gate is free again.
func (c *lobby) in(from, name string) *guest {
	var in *guest
	in = c.enter(netip.MustParseAddr(from), func() {
		in.leave()
		c.gone = append(c.gone, name)
	})
	synctest.Wait()
	return in
}

func newLobby(most, perSource int) *lobby {
	return &lobby{gate: newGate(most, perSource, slog.New(slog.DiscardHandler))}
}

func TestGateOfOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLobby(10, 2)
		first, second := c.in("192.0.2.1", "1"), c.in("192.0.2.1", "2")
		if c.in("192.0.2.1", "3") != nil || len(c.gone) > 0 {
			t.Fatal("a third one of the source was let in")
		}
		if c.in("192.0.2.2", "other") == nil {
			t.Fatal("another source was not let in")
		}
		time.Sleep(patience)
		if c.in("192.0.2.1", "4") == nil || fmt.Sprint(c.gone) != "[1]" {
			t.Fatalf("the oldest does not make room: %v", c.gone)
		}
		first.leave()
		second.leave()
		second.leave()
		if c.all.n != 2 {
			t.Errorf("%d are counted", c.all.n)
		}
	})
}

func TestGateIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newLobby(4, 4)
		for i := range 4 {
			c.in("2001:db8::"+fmt.Sprint(i), fmt.Sprint(i)) // one /64
		}
		if c.in("2001:db8::5", "5") != nil {
			t.Error("the source that has most was let in once more")
		}
		if c.in("2001:db8:1::", "a") == nil || c.in("::ffff:192.0.2.1", "b") == nil {
			t.Error("sources that have none were not let in")
		}
		if len(c.gone) != 2 || strings.ContainsAny(fmt.Sprint(c.gone), "ab") {
			t.Errorf("%v have gone", c.gone)
		}
		if c.in("192.0.2.1", "c") == nil || c.in("192.0.2.1", "d") != nil { // of two that have two, the other one goes
			t.Error("b's source has less than its share, or more than it")
		}
		if len(c.gone) != 3 || strings.ContainsAny(fmt.Sprint(c.gone), "abc") {
			t.Errorf("%v have gone", c.gone)
		}
		time.Sleep(patience)
		if c.in("192.0.2.1", "d") == nil || c.gone[len(c.gone)-1] != "b" {
			t.Errorf("those who are late do not make room: %v", c.gone)
		}
	})
}

// TestGateOfManyNetworks: who has a whole network counts as one, however many of its parts he comes from, and nobody who has as many as all
// others knows who goes.
func TestGateOfManyNetworks(t *testing.T) {
	for name, crowd := range map[string]string{"of IPv6": "2001:db8:5:%x::1", "of IPv4": "198.51.100.%d"} {
		synctest.Test(t, func(t *testing.T) {
			c := newLobby(200, 100)
			for i := range 200 {
				c.in(fmt.Sprintf(crowd, i), "crowd")
			}
			for i := range 20 {
				if c.in(fmt.Sprintf("2001:db8:%x::1", 0x100+i), "honest") == nil {
					t.Fatalf("%s: somebody else is kept out", name)
				}
			}
			for i := range 200 {
				c.in(fmt.Sprintf(crowd, i), "crowd")
			}
			if slices.Contains(c.gone, "honest") {
				t.Errorf("%s: it has sent others away", name)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := newLobby(100, 100)
		from := func(i int) string { return fmt.Sprintf("2001:%x::", i+1) }
		for i := range 100 {
			c.in(from(i), fmt.Sprint(i))
		}
		for i := range 20 {
			if c.in(from(100+i), fmt.Sprint(100+i)) == nil {
				t.Fatal("where everybody has one, nobody is let in")
			}
		}
		if len(c.gone) != 20 || slices.IsSortedFunc(c.gone, func(a, b string) int { return len(a) - len(b) }) && slices.IsSorted(c.gone) {
			t.Errorf("%v have gone, which is what somebody could have known before", c.gone)
		}
	})
}

func TestGateIsEmptyInTheEnd(t *testing.T) {
	c := newLobby(1000, 1000)
	var all []*guest
	for i := range 900 {
		all = append(all, c.enter(netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i%7)), func() {}))
	}
	for i := range all { // in some order
		all[i*331%900].leave()
	}
	if c.all.n != 0 || len(c.all.parts) != 0 {
		t.Errorf("%d, %v", c.all.n, c.all.parts)
	}
}

// TestBurst: many refusals are one line.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		c := &lobby{gate: newGate(1, 1, slog.New(slog.NewTextHandler(&text, nil)))}
		c.in("192.0.2.1", "")
		for range 500 {
			c.in("192.0.2.1", "")
			time.Sleep(time.Millisecond)
		}
		if n := strings.Count(text.String(), "\n"); n != 1 {
			t.Errorf("%d lines:\n%s", n, text.String())
		}
		time.Sleep(burstEnd)
		c.sourceLocked(networks(netip.MustParseAddr("192.0.2.1"))).guests[0].since = time.Now()
		c.in("192.0.2.1", "")
		if !strings.Contains(text.String(), "before=499") {
			t.Errorf("%s", text.String())
		}
	})
}

// TestHastyWhenBusy: who shakes hands by QUIC has less time while there are many.
func TestHastyWhenBusy(t *testing.T) {
	l := NewListener(ListenOptions{Identity: identity(t)})
	usual := l.quicConfig()
	quiet, err := usual.GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxWaiting/8 + 1 {
		if l.gate.enter(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), func() {}) == nil {
			t.Fatal("it is full")
		}
	}
	busy, err := usual.GetConfigForClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	if quiet.HandshakeIdleTimeout != handshakeTime/2 || busy.HandshakeIdleTimeout >= quiet.HandshakeIdleTimeout || busy.MaxIncomingStreams != quicLanes {
		t.Errorf("on a quiet day %v, on a busy one %v", quiet.HandshakeIdleTimeout, busy.HandshakeIdleTimeout)
	}
}

// TestEvictedEarly: who is evicted before he has a connection has none.
func TestEvictedEarly(t *testing.T) {
	for _, early := range []bool{true, false} {
		near, far := net.Pipe()
		var s seatless
		if early {
			s.close()
		}
		s.is(near)
		if !early {
			s.close()
		}
		far.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("evicted early: %v; it is open: %v", early, err)
		}
		far.Close()
	}
}
