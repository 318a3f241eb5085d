// Package deadline is a moment that can be moved while somebody waits for it, for connections that are no sockets.
package deadline

import (
	"sync"
	"time"
)

// A Deadline is made with New.
type Deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when the moment has come
}

// New is a Deadline that never comes.
func New() Deadline { return Deadline{passed: make(chan struct{})} }

// Set moves the deadline to t; zero is never.
func (d *Deadline) Set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // the timer has fired, and closes it
	}
	d.timer = nil
	select {
	case <-d.passed:
		d.passed = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	passed := d.passed
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(passed) })
	} else {
		close(passed)
	}
}

// Wait returns what is closed when the moment has come. Once it is, the deadline may have been moved: then Wait returns
// something else, and the wait goes on.
func (d *Deadline) Wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}
