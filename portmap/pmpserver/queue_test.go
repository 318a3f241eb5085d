package pmpserver

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

func askOf(client byte, n int) *ask {
	return &ask{seal: seal{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, client}), 1000), uint64(n)}}
}

func TestQueueTakesTurns(t *testing.T) {
	q := newQueue()
	for n := range queueClient {
		if !q.put(askOf(1, n)) {
			t.Fatalf("no room for the request %d", n)
		}
	}
	if q.put(askOf(1, queueClient)) {
		t.Error("one client has more than it may")
	}
	if !q.put(askOf(1, 3)) || q.total != queueClient {
		t.Error("a repeated request is not known")
	}
	q.put(askOf(2, 0))
	q.put(askOf(2, 1))
	first := q.take(t.Context(), nil)
	of := map[byte]int{}
	last := -1
	for _, a := range first {
		client := a.seal.from.Addr().As4()[3]
		of[client]++
		if client == 1 {
			if int(a.seal.hash) != last+1 {
				t.Fatalf("request %d comes after %d", a.seal.hash, last)
			}
			last = int(a.seal.hash)
		}
	}
	if len(first) != askBatch || of[2] != 2 {
		t.Errorf("the first batch has %v", of)
	}
	for _, a := range first {
		q.done(a)
	}
	for n := len(first); n < queueClient+2; {
		got := q.take(t.Context(), nil)
		n += len(got)
		for _, a := range got {
			q.done(a)
		}
	}
	if len(q.lines) != 0 || len(q.turns) != 0 || len(q.known) != 0 || q.total != 0 {
		t.Errorf("left are %d lines, %d turns, %d seals, %d in all", len(q.lines), len(q.turns), len(q.known), q.total)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := q.take(ended, nil); got != nil {
		t.Errorf("an empty queue has %v", got)
	}
}

func TestFullQueueTakesFromTheLongest(t *testing.T) {
	q := newQueue()
	for client := range byte(2) {
		for n := range queueClient {
			q.put(askOf(client, n))
		}
	}
	if q.total != queueTotal {
		t.Fatalf("%d are in it", q.total)
	}
	for n := range 100 {
		if !q.put(askOf(3, n)) {
			t.Fatal("no room for one who has little")
		}
	}
	if q.put(askOf(1, queueClient)) || q.total != queueTotal || len(q.known) != queueTotal {
		t.Errorf("%d are in it, %d known", q.total, len(q.known))
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter(10)
	a, b := netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("2001:db8::1")
	count := func(client netip.Addr, at time.Duration) (n int) {
		for range 100 {
			if l.may(client, at) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		client netip.Addr
		at     time.Duration
		want   int
	}{
		{a, 0, 10}, {a, 0, 0}, {a, 500 * time.Millisecond, 5}, {a, time.Hour, 10},
		{b, time.Hour, 10}, {netip.MustParseAddr("2001:db8::2"), time.Hour, 0}, // one network, and a host may have all of it
	} {
		if got := count(c.client, c.at); got != c.want {
			t.Errorf("%v at %v: %d, want %d", c.client, c.at, got, c.want)
		}
	}
}
