package sshd

import (
	"context"
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

func (t *throttle) log(log *slog.Logger, level slog.Level, text string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Before(t.next) {
		t.skipped++
		return
	}
	if t.skipped > 0 {
		args = append(args, "left_out", t.skipped)
	}
	t.next, t.skipped = now.Add(time.Second), 0
	log.Log(context.Background(), level, text, args...)
}
