package table

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

func TestAddedForwardsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	full := spec(t, "full", forward.OriginAPI, config.Spec{
		Listen: "tcp/80,8000-8010", To: config.Strings{"app:80", "app2:80"}, Balance: "least", From: config.Strings{"192.0.2.0/24"},
		When: config.Strings{"mon-fri 08:00-18:00"}, MaxConnections: 5, Expires: "2999-01-01T00:00:00Z", Bandwidth: "10Mbit", SendProxy: "v2",
		IdleTimeout: "1h", SlowStart: "30s", Drain: config.Strings{"app2:80"}, Wake: config.Strings{"02:00:00:00:00:01"}, WakePassword: "192.0.2.1",
	})
	for round := range 3 {
		s, err := store.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		h := newHouse(t, s)
		h.replace(viaRelay(t, "file", forward.OriginFile, "1"))
		h.start()
		switch round {
		case 0:
			h.put(full)
			h.put(viaRelay(t, "gone", forward.OriginAPI, "2"))
			h.put(viaRelay(t, "changed", forward.OriginAPI, "3"))
			h.put(viaRelay(t, "changed", forward.OriginAPI, "4"))
			h.put(viaRelay(t, "cli", forward.OriginCLI, "5"))
			if err := h.Delete(t.Context(), "gone"); err != nil {
				t.Error(err)
			}
		default:
			var got []string
			for _, s := range h.Snapshot() {
				got = append(got, s.Forward.Name+" "+s.Forward.Listen.String())
				if s.Forward.Name == "full" && !s.Forward.Equal(full) {
					t.Errorf("stored as %+v", s.Forward)
				}
			}
			if g := strings.Join(got, ", "); g != "changed tcp/4, file tcp/1, full tcp/80,8000-8010" {
				t.Errorf("round %d: %s", round, g)
			}
		}
		h.stop()
		s.Close()
	}
}

func storeSpec(t *testing.T, s store.Store, name, data string) {
	t.Helper()
	if err := s.Update(func(tx store.Tx) error { return tx.Put(bucketForwards, name, []byte(data)) }); err != nil {
		t.Fatal(err)
	}
}

// What is stored and cannot be carried is shown, kept, and comes back when it can.
func TestStoredForwardsThatMeetTheFile(t *testing.T) {
	inHouse(t, func(h *house) {
		storeSpec(h.t, h.store, "fine", `{"listen":"1","to":"app:1"}`)
		storeSpec(h.t, h.store, "tie", `{"listen":"2","to":"app:1"}`)
		storeSpec(h.t, h.store, "name", `{"listen":"3","to":"app:1"}`)
		storeSpec(h.t, h.store, "bad", `{"listen":"70000","to":"app:1"}`)
		storeSpec(h.t, h.store, "junk", `{"li`)
		storeSpec(h.t, h.store, "past", `{"listen":"4","to":"app:1","expires":"1999-01-01T00:00:00Z"}`)
		h.replace(viaRelay(h.t, "theirs", forward.OriginFile, "2"), viaRelay(h.t, "name", forward.OriginFile, "9"))
		h.start()
		h.wantCarried("", "fine name theirs")
		all := h.look()
		for _, line := range []string{
			"bad api failed (what is stored of it cannot be used: listen: port 70000 is too large; ports are numbers from 1 to 65535)",
			"fine api up", "junk api failed (what is stored of it cannot be used: ",
			`name file up, name api failed (forward "name" belongs to the configuration file)`,
			`theirs file up, tie api failed (forwards "theirs" and "tie" claim the same traffic: tcp port 2)`,
		} {
			if !strings.Contains(all, line) {
				h.t.Errorf("the table has %s\nwant %s", all, line)
			}
		}
		if stored, _ := h.store.Get(bucketForwards, "past"); stored != nil {
			h.t.Error("what has expired while no daemon ran is still stored")
		}
		for _, name := range []string{"tie", "name", "bad", "junk"} {
			if stored, _ := h.store.Get(bucketForwards, name); stored == nil {
				h.t.Errorf("%s is lost", name)
			}
		}
		if err := h.Delete(h.t.Context(), "junk"); err != nil {
			h.t.Error(err)
		}
		h.put(viaRelay(h.t, "bad", forward.OriginAPI, "5"))
		h.replace() // the file makes room
		h.wantLook("bad api up, fine api up, name api up, tie api up")
		if err := h.Delete(h.t.Context(), "tie"); err != nil {
			h.t.Error(err)
		}
		if stored, _ := h.store.Get(bucketForwards, "tie"); stored != nil {
			h.t.Error("a deleted forward is still stored")
		}
	})
}

func TestDeleteOfAShelvedNamesake(t *testing.T) {
	inHouse(t, func(h *house) {
		storeSpec(h.t, h.store, "web", `{"listen":"3","to":"app:1"}`)
		h.replace(viaRelay(h.t, "web", forward.OriginFile, "9"))
		h.start()
		if err := h.Delete(h.t.Context(), "web"); err != nil { // the stored one; the file's cannot be meant
			h.t.Error(err)
		}
		h.wantLook("web file up")
		if stored, _ := h.store.Get(bucketForwards, "web"); stored != nil {
			h.t.Error("it is still stored")
		}
	})
}

func TestDamagedStore(t *testing.T) {
	s := store.Memory()
	s.Close()
	h := newHouse(t, s)
	if err := h.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "stored") {
		t.Errorf("Run without a store: %v", err)
	}
}

func TestSinceAndDetail(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		began := h.put(spec(h.t, "web", forward.OriginAPI, config.Spec{Listen: "203.0.113.5:80", To: config.Strings{"192.168.1.10"}})).Since
		elapse(time.Hour)
		h.put(viaRelay(h.t, "app", forward.OriginAPI, "81"))
		h.relay.pass("app", forward.Stats{Open: 1, Total: 1, Note: "accepting is paused: out of file descriptors"})
		list := h.Snapshot()
		if got := list[0].Detail; got != "accepting is paused: out of file descriptors" {
			h.t.Errorf("app: %q", got)
		}
		if got := list[1]; !got.Since.Equal(began) || got.Detail != "the target sees the client's address; clients on lan itself are rewritten (hairpin)" {
			h.t.Errorf("web: %+v", got)
		}
	})
}

func TestLeaseThatWaitsSaysHowItIsLetIn(t *testing.T) {
	f := spec(t, "lease-x", "lease:upnp", config.Spec{Listen: "203.0.113.5:81", To: config.Strings{"192.168.1.10"}})
	for want, lease := range map[string]*forward.Lease{
		"waits to be approved: `fairlead leases approve lease-x` lets it in": {Asking: true},
		"disabled": {},
	} {
		f.Disabled, f.Lease = true, lease
		if got := shutDetail(disabled, f, nil); got != want {
			t.Errorf("%+v: %q", *lease, got)
		}
	}
}
