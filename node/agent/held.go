package agent

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// held is a stream that is held to a pass; one that needs none is returned as it is. Datagrams of a flow stay whole.
func held(s *tunnel.Stream, p Pass, flow bool) net.Conn {
	if p.Out == nil && p.In == nil && p.Leave == nil {
		return s
	}
	return &heldStream{Stream: s, pass: p, flow: flow, closed: make(chan struct{})}
}

// A heldStream gives its pass back at its end, and is no faster than that says.
type heldStream struct {
	*tunnel.Stream
	pass   Pass
	flow   bool
	left   atomic.Bool
	closed chan struct{} // when the pass was given back
}

func (h *heldStream) Read(p []byte) (int, error) {
	if h.pass.In == nil {
		return h.Stream.Read(p)
	}
	n, err := h.Stream.Read(h.slice(p, h.pass.In))
	h.pay(h.pass.In, n)
	return n, err
}

func (h *heldStream) Write(p []byte) (done int, err error) {
	if h.pass.Out == nil {
		return h.Stream.Write(p)
	}
	for {
		part := h.slice(p, h.pass.Out)
		h.pay(h.pass.Out, len(part))
		n, err := h.Stream.Write(part)
		if done += n; err != nil || len(part) == len(p) {
			return done, err
		}
		p = p[len(part):]
	}
}

func (h *heldStream) slice(p []byte, l node.Limit) []byte {
	if n := l.Slice(); !h.flow && 0 < n && n < len(p) {
		return p[:n]
	}
	return p
}

// pay waits for the turn of n bytes.
func (h *heldStream) pay(l node.Limit, n int) {
	if n == 0 {
		return
	}
	wait := l.Pay(int64(n))
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-h.closed:
	}
}

// Bear has the stream carry a socket, held to what both the pass and o say.
func (h *heldStream) Bear(fd int, o node.BearOptions) (node.Borne, bool) {
	return h.Stream.Bear(fd, Pass{h.pass.Out, h.pass.In, h.leave}.over(o))
}

// Close ends the stream.
func (h *heldStream) Close() error {
	h.leave()
	return h.Stream.Close()
}

func (h *heldStream) leave() {
	if h.left.CompareAndSwap(false, true) {
		close(h.closed)
		h.pass.leave()
	}
}

// both is the slower of two limits.
func both(a, b node.Limit) node.Limit {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return limits{a, b}
}

type limits struct{ a, b node.Limit }

func (l limits) Slice() int {
	n := l.a.Slice()
	if m := l.b.Slice(); n == 0 || m > 0 && m < n {
		n = m
	}
	return n
}

func (l limits) Pay(n int64) time.Duration { return max(l.a.Pay(n), l.b.Pay(n)) }

// A Bucket holds all bytes of one direction to a rate. They are paid for, and then wait for their turn. The zero Bucket has no limit.
type Bucket struct {
	rate atomic.Int64 // bytes a second; 0 is no limit

	mu   sync.Mutex
	paid time.Time // up to when the rate is used up
}

const (
	sliceTime = 20 * time.Millisecond // what moves in one turn, so that streams take turns
	burstTime = 50 * time.Millisecond // what may pass at once after a pause
	minSlice  = 1500
	maxSlice  = 256 << 10
)

// Set changes the rate, in bytes a second; 0 is no limit.
func (b *Bucket) Set(rate int64) { b.rate.Store(rate) }

// Slice is how many bytes to move in one turn.
func (b *Bucket) Slice() int {
	rate := b.rate.Load()
	if rate == 0 {
		return 0
	}
	return int(min(max(rate/int64(time.Second/sliceTime), minSlice), maxSlice))
}

// Pay takes n bytes into account and returns how long it is until their turn.
func (b *Bucket) Pay(n int64) time.Duration {
	rate := b.rate.Load()
	if rate == 0 {
		return 0
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if floor := now.Add(-burstTime); b.paid.Before(floor) {
		b.paid = floor
	}
	turn := b.paid
	b.paid = turn.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return max(0, turn.Sub(now))
}
