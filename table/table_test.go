package table

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

func TestPutAndDelete(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		s := h.put(viaKernel(h.t, "web", forward.OriginAPI, "80"))
		if s.State != forward.StateUp || s.Carried != forward.CarryKernel || s.Why != "plain host to host" || s.Since.IsZero() {
			h.t.Errorf("Put: %+v", s)
		}
		s = h.put(viaRelay(h.t, "app", forward.OriginAPI, "81"))
		if s.State != forward.StateUp || s.Carried != forward.CarryRelay {
			h.t.Errorf("Put: %+v", s)
		}
		h.wantCarried("app web", "app")
		if f := h.kernel.get("app"); f.Carry != forward.CarryRelay {
			h.t.Errorf("app holds its place in the kernel as %v", f.Carry)
		}
		if err := h.Delete(h.t.Context(), "web"); err != nil {
			h.t.Error(err)
		}
		h.wantCarried("", "app")
		h.wantLook("app api up")
		if err := h.Delete(h.t.Context(), "web"); !errors.Is(err, ErrNotFound) {
			h.t.Errorf("Delete of nothing: %v", err)
		}
	})
}

func TestNamesAndTraffic(t *testing.T) {
	inHouse(t, func(h *house) {
		h.replace(viaKernel(h.t, "web", forward.OriginFile, "80"), viaRelay(h.t, "sock", forward.OriginFile, "unix:/run/a"))
		h.start()
		var conflict *ConflictError
		var tie *forward.TieError
		_, err := h.Put(h.t.Context(), viaKernel(h.t, "web", forward.OriginAPI, "81"))
		if !errors.As(err, &conflict) || conflict.Owner != forward.OriginFile || conflict.Advice() == "" {
			h.t.Errorf("a taken name: %v", err)
		}
		_, err = h.Put(h.t.Context(), viaKernel(h.t, "other", forward.OriginAPI, "80"))
		if !errors.As(err, &tie) || tie.Other != "web" || tie.Name != "other" {
			h.t.Errorf("taken traffic: %v", err)
		}
		_, err = h.Put(h.t.Context(), viaRelay(h.t, "other", forward.OriginAPI, "unix:/run/a"))
		if !errors.As(err, &tie) || tie.Other != "sock" || !strings.Contains(err.Error(), "/run/a") {
			h.t.Errorf("a taken socket: %v", err)
		}
		if err := h.Delete(h.t.Context(), "web"); !errors.As(err, &conflict) {
			h.t.Errorf("Delete of the file's: %v", err)
		}
		if _, err := h.Put(h.t.Context(), &forward.Forward{Name: "bad name"}); err == nil {
			h.t.Error("a forward that cannot be was taken")
		}
		// A disabled forward claims nothing.
		off := spec(h.t, "spare", forward.OriginAPI, config.Spec{Listen: "203.0.113.5:80", To: config.Strings{"192.168.1.11"}, Enabled: new(bool)})
		if s := h.put(off); s.State != forward.StateOff || s.Detail != "disabled" || s.Carried != forward.CarryAuto {
			h.t.Errorf("disabled: %+v", s)
		}
		h.wantLook("sock file up, spare api off (disabled), web file up")
		h.wantCarried("web", "sock") // no place to hold for a unix socket
	})
}

func TestReplaceIsADiff(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(viaKernel(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "2"), viaRelay(h.t, "c", forward.OriginFile, "3"))
		h.put(viaRelay(h.t, "mine", forward.OriginAPI, "9"))
		a, b := h.kernel.get("a"), h.relay.get("b")
		// The claims of c go to d within one Replace.
		c := h.replace(viaRelay(h.t, "d", forward.OriginFile, "3"), viaKernel(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "4"))
		if strings.Join(c.Added, " ") != "d" || strings.Join(c.Changed, " ") != "b" || strings.Join(c.Removed, " ") != "c" || c.Kept != 1 {
			h.t.Errorf("change %+v", c)
		}
		h.wantCarried("a b d mine", "b d mine")
		if h.kernel.get("a") != a {
			h.t.Error("an equal forward got a new pointer")
		}
		if h.relay.get("b") == b {
			h.t.Error("a changed forward kept its pointer")
		}
	})
}

func TestReplaceIsAllOrNothing(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(viaKernel(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "2"))
		h.put(viaRelay(h.t, "mine", forward.OriginAPI, "9"))
		before, applies := h.look(), h.relay.count()
		mine := viaRelay(h.t, "mine", forward.OriginFile, "8")
		fresh := viaRelay(h.t, "x", forward.OriginFile, "5")
		for what, list := range map[string][]*forward.Forward{
			"a name of another origin":     {fresh, mine},
			"traffic of another origin":    {fresh, viaRelay(h.t, "b", forward.OriginFile, "9")},
			"the same traffic twice":       {fresh, viaRelay(h.t, "y", forward.OriginFile, "5")},
			"the same name twice":          {fresh, viaRelay(h.t, "x", forward.OriginFile, "6")},
			"another origin":               {viaRelay(h.t, "x", forward.OriginAPI, "5")},
			"what no carrier could do":     {{Name: "x", Origin: forward.OriginFile}},
			"a change onto kept traffic":   {viaKernel(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "203.0.113.5:1")},
			"two changes onto one another": {viaKernel(h.t, "a", forward.OriginFile, "7"), viaRelay(h.t, "b", forward.OriginFile, "203.0.113.5:7")},
		} {
			if _, err := h.ReplaceFile(h.t.Context(), &config.Config{Forwards: list}); err == nil {
				h.t.Errorf("%s was taken", what)
			}
			h.wantLook(before)
		}
		if h.relay.count() != applies {
			h.t.Error("a refused Replace reached the carriers")
		}
		h.replace(viaRelay(h.t, "x", forward.OriginFile, "1"), viaRelay(h.t, "y", forward.OriginFile, "2")) // all claims are as they were
		h.wantLook("mine api up, x file up, y file up")
	})
}

func TestReplaceNamesAllErrors(t *testing.T) {
	inHouse(t, func(h *house) {
		h.put(viaRelay(h.t, "one", forward.OriginAPI, "1"))
		h.put(viaRelay(h.t, "two", forward.OriginAPI, "2"))
		_, err := h.ReplaceFile(h.t.Context(), &config.Config{Forwards: []*forward.Forward{
			viaRelay(h.t, "x", forward.OriginFile, "1"), viaRelay(h.t, "y", forward.OriginFile, "2"),
		}})
		if err == nil || !strings.Contains(err.Error(), `"one"`) || !strings.Contains(err.Error(), `"two"`) {
			h.t.Errorf("%v", err)
		}
	})
}

func TestBeforeAndAfterRun(t *testing.T) {
	inHouse(t, func(h *house) {
		if s := h.put(viaRelay(h.t, "cli", forward.OriginCLI, "1")); s.State != forward.StateWaiting {
			h.t.Errorf("before Run: %+v", s)
		}
		h.replace(viaRelay(h.t, "file", forward.OriginFile, "2"))
		if h.relay.count() != 0 {
			h.t.Error("a carrier was called before Run")
		}
		h.start()
		if h.relay.count() != 1 {
			h.t.Errorf("the first cycle called the relay %d times", h.relay.count())
		}
		h.wantCarried("", "cli file")
		if err := h.Run(h.t.Context()); err == nil {
			h.t.Error("a table runs twice")
		}
		h.stop()
		h.wantCarried("", "cli file") // what is carried stays
		if _, err := h.Put(h.t.Context(), viaRelay(h.t, "late", forward.OriginAPI, "3")); !errors.Is(err, ErrStopped) {
			h.t.Errorf("Put after Run: %v", err)
		}
		h.wantLook("cli cli up, file file up")
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		ctx, cancel := context.WithCancel(h.t.Context())
		h.relay.watch(func([]*forward.Forward) { cancel() })
		if _, err := h.Put(ctx, viaRelay(h.t, "a", forward.OriginAPI, "1")); err != nil && !errors.Is(err, context.Canceled) {
			h.t.Errorf("Put: %v", err)
		}
		h.relay.watch(nil)
	})
}

func TestDown(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(viaKernel(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "2"))
		h.wantCarried("a b", "b")
		if err := h.Down(h.t.Context()); err != nil {
			h.t.Error(err)
		}
		h.wantCarried("", "")
		h.wantLook("a file off (taken down), b file off (taken down)")
		h.put(viaRelay(h.t, "c", forward.OriginAPI, "3"))
		h.wantCarried("", "")
	})
	inHouse(t, func(h *house) { // after Run has ended
		h.replace(viaKernel(h.t, "a", forward.OriginFile, "1"))
		h.start().stop()
		h.wantCarried("a", "")
		if err := h.Down(h.t.Context()); err != nil {
			h.t.Error(err)
		}
		h.wantCarried("", "")
	})
}

type session struct {
	*carrier
	list []forward.Session
	err  error
	dead []string
}

func (s *session) Sessions() ([]forward.Session, error) { return s.list, s.err }
func (s *session) Kill(id string) error                 { s.dead = append(s.dead, id); return s.err }

func TestSessions(t *testing.T) {
	k := &session{carrier: new(carrier), list: []forward.Session{{ID: "k1", Forward: "web"}}}
	r := &session{carrier: new(carrier), list: []forward.Session{{ID: "r2", Forward: "web/lo4"}, {ID: "r1", Forward: "app"}}}
	h := newHouse(t, nil)
	h.Table.kernel, h.Table.relay = k, r
	ids := func(name string) string {
		list, err := h.Sessions(name)
		if !errors.Is(err, k.err) {
			t.Errorf("Sessions: %v", err)
		}
		var out []string
		for _, s := range list {
			out = append(out, s.Forward+"="+s.ID)
		}
		return strings.Join(out, " ")
	}
	if got := ids(""); got != "app=r1 web=k1 web=r2" {
		t.Errorf("all: %s", got)
	}
	if got := ids("web"); got != "web=k1 web=r2" {
		t.Errorf("of web: %s", got)
	}
	if err := errors.Join(h.Kill("k1"), h.Kill("r2")); err != nil || strings.Join(append(k.dead, r.dead...), " ") != "k1 r2" {
		t.Errorf("killed %v and %v, %v", k.dead, r.dead, err)
	}
	if err := h.Kill("x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's id: %v", err)
	}
	k.err = errors.New("conntrack is not there")
	if got := ids("web"); got != "web=k1 web=r2" {
		t.Errorf("with one carrier failing: %s", got)
	}
}
