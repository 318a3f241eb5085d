package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

// The limits of a confirmation. The longest is a day: who needs more wants no confirmation.
const maxConfirm = 24 * time.Hour

// retryRollback is how long after a rollback that failed it is tried again.
const retryRollback = 5 * time.Second

// An applier moves the table to a file and, when asked to, back again.
//
//	settled ──apply with confirm──► waiting ──confirm, or apply without──► settled
//	                                  │ ▲ └──apply with confirm: new time, same way back
//	                                  │ └── the way back is refused: tried again
//	                                  └──time is over: back to before──► settled
type applier struct {
	table Table
	log   *slog.Logger
	woken chan struct{} // capacity 1: the state below has changed

	mu     sync.Mutex // held over a whole apply, so that applies and rollbacks do not mix
	before []*forward.Forward
	until  time.Time // zero: settled
}

func newApplier(t Table, log *slog.Logger) *applier {
	return &applier{table: t, log: log, woken: make(chan struct{}, 1)}
}

func (a *applier) apply(ctx context.Context, req ApplyRequest) (Applied, error) {
	confirm := time.Duration(req.Confirm) * time.Second
	if req.Confirm < 0 || confirm > maxConfirm {
		return Applied{}, refuse(http.StatusBadRequest, CodeInvalid,
			fmt.Sprintf("confirm is %d seconds; it is 1 to %d, or 0 for none", req.Confirm, int(maxConfirm.Seconds())), "")
	}
	cfg, err := config.Parse(req.File, []byte(req.Text))
	if err != nil {
		return Applied{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.before
	if a.until.IsZero() {
		before = fromFile(a.table.Snapshot())
	}
	change, err := a.table.Replace(ctx, forward.OriginFile, cfg.Forwards)
	if err != nil {
		return Applied{}, err
	}
	a.before, a.until = nil, time.Time{}
	if confirm > 0 {
		a.before, a.until = before, time.Now().Add(confirm)
	}
	a.wake()
	a.log.Info("file applied", "file", req.File, "added", len(change.Added), "changed", len(change.Changed),
		"removed", len(change.Removed), "kept", change.Kept, "confirm", confirm)
	return appliedOf(change, a.until), nil
}

func (a *applier) confirm() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until.IsZero() {
		return refuse(http.StatusConflict, CodeConflict, "nothing waits for a confirmation",
			"either nothing was applied with --confirm, or its time is over and it was taken back; `fairlead status` shows what holds")
	}
	a.before, a.until = nil, time.Time{}
	a.wake()
	a.log.Info("apply confirmed")
	return nil
}

func (a *applier) wake() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// run takes back what is not confirmed in time, until ctx ends.
func (a *applier) run(ctx context.Context) {
	for {
		a.mu.Lock()
		until := a.until
		a.mu.Unlock()
		var due <-chan time.Time
		if !until.IsZero() {
			due = time.After(time.Until(until))
		}
		select {
		case <-ctx.Done():
			return
		case <-a.woken:
		case <-due:
			a.rollback(ctx, until)
		}
	}
}

// rollback goes back to what was before, unless something else was settled since it fell due.
func (a *applier) rollback(ctx context.Context, due time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.until.Equal(due) {
		return
	}
	change, err := a.table.Replace(ctx, forward.OriginFile, a.before)
	if err != nil {
		a.until = time.Now().Add(retryRollback)
		a.log.Error("apply was not confirmed in time, but cannot be taken back yet", "err", err)
		return
	}
	a.before, a.until = nil, time.Time{}
	a.log.Warn("apply was not confirmed in time and is taken back", "added", len(change.Added), "changed", len(change.Changed),
		"removed", len(change.Removed), "kept", change.Kept)
}

func fromFile(all []table.Status) []*forward.Forward {
	var out []*forward.Forward
	for _, s := range all {
		if s.Forward.Origin == forward.OriginFile {
			out = append(out, s.Forward)
		}
	}
	return out
}
