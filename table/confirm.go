package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/config"
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
	previous *config.Config
	until    time.Time
}

// ReplaceUntilConfirmed is ReplaceFile, taken back by itself unless Confirm comes within d. A second one before
// that is refused with a *PendingError.
func (t *Table) ReplaceUntilConfirmed(ctx context.Context, cfg *config.Config, d time.Duration) (Change, error) {
	if d <= 0 {
		return Change{}, fmt.Errorf("there must be time to confirm, not %s", d)
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return Change{}, err
	}
	c, done, err := t.tryOut(cfg, d)
	unlock()
	if err != nil {
		return Change{}, err
	}
	return done, t.await(ctx, c)
}

// tryOut is ReplaceUntilConfirmed without the waiting. The caller holds writing.
func (t *Table) tryOut(cfg *config.Config, d time.Duration) (*cycle, Change, error) {
	if t.pending != nil {
		return nil, Change{}, &PendingError{Until: t.pending.until}
	}
	p := &pending{previous: &config.Config{Forwards: t.ofOrigin(forward.OriginFile), Settings: t.settings}, until: time.Now().Add(d)}
	previous, settings, err := encodeConfig(p.previous)
	if err != nil {
		return nil, Change{}, err
	}
	ch, done, err := t.diff(forward.OriginFile, cfg.Forwards, false)
	if err != nil {
		return nil, Change{}, err
	}
	done.Settings = !t.settings.Equal(cfg.Settings)
	ch.keep = func(tx store.Tx) error {
		return errors.Join(tx.Put(bucketApply, keyPrevious, previous), tx.Put(bucketApply, keySettings, settings))
	}
	ch.then = func() {
		t.settleLocked(cfg.Settings)
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

// Unconfirmed is what of the file held before an apply which was neither confirmed nor taken back, because the
// daemon died in between. Who starts the daemon gives this to ReplaceFile before Run, and not what the file says, which is
// what was never confirmed. It is remembered until the next apply, so that another death changes nothing.
func (t *Table) Unconfirmed() (*config.Config, bool) {
	data, err := t.store.Get(bucketApply, keyPrevious)
	if data == nil && err == nil {
		return nil, false
	}
	var settings []byte
	if err == nil {
		settings, err = t.store.Get(bucketApply, keySettings)
	}
	cfg := new(config.Config)
	if err == nil {
		cfg, err = decodeConfig(data, settings)
	}
	if err != nil {
		t.log.Error("an apply was not confirmed, but what held before it cannot be read", keyErr, err)
		return nil, false
	}
	slices.SortFunc(cfg.Forwards, func(a, b *forward.Forward) int { return strings.Compare(a.Name, b.Name) })
	return cfg, true
}

// settleApply returns what makes an apply the last word, when a death has left one without. A ReplaceFile before Run is no
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

func forgetPrevious(tx store.Tx) error {
	return errors.Join(tx.Delete(bucketApply, keyPrevious), tx.Delete(bucketApply, keySettings))
}

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
	ch, done, err := t.diff(forward.OriginFile, p.previous.Forwards, true)
	if err == nil {
		ch.keep = forgetPrevious
		ch.then = func() {
			t.settleLocked(p.previous.Settings)
			t.pending = nil
		}
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
