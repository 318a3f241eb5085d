package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
	// noteLinger keeps the note up a little longer than the pause itself: only an accept that does not fail again shows
	// that the pause is over, and one that waits for a client does not say so.
	noteLinger = 500 * time.Millisecond
)

// A pause holds back accepting while the process is out of file descriptors. It is one for the whole relay, because the
// descriptors are, too: a session that ends at one forward lets any other go on.
//
//	accepting ──(EMFILE, ENFILE)──► paused, twice as long each time ──(time is up)──► accepting
type pause struct {
	on atomic.Bool // until may be to come: spares the mutex

	mu    sync.Mutex
	until time.Time
	last  time.Duration
	note  string
}

// isScarce reports whether err says that the process or the system is out of descriptors or memory for sockets.
func isScarce(err error) bool {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// spareDescriptors is what the relay leaves to the rest of the process: whoever wants to see why nobody gets in any more
// needs a connection to the control socket.
const (
	spareDescriptors = 48
	fewDescriptors   = 64
)

// errCrowded stands for what accept(2) would say without the spare ones.
const errCrowded = syscall.EMFILE

// crowded reports whether the relay has taken its share of the descriptors.
func (r *Relay) crowded() bool {
	held := r.held.Load() + r.listening.Load()
	if held < fewDescriptors {
		return false // every system allows so many
	}
	limit := int64(descriptorLimit())
	return limit > 0 && held > limit-min(spareDescriptors, limit/2)
}

// begin pauses because of err and reports whether a new pause began, as opposed to the last one going on.
func (p *pause) begin(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.until) {
		return false
	}
	fresh := now.After(p.until.Add(noteLinger))
	if fresh {
		p.last = 0
	}
	p.last = min(max(2*p.last, minPause), maxPause)
	p.until = now.Add(p.last)
	p.on.Store(true)
	p.note = "accepting is paused: " + outOfDescriptors(err)
	return fresh
}

// wait returns when there is no pause, or false when ctx is done.
func (p *pause) wait(ctx context.Context) bool {
	for {
		left := p.left()
		if left == 0 {
			return ctx.Err() == nil
		}
		if !sleep(ctx, left) {
			return false
		}
	}
}

// left is how long the pause goes on, 0 when there is none.
func (p *pause) left() time.Duration {
	if !p.on.Load() {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	left := max(0, time.Until(p.until))
	p.on.Store(left > 0)
	return left
}

// sleep reports whether the whole time has passed.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// current is the note to show now, or "".
func (p *pause) current() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().After(p.until.Add(noteLinger)) {
		return ""
	}
	return p.note
}

func outOfDescriptors(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		if limit := descriptorLimit(); limit > 0 {
			return fmt.Sprintf("out of file descriptors (limit %d)", limit)
		}
		return "out of file descriptors"
	case errors.Is(err, syscall.ENFILE):
		return "out of file descriptors (the limit of the whole system)"
	}
	return "out of memory for sockets"
}
