package relay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// limitSlice is how much time's worth of a limited stream is moved at once: short enough that streams sharing a limit
	// take turns, long enough that the system calls do not matter.
	limitSlice = 20 * time.Millisecond
	// limitBurst is how much time's worth may pass at once after a pause.
	limitBurst = 50 * time.Millisecond

	minSlice = 1500
	maxSlice = 256 << 10
)

// A bucket holds all bytes of one direction of several sessions to a rate. Bytes that are there to be moved are paid for and
// then wait for their turn, so that a session that waits for data holds no share of the rate, and new sessions queue behind
// the others rather than adding to the rate. The zero bucket has no limit.
type bucket struct {
	rate atomic.Int64 // bytes a second; 0 is no limit

	mu   sync.Mutex
	paid time.Time // up to when the bytes that were paid for use up the rate
}

func (b *bucket) setRate(rate int64) { b.rate.Store(rate) }

// slice is how many bytes to move in one turn; 0 is no limit.
func (b *bucket) slice() int {
	rate := b.rate.Load()
	if rate == 0 {
		return 0
	}
	return int(min(max(rate/int64(time.Second/limitSlice), minSlice), maxSlice))
}

// pay takes n bytes into account that are about to pass, and returns how long it is until their turn. A negative n gives back
// what was paid for and did not pass.
func (b *bucket) pay(n int64, now time.Time) time.Duration {
	rate := b.rate.Load()
	if rate == 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if floor := now.Add(-limitBurst); b.paid.Before(floor) {
		b.paid = floor
	}
	turn := b.paid
	b.paid = turn.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return max(0, turn.Sub(now))
}

// A limit is what one direction of a session is held to: the rate of its forward and that of its client's address. The zero
// limit is none. It is an engine.Limit.
type limit struct {
	all    *bucket                // of the forward; set once, when the session enters
	source atomic.Pointer[bucket] // of the client's address; nil: none
}

// Slice is how many bytes to move in one turn, by the slower of the rates; 0 is no limit.
func (l *limit) Slice() int {
	if l.all == nil {
		return 0
	}
	n := l.all.slice()
	if source := l.source.Load(); source != nil {
		if m := source.slice(); n == 0 || m > 0 && m < n {
			n = m
		}
	}
	return n
}

// Pay takes n bytes into account that are about to pass, and returns how long it is until their turn, which is when both rates
// have them. A negative n gives back what was paid for and did not pass.
func (l *limit) Pay(n int64) time.Duration {
	if l.Slice() == 0 {
		return 0
	}
	return l.pay(n, time.Now())
}

func (l *limit) pay(n int64, now time.Time) time.Duration {
	wait := l.all.pay(n, now)
	if source := l.source.Load(); source != nil {
		wait = max(wait, source.pay(n, now))
	}
	return wait
}

// await pays for n bytes and waits for their turn.
func (l *limit) await(ctx context.Context, n int64) {
	if wait := l.Pay(n); wait > 0 {
		sleep(ctx, wait)
	}
}

// allow reports whether a datagram of n bytes fits the rates now, and pays for it if so. One that does not is dropped:
// holding datagrams back would only make them late.
func (l *limit) allow(n int) bool {
	if l.Slice() == 0 {
		return true
	}
	now := time.Now()
	if l.pay(0, now) > 0 {
		return false
	}
	l.pay(int64(n), now)
	return true
}

// A source is what the live sessions of one client address share.
type source struct {
	sessions, parts  int // all of them, and those that are a part of another one
	upload, download bucket
}

// share puts the rates of its source on a session, which may be under way; a nil source has none.
func (s *session) share(from *source) {
	if from == nil {
		s.upload.source.Store(nil)
		s.download.source.Store(nil)
		return
	}
	s.upload.source.Store(&from.upload)
	s.download.source.Store(&from.download)
}
