package table

import (
	"errors"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

// TestGuestsGiveWay has the file take a port that a client of the SSH server was given, and no guest take one of the file's.
func TestGuestsGiveWay(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.put(viaRelay(h.t, "theirs", "ssh:anna", "8080"))
		h.put(viaRelay(h.t, "others", "ssh:anna", "8081"))
		if _, err := h.ReplaceFile(h.t.Context(), &config.Config{Forwards: []*forward.Forward{viaRelay(h.t, "ours", forward.OriginFile, "8080")}}); err != nil {
			h.t.Fatal(err)
		}
		h.wantLook("others ssh:anna up, ours file up")
		var tie *forward.TieError
		if _, err := h.Put(h.t.Context(), viaRelay(h.t, "theirs", "ssh:anna", "8080")); !errors.As(err, &tie) {
			h.t.Errorf("a guest takes a port of the file's: %v", err)
		}
		if _, err := h.Put(h.t.Context(), viaRelay(h.t, "again", "ssh:ben", "8081")); !errors.As(err, &tie) {
			h.t.Errorf("a guest takes a port of another's: %v", err)
		}
		h.put(viaRelay(h.t, "added", forward.OriginAPI, "8081"))
		h.wantLook("added api up, ours file up")
	})
}
