package table

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

const (
	lookEvery = 5 * time.Second       // at the facts of the host, and at the wall clock, which may have jumped
	saveEvery = 10 * time.Second      // of the counters, or less often: see saveInterval
	soon      = time.Millisecond      // the least that Run waits for the clock
	overdue   = 50 * time.Millisecond // before it is tried again to delete what has expired
)

// Run loads what was stored, hands everything to the carriers, and keeps it so until ctx ends. It returns nil then; what the
// kernel carries is left in it. A Table runs once.
func (t *Table) Run(ctx context.Context) error {
	if err := t.start(ctx); err != nil {
		return err
	}
	leases := make(chan struct{})
	saving, enough := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(leases)
		t.saveLeases(saving)
	}()
	defer func() {
		enough()
		<-leases
		t.end()
	}()
	t.look()
	t.reconcile(ctx)
	if ctx.Err() != nil {
		return nil
	}
	close(t.ready)
	look, save, clock := time.NewTicker(lookEvery), time.NewTimer(saveEvery), time.NewTimer(t.untilWake())
	defer look.Stop()
	defer save.Stop()
	defer clock.Stop()
	for {
		clock.Reset(t.untilWake())
		select {
		case <-ctx.Done():
			return nil
		case <-t.kick:
		case <-clock.C:
		case <-look.C:
			t.look()
		case <-save.C:
			save.Reset(saveInterval(t.saveCounters()))
			continue
		}
		now := time.Now()
		t.rollback(ctx, now)
		t.expire(ctx, now)
		if t.shallLook() {
			t.look()
		}
		if t.due(now) {
			t.reconcile(ctx)
		}
	}
}

// start loads what was stored.
func (t *Table) start(ctx context.Context) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	t.mu.Lock()
	if t.phase != idle {
		t.mu.Unlock()
		return errRunning
	}
	t.mu.Unlock()
	if err := t.counters.load(t.store, t.log); err != nil {
		return err
	}
	if err := t.load(); err != nil {
		return err
	}
	if err := t.loadLeases(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = running
	if t.fileCame {
		t.counters.prune()
	}
	return nil
}

// fileCameLocked notes that the forwards of the file are known: counters of what is in neither are nobody's.
func (t *Table) fileCameLocked() {
	if t.fileCame {
		return
	}
	t.fileCame = true
	if t.phase == running {
		t.counters.prune()
	}
}

func (t *Table) end() {
	t.mu.Lock()
	t.phase = ended
	t.mu.Unlock()
	close(t.stopped)
	if err := t.SaveLeases(); err != nil {
		t.log.Error("leases cannot be stored; they are lost", keyErr, err)
	}
	t.saveCounters()
}

// saveCounters reads and stores the counters, and reports how long that took.
func (t *Table) saveCounters() time.Duration {
	began := time.Now()
	t.counters.read(t.kernel, t.relay)
	if err := t.counters.save(t.store); err != nil {
		t.log.Error("counters cannot be saved", keyErr, err)
	}
	return time.Since(began)
}

// saveInterval is how long to wait after a save that took so long: reading the counters of many thousand forwards keeps
// the kernel busy, and may take a hundredth of one processor at the most.
func saveInterval(took time.Duration) time.Duration { return max(saveEvery, 100*took) }

// shallLook reports whether the settings have changed since the last look.
func (t *Table) shallLook() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.relook
	t.relook = false
	return was
}

// look has every forward planned anew when the host is another than it was, and carried anew when somebody else took what
// a carrier had in the system.
func (t *Table) look() {
	facts, err := t.probe()
	lost := false
	for _, c := range []any{t.kernel, t.relay, t.beside} {
		if c, ok := c.(Loser); ok && c.Lost() {
			lost = true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost = t.lost || lost
	if err != nil {
		t.log.Warn("this host cannot be looked at; what was known of it stands", keyErr, err)
		if t.cycles > 0 {
			return
		}
		facts = kernel.Facts{Unusable: err.Error()} // until the next look
	}
	facts.Unread = t.facts.Unread // once learned, until a restart
	if t.cycles > 0 && facts.Equal(t.facts) {
		return
	}
	if t.cycles > 0 {
		t.log.Info("this host has changed; all forwards are planned anew")
	}
	t.facts, t.replan = facts, true
}

// due reports whether there is something to tell the carriers.
func (t *Table) due(now time.Time) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.cycle != nil || t.replan || t.lost || !t.wake.IsZero() && !now.Before(t.wake) {
		return true
	}
	due := false
	if !t.down {
		for e := range t.clocked {
			if e.seen > 0 && shutOf(e.f, now) != e.shut {
				return true
			}
		}
		t.expiries.over(now, func(e *entry) { due = due || e.seen > 0 && e.shut == open })
	}
	return due
}

// untilWake is how long Run may sleep.
func (t *Table) untilWake() time.Duration {
	t.mu.RLock()
	defer t.mu.RUnlock()
	wake := t.wake
	if t.pending != nil {
		wake = earliest(wake, t.pending.until)
	}
	if ends := t.expiries.first(); !ends.IsZero() {
		left := time.Until(ends)
		if left <= 0 { // it could not be deleted
			left = overdue
		}
		if wake.IsZero() || left < time.Until(wake) {
			return max(left, soon)
		}
	}
	if wake.IsZero() {
		return time.Hour
	}
	return max(time.Until(wake), soon)
}

// expire deletes leases that have ended. Forwards of the file stay, to be seen: they would be back at the next apply.
func (t *Table) expire(ctx context.Context, now time.Time) {
	over := t.expired(now)
	if len(over) == 0 {
		return
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	over = t.expired(now) // one may have been deleted or renewed
	if _, err := t.commit(change{drop: over}); err != nil {
		t.log.Error("expired forwards cannot be deleted", keyErr, err)
		return
	}
	for i, e := range over {
		if i == manyNews {
			t.log.Info("many forwards expired", keyCount, len(over))
			break
		}
		t.log.Info("forward expired", keyForward, e.f.Name, keyOrigin, e.f.Origin)
	}
}

func (t *Table) expired(now time.Time) []*entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var over []*entry
	for e := range t.clocked {
		if e.f.Origin != forward.OriginFile && shutOf(e.f, now) == expired {
			over = append(over, e)
		}
	}
	t.expiries.over(now, func(e *entry) { over = append(over, e) })
	return over
}

// Down takes everything out of both carriers, and leaves it out. The forwards are off from then on, and stay in the table
// and in the store. A Clearer takes away what else it has in the system.
func (t *Table) Down(ctx context.Context) error {
	t.mu.Lock()
	t.down = true
	c := t.joinLocked()
	t.mu.Unlock()
	switch err := t.await(ctx, c); {
	case c == nil || errors.Is(err, ErrStopped):
		t.reconcile(ctx)
	case err != nil:
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var errs []error
	for _, carrier := range []any{t.relay, t.kernel, t.beside} {
		if c, ok := carrier.(Clearer); ok {
			errs = append(errs, c.Clear())
		}
	}
	return errors.Join(errs...)
}
