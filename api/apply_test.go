package api

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

const (
	fileA = "[forward.a]\nlisten = \"81\"\nto = \"192.0.2.1\"\n"
	fileB = "[forward.b]\nlisten = \"82\"\nto = \"192.0.2.2\"\n"
	fileC = "[forward.c]\nlisten = \"83\"\nto = \"192.0.2.3\"\n"

	holdsA = "a=192.0.2.1"
	holdsB = "b=192.0.2.2"
	holdsC = "c=192.0.2.3"
)

// A step happens after a wait; then the table holds something.
type step struct {
	wait    time.Duration
	text    string // applied, unless ""
	confirm int
	settle  bool // confirm what waits
	fail    error
	holds   string
}

func TestConfirm(t *testing.T) {
	busy := errors.New("no")
	for name, steps := range map[string][]step{
		"in time":      {{text: fileB, confirm: 60, holds: holdsB}, {wait: 59 * time.Second, settle: true, holds: holdsB}, {wait: time.Hour, holds: holdsB}},
		"too late":     {{text: fileB, confirm: 60, holds: holdsB}, {wait: 61 * time.Second, holds: holdsA}},
		"plain apply":  {{text: fileB, confirm: 60, holds: holdsB}, {wait: time.Second, text: fileC, holds: holdsC}, {wait: time.Hour, holds: holdsC}},
		"second one":   {{text: fileB, confirm: 60, holds: holdsB}, {wait: 50 * time.Second, text: fileC, confirm: 60, holds: holdsC}, {wait: 50 * time.Second, holds: holdsC}, {wait: 11 * time.Second, holds: holdsA}},
		"refused once": {{text: fileB, confirm: 60, holds: holdsB}, {wait: 59 * time.Second, fail: busy, holds: holdsB}, {wait: 2 * time.Second, holds: holdsB}, {wait: retryRollback, holds: holdsA}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tab := &fakeTable{}
				a := newApplier(tab, slog.New(slog.DiscardHandler))
				if _, err := a.apply(t.Context(), ApplyRequest{Text: fileA}); err != nil {
					t.Fatal(err)
				}
				go a.run(t.Context())
				for i, s := range steps {
					time.Sleep(s.wait)
					synctest.Wait()
					if s.text != "" {
						if _, err := a.apply(t.Context(), ApplyRequest{Text: s.text, Confirm: s.confirm}); err != nil {
							t.Fatal(err)
						}
					}
					if s.settle {
						if err := a.confirm(); err != nil {
							t.Fatal(err)
						}
					}
					tab.mu.Lock()
					tab.fail = s.fail
					tab.mu.Unlock()
					synctest.Wait()
					if got := tab.names(); got != s.holds {
						t.Errorf("step %d: the table holds %q, want %q", i, got, s.holds)
					}
				}
			})
		})
	}
}

func TestConfirmBounds(t *testing.T) {
	a := newApplier(&fakeTable{}, slog.New(slog.DiscardHandler))
	for _, seconds := range []int{-1, 24*3600 + 1} {
		if _, err := a.apply(t.Context(), ApplyRequest{Text: fileA, Confirm: seconds}); err == nil {
			t.Errorf("confirm = %d is taken", seconds)
		}
	}
	if err := a.confirm(); err == nil {
		t.Error("nothing waits, and is confirmed")
	}
}
