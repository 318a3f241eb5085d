package sshd

import (
	"log/slog"
	"sync"
	"time"
)

// A throttle keeps what strangers and clients can cause at will from filling the log: one line a second, which says how many
// were left out.
type throttle struct {
	mu      sync.Mutex
	next    time.Time
	skipped int
}

// may reports whether a line may be logged now, and which attributes say what was left out.
func (t *throttle) may() (leftOut slog.Attr, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(t.next) {
		t.skipped++
		return slog.Attr{}, false
	}
	if t.skipped > 0 {
		leftOut = slog.Int("left_out", t.skipped)
	}
	t.next, t.skipped = now.Add(time.Second), 0
	return leftOut, true
}
