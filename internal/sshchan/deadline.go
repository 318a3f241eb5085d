package sshchan

import (
	"net"
	"os"
	"sync"
	"time"
)

// A deadline is a moment that can be moved while somebody waits for it. It is made with newDeadline.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	passed chan struct{} // closed when the moment has come
}

func newDeadline() deadline { return deadline{passed: make(chan struct{})} }

// set moves the deadline to t; zero is never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.passed // the timer has fired, and closes it
	}
	d.timer = nil
	if isClosed(d.passed) {
		d.passed = make(chan struct{})
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

// wait returns what is closed when the moment has come. Once it is, the deadline may have been moved: then wait returns
// something else, and the wait goes on.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

// begin is wait for those who have not begun to wait. The error is that they need not.
func (d *deadline) begin(closed <-chan struct{}) (<-chan struct{}, error) {
	passed := d.wait()
	switch {
	case isClosed(closed):
		return passed, net.ErrClosed
	case isClosed(passed):
		return passed, os.ErrDeadlineExceeded
	}
	return passed, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
