package link

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// A runner is one who takes part in a race.
type runner struct {
	after time.Duration // after the start, or when all who have started have failed
	run   func(ctx context.Context) (tunnel.Link, error)
}

// An outcome is how a runner did.
type outcome struct {
	ran  time.Duration // for how long; 0: it was not needed
	err  error         // nil: it won; errLost: it still ran when another won
	link tunnel.Link
}

// errLost is that another was first.
var errLost = errors.New("another was faster")

// race has runners start one after the other, takes the first link that there is, and has the others stop. It returns when all have.
// The runners are in the order of their start. The winner is -1 if there is none.
func race(ctx context.Context, runners []runner) (winner int, all []outcome) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		i    int
		link tunnel.Link
		err  error
	}
	results := make(chan result)
	var wait sync.WaitGroup
	defer wait.Wait()
	all = make([]outcome, len(runners))
	began := make([]time.Time, len(runners))
	winner, next, running := -1, 0, 0
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if winner < 0 && ctx.Err() == nil {
			for next < len(runners) && (running == 0 || time.Since(start) >= runners[next].after) {
				i := next
				began[i] = time.Now()
				next++
				running++
				wait.Go(func() {
					link, err := runners[i].run(ctx)
					results <- result{i, link, err}
				})
			}
			if next < len(runners) {
				timer.Reset(runners[next].after - time.Since(start))
			}
		}
		if running == 0 {
			return winner, all
		}
		select {
		case <-timer.C:
		case r := <-results:
			running--
			all[r.i].ran = max(time.Since(began[r.i]), 1)
			switch {
			case r.err != nil && winner >= 0:
				all[r.i].err = errLost
			case r.err != nil:
				all[r.i].err = r.err
			case winner >= 0:
				all[r.i].err = errLost
				r.link.Close()
			default:
				winner = r.i
				all[r.i].link = r.link
				cancel()
			}
		}
	}
}
