package tunnel

import (
	"fmt"
	"os"
	"time"
)

var errDeadline = fmt.Errorf("the stream: %w", os.ErrDeadlineExceeded)

// A waiter is one direction of a stream that somebody waits for, or has set a deadline for. The nil waiter has neither: most streams
// carry sockets and need none.
type waiter struct {
	wake  chan struct{}
	timer *time.Timer
	at    time.Time
	past  bool
}

func (w *waiter) signal() {
	if w != nil {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

func (w *waiter) late() bool { return w != nil && w.past }

func (w *waiter) stop() {
	if w != nil && w.timer != nil {
		w.timer.Stop()
	}
}

func waiterOf(w **waiter) *waiter {
	if *w == nil {
		*w = &waiter{wake: make(chan struct{}, 1)}
	}
	return *w
}

// wait waits for a signal, without the session's lock.
func (st *Stream) wait(w **waiter) {
	wake := waiterOf(w).wake
	st.s.mu.Unlock()
	<-wake
	st.s.mu.Lock()
}

func (st *Stream) setDeadline(w **waiter, t time.Time) {
	if t.IsZero() && *w == nil {
		return
	}
	d := waiterOf(w)
	d.stop()
	d.at, d.past, d.timer = t, false, nil
	if t.IsZero() || st.closed {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		d.past = true
		d.signal()
		return
	}
	d.timer = time.AfterFunc(left, func() {
		st.s.mu.Lock()
		defer st.s.mu.Unlock()
		if d.at.Equal(t) {
			d.past = true
			d.signal()
		}
	})
}

// SetDeadline is that of net.Conn.
func (st *Stream) SetDeadline(t time.Time) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.setDeadline(&st.rd, t)
	st.setDeadline(&st.wr, t)
	return nil
}

// SetReadDeadline is that of net.Conn.
func (st *Stream) SetReadDeadline(t time.Time) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.setDeadline(&st.rd, t)
	return nil
}

// SetWriteDeadline is that of net.Conn.
func (st *Stream) SetWriteDeadline(t time.Time) error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.setDeadline(&st.wr, t)
	return nil
}
