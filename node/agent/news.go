package agent

import (
	"log/slog"
	"sync"
	"time"
)

// How many lines the other end may cause in the log, and in which time: more than an agent has listeners.
const (
	newsMost = 200
	newsTime = time.Minute
)

// news counts them.
type news struct {
	mu    sync.Mutex
	since time.Time
	said  int
}

// NewsLevel is the level of the next line in the log about something that the other end decides how often it happens. What is too much for
// the log is there for those who debug.
func (f *Far) NewsLevel() slog.Level {
	n := &f.news
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); now.Sub(n.since) >= newsTime {
		n.since, n.said = now, 0
	}
	if n.said++; n.said > newsMost {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
