package health

import "time"

// A Rest keeps new flows of datagrams away from a target that has refused one. Nothing answers a datagram for certain, so
// there is neither a success to wait for nor a way to ask: when the rest is over, one client tries. The zero Rest is none.
type Rest struct {
	until time.Time
	wait  time.Duration
	err   error
}

// Failed begins a rest, which is twice as long as the one before if that has not been over for as long as it lasted.
func (r *Rest) Failed(now time.Time, err error) {
	if now.Sub(r.until) > r.wait {
		r.wait = 0
	}
	r.err = err
	r.wait = min(max(2*r.wait, firstWait), lastWait)
	r.until = now.Add(r.wait)
}

// On reports whether the target rests.
func (r *Rest) On(now time.Time) bool { return now.Before(r.until) }

// Why is when the rest began and what for.
func (r *Rest) Why() (since time.Time, err error) { return r.until.Add(-r.wait), r.err }

// Try lets one client find out: for all others the rest goes on as long as the last one. A target that has not failed
// lately needs no such care.
func (r *Rest) Try(now time.Time) {
	if r.wait > 0 && now.Sub(r.until) <= r.wait {
		r.until = now.Add(r.wait)
	}
}
