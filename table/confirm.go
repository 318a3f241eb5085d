package table

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// pending is an apply that waits to be confirmed.
//
//	settled ── ReplaceUntilConfirmed ──► pending ── Confirm ──► settled
//	                                        └── until: rollback ──► settled, with what was before
//
// What was before is in the store for as long as that, so that a daemon that dies meanwhile can start with it: see
// Unconfirmed.
type pending struct {
	previous []*forward.Forward
	until    time.Time
}

// ReplaceUntilConfirmed is Replace for the file, taken back by itself unless Confirm comes within d. A second one before
// that is refused with a *PendingError.
func (t *Table) ReplaceUntilConfirmed(ctx context.Context, want []*forward.Forward, d time.Duration) (Change, error) {
	if d <= 0 {
		return Change{}, fmt.Errorf("there must be time to confirm, not %s", d)
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return Change{}, err
	}
	c, done, err := t.tryOut(want, d)
	unlock()
	if err != nil {
		return Change{}, err
	}
	return done, t.await(ctx, c)
}

// tryOut is ReplaceUntilConfirmed without the waiting. The caller holds writing.
func (t *Table) tryOut(want []*forward.Forward, d time.Duration) (*cycle, Change, error) {
	if t.pending != nil {
		return nil, Change{}, &PendingError{Until: t.pending.until}
	}
	p := &pending{previous: t.ofOrigin(forward.OriginFile), until: time.Now().Add(d)}
	previous, err := encodeSet(p.previous)
	if err != nil {
		return nil, Change{}, err
	}
	ch, done, err := t.diff(forward.OriginFile, want, false)
	if err != nil {
		return nil, Change{}, err
	}
	ch.keep = func(tx store.Tx) error { return tx.Put(bucketApply, keyPrevious, previous) }
	ch.then = func() {
		t.pending = p
		t.fileCameLocked()
	}
	c, err := t.commit(ch)
	if err == nil {
		t.log.Info("apply waits to be confirmed", keyUntil, p.until)
	}
	return c, done, err
}

// Confirm keeps what ReplaceUntilConfirmed did, or returns ErrNothingPending.
func (t *Table) Confirm(ctx context.Context) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if t.pending == nil {
		return ErrNothingPending
	}
	if err := t.store.Update(forgetPrevious); err != nil {
		return fmt.Errorf("the confirmation cannot be stored: %w", err)
	}
	t.mu.Lock()
	t.pending = nil
	t.mu.Unlock()
	t.log.Info("apply confirmed")
	return nil
}

// Pending is when an apply that waits to be confirmed will be taken back; false when none waits.
func (t *Table) Pending() (until time.Time, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.pending == nil {
		return time.Time{}, false
	}
	return t.pending.until, true
}

// Unconfirmed is the set of the file that held before an apply which was neither confirmed nor taken back, because the
// daemon died in between. Who starts the daemon gives this set to Replace before Run, and not what the file says, which is
// what was never confirmed. It is remembered until the next apply, so that another death changes nothing.
func (t *Table) Unconfirmed() ([]*forward.Forward, bool) {
	data, err := t.store.Get(bucketApply, keyPrevious)
	if data == nil && err == nil {
		return nil, false
	}
	var list []*forward.Forward
	if err == nil {
		list, err = decodeSet(data, forward.OriginFile)
	}
	if err != nil {
		t.log.Error("an apply was not confirmed, but what held before it cannot be read", keyErr, err)
		return nil, false
	}
	slices.SortFunc(list, func(a, b *forward.Forward) int { return strings.Compare(a.Name, b.Name) })
	return list, true
}

// settleApply returns what makes an apply the last word, when a death has left one without. A Replace before Run is no
// apply: it may be the very set that Unconfirmed gave.
func (t *Table) settleApply() (func(store.Tx) error, error) {
	t.mu.RLock()
	started := t.phase != idle
	t.mu.RUnlock()
	if !started {
		return nil, nil
	}
	data, err := t.store.Get(bucketApply, keyPrevious)
	if data == nil || err != nil {
		return nil, err
	}
	return forgetPrevious, nil
}

func forgetPrevious(tx store.Tx) error { return tx.Delete(bucketApply, keyPrevious) }

// rollback takes a pending apply back when its time is over. Whatever stands in the way of one forward, the others go back.
func (t *Table) rollback(ctx context.Context, now time.Time) {
	if until, ok := t.Pending(); !ok || now.Before(until) {
		return
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	p := t.pending
	if p == nil { // confirmed at the last moment
		return
	}
	ch, done, err := t.diff(forward.OriginFile, p.previous, true)
	if err == nil {
		ch.keep = forgetPrevious
		ch.then = func() { t.pending = nil }
		_, err = t.commit(ch)
	}
	if err != nil { // not to be expected: what was in the table once is valid, and force takes care of the rest
		t.log.Error("the apply cannot be taken back yet", keyErr, err)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.pending = &pending{p.previous, now.Add(lookEvery)}
		return
	}
	t.log.Warn("apply was not confirmed in time and is taken back",
		"added", len(done.Added), "changed", len(done.Changed), "removed", len(done.Removed), "kept", done.Kept)
}
