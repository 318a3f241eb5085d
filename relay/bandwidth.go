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

// A bucket holds the bytes of all sessions of one forward, in one direction, to a rate. Bytes are paid for after they have
// passed, so that a session that waits for data holds no share of the rate. The zero bucket has no limit.
type bucket struct {
	rate atomic.Int64 // bytes a second; 0 is no limit

	mu   sync.Mutex
	paid time.Time // up to when the bytes that passed use up the rate
}

func (b *bucket) setRate(rate int64) { b.rate.Store(rate) }

// Slice is how many bytes to move before paying for them; 0 is no limit.
func (b *bucket) Slice() int {
	rate := b.rate.Load()
	if rate == 0 {
		return 0
	}
	return int(min(max(rate/int64(time.Second/limitSlice), minSlice), maxSlice))
}

// Pay takes n bytes that have passed into account now and returns how long to wait before the next.
func (b *bucket) Pay(n int64) time.Duration {
	if b.rate.Load() == 0 {
		return 0
	}
	return b.pay(n, time.Now())
}

// pay takes n bytes that have passed into account and returns how long to wait before the next.
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
	b.paid = b.paid.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return b.paid.Sub(now)
}

// payAndWait pays for n bytes and waits as long as they take.
func (b *bucket) payAndWait(ctx context.Context, n int64) {
	if b.rate.Load() == 0 {
		return
	}
	wait := b.pay(n, time.Now())
	if wait <= 0 {
		return
	}
	sleep(ctx, wait)
}

// allow reports whether a datagram of n bytes fits the rate now, and pays for it if so. One that does not is dropped:
// holding datagrams back would only make them late.
func (b *bucket) allow(n int) bool {
	if b.rate.Load() == 0 {
		return true
	}
	now := time.Now()
	if b.pay(0, now) > 0 {
		return false
	}
	b.pay(int64(n), now)
	return true
}
