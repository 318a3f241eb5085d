package agent

import (
	"context"
	"sync"
)

// tell is what a hub has to say to an agent: the latest is all that counts.
type tell struct {
	mu     sync.Mutex
	latest *Told // nil: it was said
	busy   bool
}

// Tell says what a hub has to say to an agent about itself. It does not wait. Without a session it is forgotten.
func (f *Far) Tell(t Told) {
	f.tell.mu.Lock()
	defer f.tell.mu.Unlock()
	if f.tell.latest = &t; !f.tell.busy {
		f.tell.busy = f.later(f.tellAll)
	}
}

func (f *Far) tellAll(ctx context.Context) {
	for {
		s := f.current()
		f.tell.mu.Lock()
		t := f.tell.latest
		f.tell.latest = nil
		if t == nil || s == nil {
			f.tell.busy = false
			f.tell.mu.Unlock()
			return
		}
		f.tell.mu.Unlock()
		_, _ = s.Ask(ctx, askTold, encode(*t)) // the next session is told, too
	}
}
