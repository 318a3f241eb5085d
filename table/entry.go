package table

import (
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

// An entry is one forward of the desired set and how it is doing. A forward that changes gets a new entry.
//
//	                    Put, Replace, what was stored
//	                               │
//	                            waiting  "not carried yet"
//	                               │ the next cycle of Run
//	     ┌────────────────┬────────┴────────┬───────────────────┐
//	disabled,        its schedule      no plan on          handed to the
//	expired          is closed         this host           carrier
//	     ▼                ▼                 ▼                ┌──┴──┐ refused
//	    off ◄─────────► waiting          failed            up ◄──► failed
//	         the clock, looked at       tried again        again after 1 s, 2 s, 4 s … 1 min,
//	         as soon as it matters      when the facts     and at each change of anything
//	                                    of the host change
//
// Any state ends by Delete, by a Replace without it, and, unless it is of the file, by its expiry. What is stored or rolled
// back to and finds its name or its traffic taken never becomes an entry: see shelved.
type entry struct {
	f       *forward.Forward
	clocked bool   // time alone can change how it is, and not only end it
	place   int    // in the expiries, from 1; 0: it is not there
	seen    uint64 // last cycle that took it up; 0: none yet

	decision Decision
	planned  *forward.Forward // f with Carry decided; the same pointer for as long as the plan is the same. nil: no plan
	sent     *forward.Forward // what the lists of the carriers have in this name; nil: nothing
	hold     *forward.Forward // what keeps the place of f while it is shut; nil until it is needed
	shut     shut

	state    forward.State
	since    time.Time
	err      error     // of the carrier that was given sent
	refused  uint64    // last cycle in which it came
	failures int       // in a row
	retry    time.Time // not to be retried on its own account before; zero: no failure
}

// shut says why a forward that could be carried is not wanted now.
type shut uint8

const (
	open shut = iota
	closed
	expired
	disabled
	takenDown
)

func newEntry(f *forward.Forward, before *entry, now time.Time) *entry {
	e := &entry{f: f, clocked: (!f.Expires.IsZero() || !f.When.IsZero()) && !byExpiry(f), state: forward.StateWaiting, since: now}
	if before != nil { // the lists still have it
		e.sent = before.sent
	}
	return e
}

// plan decides anew, and keeps the planned pointer when nothing comes out differently: carriers compare pointers.
func (e *entry) plan(facts kernel.Facts) {
	e.decision = Plan(e.f, facts)
	switch {
	case e.decision.Err != nil:
		e.planned = nil
	case e.planned != nil && e.planned.Carry == e.decision.Carry:
	case e.f.Carry == e.decision.Carry:
		e.planned = e.f
	default:
		planned := *e.f
		planned.Carry = e.decision.Carry
		e.planned = &planned
	}
}

// wanted is what the carriers should have, or nil.
func (e *entry) wanted() *forward.Forward {
	if e.shut != open {
		return nil
	}
	return e.planned
}

// listed is what the lists of the carriers should have in this name, or nil. A forward whose hours or days are over keeps
// its place in the kernel, as a disabled copy of itself: what it closes must not fall to a broader forward, such as "*".
func (e *entry) listed() *forward.Forward {
	if e.shut != closed && e.shut != expired || e.f.ListensAt() != forward.Host || e.f.Listen.IsUnix() {
		return e.wanted()
	}
	if e.hold == nil {
		hold := *e.f
		hold.Carry, hold.Disabled = forward.CarryRelay, true
		e.hold = &hold
	}
	return e.hold
}

// The waits between tries of what a carrier refused.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// settle records what cycle n has made of e, and reports whether its state is another one now. The carrier's error, if
// there was one, is in e already.
func (e *entry) settle(n uint64, now time.Time) bool {
	before := e.state
	want := e.wanted()
	switch {
	case e.shut == closed:
		e.state = forward.StateWaiting
	case e.shut != open:
		e.state = forward.StateOff
	case want == nil:
		e.state, e.err = forward.StateFailed, e.decision.Err
	case e.refused == n:
		e.state = forward.StateFailed
	default:
		e.state = forward.StateUp
	}
	if e.state != forward.StateFailed {
		e.err = nil
	}
	switch {
	case e.state != forward.StateFailed || want == nil:
		e.failures, e.retry = 0, time.Time{}
	case !now.Before(e.retry): // not when it was tried early because of another's change
		e.failures++
		e.retry = now.Add(min(firstRetry<<min(e.failures-1, 10), lastRetry))
	}
	if e.state == before {
		return false
	}
	e.since = now
	return true
}
