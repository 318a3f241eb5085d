package table

import (
	"fmt"
	"log/slog"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
)

func total(n uint64) forward.Stats {
	return forward.Stats{Total: n, Refused: n / 2, BytesIn: 100 * n, BytesOut: 1000 * n}
}

func (h *house) wantTotal(name string, n uint64) {
	h.t.Helper()
	for _, s := range h.Snapshot() {
		if s.Forward.Name != name {
			continue
		}
		got := s.Stats
		got.Open, got.Note = 0, ""
		if !reflect.DeepEqual(got, total(n)) {
			h.t.Errorf("%s counts %+v, want %+v", name, got, total(n))
		}
	}
}

func TestCountersSurviveEverything(t *testing.T) {
	inHouse(t, func(h *house) {
		f := viaKernel(h.t, "web", forward.OriginFile, "80")
		h.replace(f)
		h.start()
		h.kernel.pass("web", total(10))
		h.wantTotal("web", 10)
		h.kernel.pass("web", total(4)) // the kernel's tables were made anew
		h.wantTotal("web", 14)
		h.kernel.pass("web", total(6)) // since the last look

		// It moves to the relay. What the kernel counted up to then counts.
		h.setFacts(kernel.Facts{Unusable: "gone"})
		h.kernel.watch(func([]*forward.Forward) { h.kernel.forget("web") })
		elapse(lookEvery)
		h.wantCarried("", "web")
		h.wantTotal("web", 16)
		h.relay.pass("web", total(100))
		h.wantTotal("web", 116)

		// And back, and counts on from 0 there, past what was read last.
		h.setFacts(router)
		h.relay.watch(func(want []*forward.Forward) {
			if names(want) == "" {
				h.relay.forget("web")
			}
		})
		elapse(lookEvery)
		h.wantCarried("web", "")
		h.kernel.pass("web", total(20))
		h.wantTotal("web", 136)
		st := h.store
		h.stop()

		// A restart: the kernel counts on, and more came through while no daemon ran.
		h2 := newHouse(h.t, st)
		h2.kernel.pass("web", total(30))
		h2.replace(f)
		h2.start()
		h2.wantTotal("web", 146)
		h2.stop()

		// A restart of the machine.
		h3 := newHouse(h.t, st)
		h3.replace(f)
		h3.start()
		h3.wantTotal("web", 146)
		h3.kernel.pass("web", total(2))
		h3.wantTotal("web", 148)
		elapse(saveEvery)
		if stored, _ := st.Get(bucketCounters, "web"); stored == nil {
			h.t.Error("counters are not saved while the daemon runs")
		}
		h3.replace() // and they go with it
		h3.replace(f)
		h3.kernel.forget("web")
		h3.wantTotal("web", 0)
		h3.stop()
	})
}

func TestRelayCountersAfterARestart(t *testing.T) {
	inHouse(t, func(h *house) {
		st := h.store
		h.start()
		h.put(viaRelay(h.t, "app", forward.OriginAPI, "1"))
		h.relay.pass("app", total(10))
		h.stop()
		h2 := newHouse(h.t, st).start()
		h2.wantTotal("app", 10)
		h2.relay.pass("app", total(50)) // more than the last reading of its last life
		h2.wantTotal("app", 60)
		h2.replace(viaRelay(h.t, "x", forward.OriginFile, "2")) // the file comes late; what is stored for nobody goes
		if err := h2.Delete(h.t.Context(), "app"); err != nil {
			h.t.Error(err)
		}
		h2.stop()
		if stored, _ := st.Get(bucketCounters, "app"); stored != nil {
			h.t.Error("counters of a deleted forward are still stored")
		}
	})
}

func TestCountersOfNobodyAreDropped(t *testing.T) {
	inHouse(t, func(h *house) {
		for _, name := range []string{"mine", "theirs", "nobody", "junk"} {
			data := `{"relay":[[1,0,100,1000],[1,1,100,1000]],"later":[[9,9,9,9],[9,9,9,9]]}`
			if name == "junk" {
				data = "{"
			}
			if err := h.store.Update(func(tx store.Tx) error { return tx.Put(bucketCounters, name, []byte(data)) }); err != nil {
				h.t.Fatal(err)
			}
		}
		storeSpec(h.t, h.store, "mine", `{"listen":"1","to":"app:1"}`)
		h.start() // the file comes only now, and its counters must wait for it
		elapse(2 * saveEvery)
		h.replace(viaRelay(h.t, "theirs", forward.OriginFile, "2"))
		h.wantTotal("mine", 2)
		h.wantTotal("theirs", 2)
		elapse(2 * saveEvery)
		if stored, _ := h.store.Get(bucketCounters, "nobody"); stored != nil {
			h.t.Error("counters of a forward that is gone are still stored")
		}
	})
}

func TestOpenIsNotKept(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.put(viaRelay(h.t, "app", forward.OriginAPI, "1"))
		h.relay.pass("app", forward.Stats{Open: 3, Total: 5})
		if got := h.Snapshot()[0].Stats; got.Open != 3 || got.Total != 5 {
			h.t.Errorf("%+v", got)
		}
		h.relay.forget("app")
		if got := h.Snapshot()[0].Stats; got.Open != 0 || got.Total != 5 {
			h.t.Errorf("once the relay says nothing: %+v", got)
		}
	})
}

// TestTotalsNeverGoBackwards lets carriers count, forget, change and be saved in any order, and compares with what really
// passed. A reset that is seen, because the reading after it is lower or because the table itself ended the leg, loses
// nothing; one that is not may lose what came since the last reading, and never makes a total smaller or too large.
func TestTotalsNeverGoBackwards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := store.Memory()
		k, r := new(carrier), new(carrier)
		c := newCounters()
		c.keep("f")
		raw := map[meterKey]uint64{}
		var truth, last uint64
		exact := true
		carrierOf := func(key meterKey) (*carrier, string) {
			switch key.leg {
			case legKernel:
				return k, key.name
			case legLo4:
				return r, key.name + suffixLo4
			}
			return r, key.name
		}
		legNamed := rapid.SampledFrom([]meterKey{{"f", legKernel}, {"f", legRelay}, {"f", legLo4}})
		read := func() {
			c.read(k, r)
			got := c.of("f").Total
			if got < last || got > truth || exact && got != truth {
				t.Fatalf("total is %d after %d; %d passed (exact: %v)", got, last, truth, exact)
			}
			last = got
		}
		t.Repeat(map[string]func(*rapid.T){
			"traffic": func(t *rapid.T) {
				key, n := legNamed.Draw(t, "leg"), rapid.Uint64Range(0, 1000).Draw(t, "n")
				raw[key] += n
				truth += n
				to, name := carrierOf(key)
				to.pass(name, total(raw[key]))
			},
			"read": func(*rapid.T) { read() },
			"reset": func(t *rapid.T) {
				key := legNamed.Draw(t, "leg")
				read()
				exact = exact && raw[key] == 0 // the next reading may be higher than this one
				raw[key] = 0
				from, name := carrierOf(key)
				from.forget(name)
			},
			"end": func(t *rapid.T) { // what reconcile does when a forward leaves a carrier
				key := legNamed.Draw(t, "leg")
				read()
				raw[key] = 0
				from, name := carrierOf(key)
				from.forget(name)
				c.end([]meterKey{key})
			},
			"restart": func(t *rapid.T) {
				read()
				if err := c.save(st); err != nil {
					t.Fatal(err)
				}
				c = newCounters()
				for key := range raw {
					if key.leg != legKernel {
						raw[key] = 0
						from, name := carrierOf(key)
						from.forget(name)
					}
				}
				if rapid.Bool().Draw(t, "early") { // the file's forwards are there before what is stored is read
					c.keep("f")
				}
				if err := c.load(st, slog.New(slog.DiscardHandler)); err != nil {
					t.Fatal(err)
				}
				c.keep("f")
				c.prune()
			},
		})
	})
}

func TestSaveThatFailsIsTriedAgain(t *testing.T) {
	disk := &brokenStore{Store: store.Memory(), broken: true}
	c, k := newCounters(), new(carrier)
	c.keep("a")
	c.drop("b")
	k.pass("a", total(3))
	c.read(k, new(carrier))
	if err := c.save(disk); err == nil {
		t.Fatal("nothing was saved, and nobody said so")
	}
	disk.broken = false
	if err := c.save(disk); err != nil {
		t.Fatal(err)
	}
	if got, _ := disk.Get(bucketCounters, "a"); string(got) != `{"kernel":[[0,0,0,0],[3,1,300,3000]]}` {
		t.Errorf("saved %s", got)
	}
}

func BenchmarkRead60000(b *testing.B) {
	c, k, r := newCounters(), new(carrier), new(carrier)
	for i := range 60_000 {
		name := fmt.Sprintf("f%05d", i)
		c.keep(name)
		k.pass(name, total(uint64(i)))
	}
	for b.Loop() {
		c.read(k, r)
	}
}

func webEverywhere(t testing.TB, name, listen string, more config.Spec) *forward.Forward {
	more.Listen, more.To = listen, config.Strings{"192.168.1.10:8080"}
	return spec(t, name, forward.OriginFile, more)
}
