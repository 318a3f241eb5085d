package relay

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// errSlow is what is said of a target that had neither answered nor refused when its client went on.
var errSlow = errors.New("no answer")

// A finish is how the attempt at one target ended.
type finish struct {
	dialled
	err error
}

// raceTargets reaches the first of several targets that answers. They start one after the other: the next one when the one
// before has failed, or has had its client's patience without an answer and then goes on beside it (RFC 8305, section 5,
// does the same with the addresses of one host). So a target that is dead without a word costs a moment and not a timeout.
func (r *Relay) raceTargets(ctx context.Context, dial dialFunc, s *session, order []forward.Target) (dialled, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends those that lost
	finished := make(chan finish)
	patience := time.NewTimer(0) // the first one starts at once
	defer patience.Stop()
	var last error
	var silent []forward.Target
	for next, running := 0, 0; next < len(order) || running > 0; {
		select {
		case <-patience.C:
			if running > 0 {
				s.task.failed(s, &order[next-1], errSlow)
			}
		case f := <-finished:
			running--
			if f.err == nil {
				return f.dialled, nil
			}
			if last = f.err; isScarce(last) {
				return dialled{}, last
			}
			silent = append(silent, silentOf(last)...)
		case <-ctx.Done():
			return dialled{}, ctx.Err()
		}
		if next == len(order) {
			continue
		}
		to := &order[next]
		next++
		running++
		timeout := dialTime(s.f, next == len(order))
		r.wg.Go(func() { enterRace(ctx, finished, dial, s, to, timeout) })
		if next < len(order) {
			patience.Reset(s.task.patience(to))
		}
	}
	if dial := new(DialError); errors.As(last, &dial) {
		dial.silent = silent
	}
	return dialled{}, last
}

// enterRace tries one target, and closes its connection when another was quicker.
func enterRace(ctx context.Context, finished chan<- finish, dial dialFunc, s *session, to *forward.Target, timeout time.Duration) {
	d, err := dialTarget(ctx, dial, s, to, timeout)
	select {
	case finished <- finish{d, err}:
	case <-ctx.Done():
		if err == nil {
			_ = d.conn.Close()
		}
	}
}
