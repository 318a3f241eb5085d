package sshd

import (
	"sync"
	"time"
)

// keyLeftOut is the key of a log attribute.
const keyLeftOut = "left_out"

// A throttle keeps what strangers and clients can cause at will from filling the log: one line a second, which says how many
// were left out.
type throttle struct {
	mu      sync.Mutex
	next    time.Time
	skipped int
}

// may reports whether a line may be logged now, and how many were left out before it.
func (t *throttle) may() (leftOut int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(t.next) {
		t.skipped++
		return 0, false
	}
	leftOut = t.skipped
	t.next, t.skipped = now.Add(time.Second), 0
	return leftOut, true
}
