package health

import "time"

// A State is what is known of a target.
type State uint8

// The states. Only a target with a check can be Down: one that no check looks after is failing until it answers.
//
//	             answers                    answers
//	Unknown ───────────────► Up ◄─────────────────────── Failing
//	   │ fails                │ fails: a session or a check  ▲ │ Fall checks in a row failed
//	   ├──────────────────────┴──────────────────────────────┘ ▼
//	   └─(its first check fails)─────────────────────────────► Down ──(Rise checks in a row were answered)──► Up
const (
	Unknown State = iota // nothing has been heard of it; it gets sessions, but they do not wait long for it
	Up                   // it answered
	Failing              // it did not answer the last time; it is tried after those that are up
	Down                 // it is not tried while another is not down
)

func (s State) String() string { return [...]string{"unknown", "up", "failing", "down"}[s] }

// How many checks in a row it takes to change a verdict: what HAProxy does unless told otherwise (fall 3, rise 2).
const (
	Fall = 3
	Rise = 2
)

const (
	// soon is the longest time to the next check while a verdict is under way: three of them are to be over before many
	// clients have noticed.
	soon = time.Second
	// A failing target that no check looks after is asked again after firstWait, then after twice as long each time.
	firstWait = time.Second
	lastWait  = 30 * time.Second
)

// A Record is what is known of one target. The zero Record knows nothing.
type Record struct {
	state  State
	err    error         // why it is Failing or Down
	since  time.Time     // when it came into its state
	streak int           // checks in a row that speak against the state
	wait   time.Duration // before it is asked again, while it is Failing and no check looks after it
	back   time.Time     // when it came back; zero: it has never been away
}

// State is the state now.
func (r *Record) State() State { return r.state }

// Why is when the target came into its state, and the reason for it when that is not a good one.
func (r *Record) Why() (since time.Time, err error) { return r.since, r.err }

// Reached notes that a session reached the target. A check that finds it down is believed more: the target may accept
// connections and answer them with errors.
func (r *Record) Reached(now time.Time) {
	if r.state != Up && r.state != Down {
		r.up(now)
	}
}

// Failed notes that a session could not reach the target, and reports whether that is news.
func (r *Record) Failed(now time.Time, err error) bool {
	if r.state == Failing || r.state == Down {
		return false
	}
	r.fail(now, Failing, err)
	return true
}

// Checked notes the outcome of a check.
func (r *Record) Checked(now time.Time, err error) {
	switch {
	case err == nil && r.state == Down:
		if r.streak++; r.streak >= Rise {
			r.up(now)
		}
	case err == nil && r.state == Up:
		r.streak = 0
	case err == nil:
		r.up(now)
	case r.state == Unknown:
		r.fail(now, Down, err)
	case r.state == Up:
		r.fail(now, Failing, err)
		r.streak = 1
	case r.state == Failing:
		r.err = err
		if r.streak++; r.streak >= Fall {
			r.fail(now, Down, err)
		}
	case r.state == Down:
		r.err, r.streak = err, 0
	}
}

// Retried notes what became of asking a failing target that no check looks after.
func (r *Record) Retried(now time.Time, err error) {
	switch {
	case r.state != Failing:
	case err == nil:
		r.up(now)
	default:
		r.err, r.wait = err, min(2*r.wait, lastWait)
	}
}

// CheckGone notes that no check looks after the target any more: only sessions can find out from now on.
func (r *Record) CheckGone() {
	r.streak = 0
	if r.state == Down {
		r.state = Failing
	}
}

// Joined notes that a target was put beside others that have been there before, and is to get its share gradually.
func (r *Record) Joined(now time.Time) { r.back = now }

// NextCheck is how long to wait before the next check of a target that is checked this often.
func (r *Record) NextCheck(every time.Duration) time.Duration {
	if r.state == Failing || r.streak > 0 {
		return min(every, soon)
	}
	return every
}

// NextRetry is how long to wait before a target that no check looks after is asked again; 0 is not at all.
func (r *Record) NextRetry() time.Duration {
	if r.state != Failing {
		return 0
	}
	return max(r.wait, firstWait)
}

// leastWeight keeps a target that has just come back from being left out altogether: only a session shows that it works.
const leastWeight = 0.01

// Weight is the share of sessions that the target is to get, beside others with 1: it grows from nearly 0 to 1 during
// slowStart after the target came back. 0 is no slow start.
func (r *Record) Weight(now time.Time, slowStart time.Duration) float64 {
	if slowStart <= 0 || r.back.IsZero() {
		return 1
	}
	return min(max(float64(now.Sub(r.back))/float64(slowStart), leastWeight), 1)
}

// up makes the target Up, which is a comeback unless nothing was known of it.
func (r *Record) up(now time.Time) {
	back := r.back
	if r.state != Unknown {
		back = now
	}
	*r = Record{state: Up, since: now, back: back}
}

func (r *Record) fail(now time.Time, state State, err error) {
	if r.state != Failing { // a target that goes from failing to down has not answered since it began to fail
		r.since = now
	}
	r.state, r.err, r.streak, r.wait = state, err, 0, firstWait
}
