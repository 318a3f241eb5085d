package table

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/store"
)

func (h *house) tryOut30s(list ...*forward.Forward) Change {
	h.t.Helper()
	c, err := h.ReplaceUntilConfirmed(h.t.Context(), &config.Config{Forwards: list}, 30*time.Second)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func TestRollback(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(viaKernel(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "2"))
		a := h.kernel.get("a")
		c := h.tryOut30s(viaKernel(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "3"), viaRelay(h.t, "n", forward.OriginFile, "2"))
		if len(c.Added) != 1 || len(c.Changed) != 1 || c.Kept != 1 {
			h.t.Errorf("change %+v", c)
		}
		if until, ok := h.Pending(); !ok || time.Until(until) > 30*time.Second {
			h.t.Errorf("pending until %v, %v", until, ok)
		}
		var pending *PendingError
		if _, err := h.ReplaceUntilConfirmed(h.t.Context(), &config.Config{Forwards: nil}, time.Second); !errors.As(err, &pending) || pending.Advice() == "" {
			h.t.Errorf("a second one: %v", err)
		}
		if _, err := h.ReplaceFile(h.t.Context(), &config.Config{Forwards: nil}); !errors.As(err, &pending) {
			h.t.Errorf("a Replace meanwhile: %v", err)
		}
		h.put(viaRelay(h.t, "mine", forward.OriginAPI, "9")) // others are not held up
		elapse(29 * time.Second)
		h.wantCarried("a b mine n", "b mine n")
		elapse(2 * time.Second)
		h.wantCarried("a b mine", "b mine")
		if got := h.relay.get("b").Listen.String(); got != "tcp/2" {
			h.t.Errorf("b is back at %s", got)
		}
		if h.kernel.get("a") != a {
			h.t.Error("there and back, an untouched forward has a new pointer")
		}
		if _, ok := h.Pending(); ok {
			h.t.Error("still pending")
		}
		if _, ok := h.Unconfirmed(); ok {
			h.t.Error("still stored")
		}
		if err := h.Confirm(h.t.Context()); !errors.Is(err, ErrNothingPending) {
			h.t.Errorf("Confirm after the rollback: %v", err)
		}
	})
}

func TestConfirm(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(viaRelay(h.t, "a", forward.OriginFile, "1"))
		h.tryOut30s(viaRelay(h.t, "b", forward.OriginFile, "1"))
		if cfg, ok := h.Unconfirmed(); !ok || names(cfg.Forwards) != "a" {
			h.t.Errorf("stored: %s, %v", names(cfg.Forwards), ok)
		}
		if err := h.Confirm(h.t.Context()); err != nil {
			h.t.Error(err)
		}
		elapse(time.Minute)
		h.wantLook("b file up")
		if _, ok := h.Unconfirmed(); ok {
			h.t.Error("still stored")
		}
		if _, err := h.ReplaceUntilConfirmed(h.t.Context(), &config.Config{Forwards: nil}, 0); err == nil {
			h.t.Error("no time to confirm was taken")
		}
		// A refused one leaves nothing behind.
		bad := []*forward.Forward{viaRelay(h.t, "x", forward.OriginFile, "1"), viaRelay(h.t, "y", forward.OriginFile, "1")}
		if _, err := h.ReplaceUntilConfirmed(h.t.Context(), &config.Config{Forwards: bad}, time.Minute); err == nil {
			h.t.Error("a tie was taken")
		}
		if _, ok := h.Pending(); ok {
			h.t.Error("a refused apply is pending")
		}
	})
}

// While a new file is tried out, somebody adds what the old one needs. The rollback brings back the rest, and this as soon
// as it can.
func TestRollbackMeetsANewcomer(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(viaRelay(h.t, "a", forward.OriginFile, "1"), viaRelay(h.t, "b", forward.OriginFile, "2"), viaRelay(h.t, "c", forward.OriginFile, "3"), viaRelay(h.t, "d", forward.OriginFile, "4"))
		h.tryOut30s(viaRelay(h.t, "d", forward.OriginFile, "5"))
		h.put(viaRelay(h.t, "a", forward.OriginAPI, "11"))   // its name
		h.put(viaRelay(h.t, "new", forward.OriginAPI, "2"))  // its traffic
		h.put(viaRelay(h.t, "new4", forward.OriginAPI, "4")) // the former traffic of one that changed
		elapse(31 * time.Second)
		h.wantLook(`a api up, a file failed (there is a forward "a" already, and it belongs to "api"), ` +
			`b file failed (forwards "new" and "b" claim the same traffic: tcp port 2), c file up, ` +
			`d file failed (forwards "new4" and "d" claim the same traffic: tcp port 4), new api up, new4 api up`)
		h.wantCarried("", "a c new new4")
		for _, name := range []string{"new", "a", "new4"} {
			if err := h.Delete(h.t.Context(), name); err != nil {
				h.t.Error(err)
			}
		}
		h.wantLook("a file up, b file up, c file up, d file up")
		h.replace()
		h.wantLook("")
	})
}

func TestDeathWhilePending(t *testing.T) {
	inHouse(t, func(h *house) {
		st := h.store
		h.start()
		h.replace(viaRelay(h.t, "old", forward.OriginFile, "1"))
		h.tryOut30s(viaRelay(h.t, "new", forward.OriginFile, "1"))
		h.stop() // it never confirmed nor took anything back

		for range 2 { // and the one after it dies as well
			h2 := newHouse(h.t, st)
			cfg, ok := h2.Unconfirmed()
			if !ok || names(cfg.Forwards) != "old" || !cfg.Forwards[0].Equal(viaRelay(h.t, "old", forward.OriginFile, "1")) {
				h.t.Fatalf("Unconfirmed: %+v, %v", cfg, ok)
			}
			h2.replace(cfg.Forwards...)
			h2.start()
			elapse(time.Minute)
			h2.wantLook("old file up")
			h2.stop()
		}
		h3 := newHouse(h.t, st).start()
		h3.replace(viaRelay(h.t, "new", forward.OriginFile, "1")) // an apply settles it
		if _, ok := h3.Unconfirmed(); ok {
			h.t.Error("an apply did not settle it")
		}
		h3.stop()
	})
}

func TestUnconfirmedUnreadable(t *testing.T) {
	h := newHouse(t, store.Memory())
	for _, junk := range []string{"", "x", `{"a":1}`, `{"a":{"listen":"80"}}`} {
		if err := h.store.Update(func(tx store.Tx) error { return tx.Put(bucketApply, keyPrevious, []byte(junk)) }); err != nil {
			t.Fatal(err)
		}
		if cfg, ok := h.Unconfirmed(); ok {
			t.Errorf("%q is read as %+v", junk, cfg)
		}
	}
}

// brokenStore fails to write when told to.
type brokenStore struct {
	store.Store
	broken bool
}

var errDisk = errors.New("no space left on device")

func (s *brokenStore) Update(fn func(store.Tx) error) error {
	if s.broken {
		return errDisk
	}
	return s.Store.Update(fn)
}

func TestFullDisk(t *testing.T) {
	inHouse(t, func(h *house) {
		disk := &brokenStore{Store: h.store}
		h.Table.store = disk
		h.start()
		h.replace(viaRelay(h.t, "a", forward.OriginFile, "1"))
		h.put(viaRelay(h.t, "mine", forward.OriginAPI, "9"))
		h.tryOut30s(viaRelay(h.t, "b", forward.OriginFile, "1"))
		disk.broken = true
		if _, err := h.Put(h.t.Context(), viaRelay(h.t, "n", forward.OriginAPI, "10")); !errors.Is(err, errDisk) {
			h.t.Errorf("Put: %v", err)
		}
		if _, err := h.Put(h.t.Context(), viaRelay(h.t, "mine", forward.OriginAPI, "10")); !errors.Is(err, errDisk) {
			h.t.Errorf("Put of a change: %v", err)
		}
		if err := h.Delete(h.t.Context(), "mine"); !errors.Is(err, errDisk) {
			h.t.Errorf("Delete: %v", err)
		}
		if err := h.Confirm(h.t.Context()); !errors.Is(err, errDisk) {
			h.t.Errorf("Confirm: %v", err)
		}
		h.wantLook("b file up, mine api up")
		elapse(31 * time.Second) // the rollback happens nevertheless
		h.wantLook("a file up, mine api up")
		disk.broken = false
		h.put(viaRelay(h.t, "n", forward.OriginAPI, "10")) // what was refused left no claim
		if err := h.Delete(h.t.Context(), "mine"); err != nil {
			h.t.Error(err)
		}
		h.put(viaRelay(h.t, "m", forward.OriginAPI, "9"))
	})
}

// TestSettingsFollow has the settings of a file hold, be taken back with it, and outlive a death before the confirmation.
func TestSettingsFollow(t *testing.T) {
	settings := func(target string) config.Settings {
		return config.Settings{
			Nodes: []node.Spec{{Name: "n", SSH: &node.SSH{Target: target}}},
			Users: []forward.User{{Name: "anna", Password: forward.PasswordHash("hash of " + target)}},
		}
	}
	inHouse(t, func(h *house) {
		var held []string
		h.Table.settle = func(s config.Settings) { held = append(held, s.Nodes[0].SSH.Target) }
		h.start()
		if _, err := h.ReplaceFile(h.t.Context(), &config.Config{Settings: settings("old")}); err != nil {
			h.t.Fatal(err)
		}
		if _, err := h.ReplaceUntilConfirmed(h.t.Context(), &config.Config{Settings: settings("new")}, 30*time.Second); err != nil {
			h.t.Fatal(err)
		}
		if cfg, ok := h.Unconfirmed(); !ok || !cfg.Settings.Equal(settings("old")) {
			h.t.Errorf("Unconfirmed: %+v, %v", cfg, ok)
		}
		elapse(31 * time.Second)
		if got := strings.Join(held, " "); got != "old new old" {
			h.t.Errorf("settings that held: %s", got)
		}
		if !h.Settings().Equal(settings("old")) {
			h.t.Errorf("Settings: %+v", h.Settings())
		}
	})
}
