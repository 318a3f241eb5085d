package link

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// How often races start while there is no link. A race that waits for an answer is not waited for: SYN and Initial packets are repeated
// at longer and longer intervals, so that the next race may well be the first to get through once the network is back.
const (
	againFirst = 250 * time.Millisecond
	againSoon  = 700 * time.Millisecond // for as long as sessions are kept
	soon       = 5 * time.Minute
	againLast  = 15 * time.Second
	atOnce     = 8 // races at one time, of which each has its dialTime
)

// Redial races until there is a link: at once, then several times in a second, and after five minutes less and less often. A hub that has
// another key is not asked again: the error is a *WrongKeyError. failed is told why a race had no winner, and may be nil.
func (d *Dialer) Redial(ctx context.Context, failed func(error)) (tunnel.Link, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		link tunnel.Link
		err  error
	}
	results := make(chan result)
	var races sync.WaitGroup
	defer races.Wait()
	changed := watch(ctx, &races, d.in)
	start, wait := time.Now(), againFirst
	running := 0
	var last error
	timer := time.NewTimer(0)
	defer timer.Stop()
	var won tunnel.Link
	var end error
	for {
		if end == nil && ctx.Err() != nil && won == nil {
			end = errors.Join(ctx.Err(), last)
		}
		if running == 0 && (end != nil || won != nil) {
			return won, end
		}
		select {
		case <-timer.C:
		case <-changed: // of addresses or routes: what failed may work now
			start, wait = time.Now(), againFirst
		case <-doneUnless(ctx, end != nil || won != nil):
			continue
		case r := <-results:
			running--
			var wrong *WrongKeyError
			switch {
			case r.err == nil && won == nil && end == nil:
				won = r.link
				cancel()
			case r.err == nil:
				r.link.Close()
			case errors.As(r.err, &wrong) && won == nil && end == nil:
				end = wrong
				cancel()
			case ctx.Err() == nil:
				if last == nil || r.err.Error() != last.Error() {
					d.Log.Info("the hub is not reached", "error", r.err)
				}
				last = r.err
				if failed != nil {
					failed(last)
				}
			}
			continue
		}
		if end != nil || won != nil || ctx.Err() != nil {
			continue
		}
		if running < atOnce {
			running++
			races.Go(func() {
				link, err := d.Dial(ctx)
				results <- result{link, err}
			})
		}
		timer.Reset(wait/2 + rand.N(wait))
		if time.Since(start) < soon {
			wait = min(2*wait, againSoon)
		} else {
			wait = min(2*wait, againLast)
		}
	}
}

// doneUnless is ctx.Done, or nothing once it is no news.
func doneUnless(ctx context.Context, known bool) <-chan struct{} {
	if known {
		return nil
	}
	return ctx.Done()
}
