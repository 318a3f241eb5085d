package main

import (
	"runtime/debug"
	"sync"
	"time"
)

// A tidier gives memory back to the system that a rush of handshakes has left behind: the collector by itself would keep as much again as is in
// use, for allocations that do not come.
type tidier struct {
	mu    sync.Mutex
	timer *time.Timer // nil: nothing is due
	last  time.Time
}

const (
	tidyQuiet = 500 * time.Millisecond // since the last handshake
	tidyPause = 5 * time.Second        // from one collection to the next
)

// soon has memory given back once nothing more comes.
func (t *tidier) soon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := max(tidyQuiet, time.Until(t.last.Add(tidyPause)))
	if t.timer != nil {
		t.timer.Reset(wait)
		return
	}
	t.timer = time.AfterFunc(wait, func() {
		t.mu.Lock()
		t.timer, t.last = nil, time.Now()
		t.mu.Unlock()
		debug.FreeOSMemory()
	})
}

// stop leaves it at that.
func (t *tidier) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
}
