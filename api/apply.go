package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/table"
)

// maxConfirm is the longest time to confirm. Who needs more than a day wants no confirmation.
const maxConfirm = 24 * time.Hour

// Apply does what POST /v1/apply does: it reads the text as a file and moves the table to it. A reload by signal uses it,
// too.
func (s *Server) Apply(ctx context.Context, req ApplyRequest) (Applied, error) {
	confirm := time.Duration(req.Confirm) * time.Second
	if req.Confirm < 0 || req.Confirm > int(maxConfirm/time.Second) {
		return Applied{}, refuse(http.StatusBadRequest, CodeInvalid,
			fmt.Sprintf("confirm is %d seconds; it is 1 to %d, or 0 for none", req.Confirm, int(maxConfirm/time.Second)), "")
	}
	cfg, err := config.Parse(req.File, []byte(req.Text))
	if err != nil {
		return Applied{}, err
	}
	var change table.Change
	var until time.Time
	if confirm > 0 {
		change, err = s.Table.ReplaceUntilConfirmed(ctx, cfg, confirm)
		until, _ = s.Table.Pending()
	} else {
		change, err = s.Table.ReplaceFile(ctx, cfg)
	}
	if err != nil {
		return Applied{}, err
	}
	s.Log.Info("file applied", "file", req.File, "added", len(change.Added), "changed", len(change.Changed),
		"removed", len(change.Removed), "kept", change.Kept, "confirm", confirm)
	return appliedOf(change, until), nil
}
