package api

import (
	"math"
	"strings"
	"testing"
	"time"
)

const (
	fileA = "[forward.a]\nlisten = \"81\"\nto = \"192.0.2.1\"\n"
	fileB = "[forward.b]\nlisten = \"82\"\nto = \"192.0.2.2\"\n"
)

func TestApplyConfirm(t *testing.T) {
	tab := &fakeTable{}
	c := NewClient(serve(t, Options{Table: tab}))
	defer c.Close()
	ctx := t.Context()
	if a, err := c.Apply(ctx, ApplyRequest{Text: fileA}); err != nil || a.Until != nil {
		t.Fatalf("plain: %+v, %v", a, err)
	}
	a, err := c.Apply(ctx, ApplyRequest{Text: fileB, Confirm: 60})
	if err != nil || a.Until == nil || !a.Until.After(time.Now()) || strings.Join(a.Removed, "") != "a" {
		t.Errorf("with a time: %+v, %v", a, err)
	}
	if _, err := c.Apply(ctx, ApplyRequest{Text: fileA}); err == nil || err.(*Error).Code != CodeConflict || err.(*Error).Hint == "" {
		t.Errorf("another one meanwhile: %v", err)
	}
	if err := c.Confirm(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Confirm(ctx); err == nil || err.(*Error).Code != CodeConflict || err.(*Error).Hint == "" {
		t.Errorf("a second confirmation: %v", err)
	}
}

func TestConfirmBounds(t *testing.T) {
	c := NewClient(serve(t, Options{Table: &fakeTable{}}))
	defer c.Close()
	for _, seconds := range []int{-1, 24*3600 + 1, math.MaxInt} {
		if _, err := c.Apply(t.Context(), ApplyRequest{Text: fileA, Confirm: seconds}); err == nil || err.(*Error).Code != CodeInvalid {
			t.Errorf("confirm = %d: %v", seconds, err)
		}
	}
}
