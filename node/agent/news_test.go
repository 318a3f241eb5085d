package agent

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestNewsAreFew: the other end cannot fill the log.
func TestNewsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Options{})
		for range 2 {
			n := 0
			for range 10 * newsMost {
				if f.NewsLevel() == slog.LevelInfo {
					n++
				}
			}
			if n != newsMost {
				t.Errorf("%d lines", n)
			}
			time.Sleep(newsTime)
		}
	})
}
