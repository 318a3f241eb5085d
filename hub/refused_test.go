package hub

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// TestUnknownAndRevoked has those refused who are no agents, in words.
func TestUnknownAndRevoked(t *testing.T) {
	w := newWorld(t, nil)
	m := w.run(anna, nil)
	w.eventually("the stranger is told", func() bool { return strings.Contains(m.State().Why, "enrol it with a join token") })
	w.enrol(ben, "ben", Limits{})
	b := w.run(ben, nil)
	l := w.listen(b, "127.0.0.1:0")
	c := w.dial(l.Addr().String())
	if err := w.hub.Revoke("ben"); err != nil {
		t.Fatal(err)
	}
	w.ends("revoked", c)
	w.eventually("nothing listens for the agent", func() bool { return len(w.doors.Open()) == 0 })
	w.eventually("the revoked one is told", func() bool { return strings.Contains(b.State().Why, "revoked") })
	if _, err := w.nodes.Node("ben"); err == nil {
		t.Error("forwards still find the agent")
	}
	if err := w.hub.Revoke("ben"); !errors.Is(err, ErrNoAgent) {
		t.Errorf("revoked twice: %v", err)
	}
	if name := w.enrol(ben, "ben", Limits{}); name != "ben" {
		t.Errorf("enrolled again it is %q", name)
	}
}

// TestRevokedWhileItComes: who is revoked between being known and being let in is nobody.
func TestRevokedWhileItComes(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	if err := w.hub.Revoke("anna"); err != nil {
		t.Fatal(err)
	}
	if m := w.hub.member(anna); m != nil || w.hub.byKey(anna) != nil {
		t.Errorf("a revoked one is there: %+v", m)
	}
	if n, err := w.nodes.Node("anna"); err == nil {
		t.Errorf("forwards find %v", n)
	}
	w.enrol(anna, "anna", Limits{})
	old := w.hub.member(anna)
	if err := w.hub.Revoke("anna"); err != nil {
		t.Fatal(err)
	}
	w.enrol(anna, "anna", Limits{})
	w.hub.forget(old) // as the one that came by the old record does
	if m := w.hub.byKey(anna); m == nil || m == old {
		t.Errorf("what was enrolled anew is forgotten with the old one: %+v", m)
	}
	if _, err := w.nodes.Node("anna"); err != nil {
		t.Error(err)
	}
}

// TestStrangersAreOneLine: what anybody can cause fills no log.
func TestStrangersAreOneLine(t *testing.T) {
	var text lockedText
	w := newWorld(t, nil)
	w.stop()
	var later atomic.Int64
	w.beginWith(func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&text, nil)) }, func(h *Hub) {
		h.now = func() time.Time { return noon.Add(time.Duration(later.Load())) }
	})
	come := func(key tunnel.Key) {
		t.Helper()
		s := tunnel.New(tunnel.Options{Side: tunnel.Agent, ID: tunnel.ID{9}})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var said *tunnel.Error
		if _, err := s.Attach(ctx, w.link(key), tunnel.Hello{Session: tunnel.ID{9}}); !errors.As(err, &said) || said.Code != tunnel.Unknown {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		come(tunnel.Key{7, byte(i)})
	}
	if n := strings.Count(text.String(), "agent refused"); n != 1 {
		t.Errorf("%d lines:\n%s", n, text.String())
	}
	later.Store(int64(burstEnd))
	come(tunnel.Key{8})
	if !strings.Contains(text.String(), "before=49") {
		t.Errorf("%s", text.String())
	}
}

// A lockedText is written to by several.
type lockedText struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.String()
}
