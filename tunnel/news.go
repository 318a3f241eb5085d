package tunnel

import (
	"log/slog"
	"time"
)

// How many lines about its links a session may have in the log, and in which time. The other end decides how often they come and go.
const (
	newsMost = 10
	newsTime = time.Minute
)

// news is what has been said lately. What is too much for the log is there for those who debug.
type news struct {
	since  time.Time
	said   int
	unsaid int // since the last line
}

// level is that of the next line, and how many have had none before it.
func (n *news) level(now time.Time) (level slog.Level, before int) {
	if now.Sub(n.since) >= newsTime {
		n.since, n.said = now, 0
	}
	if n.said++; n.said > newsMost {
		n.unsaid++
		return slog.LevelDebug, 0
	}
	before, n.unsaid = n.unsaid, 0
	return slog.LevelInfo, before
}

// newsOf is the level of a line about a link in the log, and what it says.
func (s *Session) newsOf(a *attached) (slog.Level, []any) {
	s.mu.Lock()
	level, before := s.news.level(time.Now())
	s.mu.Unlock()
	about := []any{"session", s.o.ID.String(), "transport", a.conn.Transport(), "remote", a.conn.Remote()}
	if before > 0 {
		about = append(about, "before", before)
	}
	return level, about
}
