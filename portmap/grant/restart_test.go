package grant

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
)

// A disk is a Store whose writes can be cut off, as by a crash.
type disk struct {
	store.Store
	mu     sync.Mutex
	dead   bool
	writes int
}

var errDead = errors.New("the process is dead")

func (d *disk) Update(fn func(store.Tx) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	d.writes++
	return d.Store.Update(fn)
}

func (d *disk) written() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

func (d *disk) kill(dead bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = dead
}

func TestLeasesSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.Memory()
		h := newHouse(t, s, &portmap.Spec{Ask: true}).start()
		r := request(t, "pcp udp 192.168.1.20:3074 4000")
		r.Nonce, r.Describe, r.From = [12]byte{7}, "game", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
		h.Map(t.Context(), []portmap.Request{r})
		if _, err := h.Approve(t.Context(), "192.168.1.20"); err != nil {
			t.Fatal(err)
		}
		h.ask("pcp tcp [2001:db8:1::20]:443")
		r = request(t, "upnp tcp 192.168.1.20:80")
		r.Lifetime = 2 * time.Minute
		h.Map(t.Context(), []portmap.Request{r})
		h.ask("natpmp tcp 192.168.1.30:81")
		h.ask("natpmp tcp 192.168.1.20:82")
		elapse(time.Minute)
		before := h.Of(netip.Addr{})
		epoch := h.Epoch()
		if epoch != 60 {
			t.Errorf("the epoch is %d", epoch)
		}
		h.stop()

		time.Sleep(5 * time.Minute)
		h = newHouse(t, s, &portmap.Spec{Ask: true}).start(admin(t, "op", "82"))
		defer h.stop()
		after := h.Of(netip.Addr{})
		if len(before) != 5 || len(after) != 3 { // one has ended, one gave way
			t.Fatalf("%d leases, then %d", len(before), len(after))
		}
		i := 0
		for _, m := range before {
			if m.Internal.Port() == 80 || m.Internal.Port() == 82 {
				continue
			}
			n := after[i]
			i++
			if m.Key != n.Key || m.External != n.External || m.Nonce != n.Nonce || m.Describe != n.Describe || m.Protocol != n.Protocol ||
				len(m.From) != len(n.From) || m.Asking != n.Asking || !m.Expires.Equal(n.Expires) || m.Name != n.Name || m.Lifetime != n.Lifetime {
				t.Errorf("before %+v\nafter  %+v", m, n)
			}
		}
		if got := h.Epoch(); got != 60+300 {
			t.Errorf("the epoch is %d after a restart", got)
		}
		for _, f := range h.table.Forwards() {
			if f.Origin.IsLease() && (f.Lease.MAC == "" || f.Outbound == f.IsPinhole()) {
				t.Errorf("%+v %+v", f, f.Lease)
			}
		}
		if r := h.ask("natpmp tcp 192.168.1.20:90"); r.Err != nil || r.Asking {
			t.Errorf("the approval is forgotten: %+v", r)
		}
		h.wantCarried("lease-192.168.1.20-tcp-90 tcp/203.0.113.5:90 192.168.1.20:90", "lease-192.168.1.20-udp-3074 udp/203.0.113.5:4000 192.168.1.20:3074",
			"lease-2001-db8-1--20-tcp-443 tcp/[2001:db8:1::20]:443 [2001:db8:1::20]:443", "op tcp/82 192.168.1.9:8080")
		elapse(55 * time.Minute)
		if len(h.Of(netip.Addr{})) != 1 {
			t.Errorf("%d leases after their hour", len(h.Of(netip.Addr{})))
		}
	})
}

// What a crash takes is at most what was granted in the last second, and clients are told that something may be missing.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{Store: store.Memory()}
		h := newHouse(t, d, &portmap.Spec{}).start()
		h.ask("natpmp tcp 192.168.1.20:80")
		elapse(time.Second)
		h.ask("natpmp tcp 192.168.1.20:81")
		d.kill(true)
		h.t = quiet{t}
		h.stop()
		d.kill(false)
		time.Sleep(time.Minute)
		h = newHouse(t, d, &portmap.Spec{}).start()
		defer h.stop()
		if list := h.Of(one); len(list) != 1 || list[0].Internal.Port() != 80 {
			t.Errorf("%+v", list)
		}
		if h.Epoch() != 0 {
			t.Errorf("the epoch is %d", h.Epoch())
		}
	})
}

// TestCrashWhileNothingHappens has the epoch go on: nothing that was granted is lost. A clock that is set before the crash does not
// matter, and each time that something is granted, it does again.
func TestCrashWhileNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{Store: store.Memory()}
		h := newHouse(quiet{t}, d, &portmap.Spec{}).start()
		began := time.Now()
		crash := func() {
			d.kill(true)
			h.stop()
			d.kill(false)
			time.Sleep(time.Minute)
			h = newHouse(quiet{t}, d, &portmap.Spec{}).start()
		}
		epoch := func() {
			t.Helper()
			if got, want := h.Epoch(), uint32(time.Since(began).Seconds()); got != want {
				t.Errorf("the epoch is %d, want %d", got, want)
			}
		}
		crash() // with nothing ever granted
		epoch()
		h.ask("natpmp tcp 192.168.1.20:80")
		elapse(10 * time.Second)
		before := d.written()
		elapse(time.Hour / 2)
		if d.written() != before {
			t.Errorf("%d writes while nothing happened", d.written()-before)
		}
		crash()
		epoch()
		if len(h.Of(one)) != 1 {
			t.Error("the lease is lost")
		}
		elapse(10 * time.Second)
		h.ask("natpmp tcp 192.168.1.20:80") // a renewal is as good as a lease
		crash()
		if h.Epoch() != 0 {
			t.Errorf("a renewal was lost, and the epoch is %d", h.Epoch())
		}
		began = time.Now()
		crash() // at once
		epoch()
		h.goTo(Outside{Addr: netip.MustParseAddr("203.0.113.9")})
		crash()
		if h.Epoch() != 0 {
			t.Errorf("it comes back with another address, and the epoch is %d", h.Epoch())
		}
		h.stop()
	})
}

// TestGrantsWhileItSettles has a lease granted at each moment of saying that all is stored.
func TestGrantsWhileItSettles(t *testing.T) {
	for _, when := range []time.Duration{0, 100 * time.Millisecond, settleAfter - time.Millisecond, settleAfter, settleAfter + time.Millisecond, 2 * settleAfter} {
		synctest.Test(t, func(t *testing.T) {
			d := &disk{Store: store.Memory()}
			h := newHouse(quiet{t}, d, &portmap.Spec{}).start()
			elapse(20 * time.Second)
			h.ask("natpmp tcp 192.168.1.20:80")
			time.Sleep(when)
			h.ask("natpmp tcp 192.168.1.20:81")
			d.kill(true)
			h.stop()
			d.kill(false)
			h = newHouse(quiet{t}, d, &portmap.Spec{}).start()
			if list := h.Of(one); len(list) != 2 && h.Epoch() != 0 {
				t.Errorf("%s: %d leases, and the epoch is %d", when, len(list), h.Epoch())
			}
			h.stop()
		})
	}
}

// TestGrantsWhileItOpens has somebody wait for a lease before leases are granted: that one is not stored yet, either.
func TestGrantsWhileItOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{Store: store.Memory()}
		newHouse(t, d, &portmap.Spec{}).start().stop()
		time.Sleep(time.Minute)
		h := newHouse(quiet{t}, d, &portmap.Spec{})
		go h.ask("natpmp tcp 192.168.1.20:80")
		synctest.Wait()
		h.start()
		synctest.Wait()
		d.kill(true)
		h.stop()
		d.kill(false)
		h = newHouse(t, d, &portmap.Spec{}).start()
		if h.Epoch() != 0 {
			t.Errorf("a lease was lost, and the epoch is %d", h.Epoch())
		}
		h.stop()
	})
}

// TestClockIsSet tells when the wall clock was set.
func TestClockIsSet(t *testing.T) {
	now := time.Now()
	if clockSet(now, now.Add(time.Hour)) {
		t.Error("an hour went by, and nobody set it")
	}
	if since := now.Round(0).Add(-time.Hour); clockSet(since, now) {
		t.Error("a time without the other clock tells nothing")
	}
}

// quiet is a TB that errors are expected of.
type quiet struct{ testing.TB }

func (quiet) Error(...any) {}

// A disk that fails keeps nobody from getting a mapping, and has it in the end.
func TestStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{Store: store.Memory()}
		h := newHouse(t, d, &portmap.Spec{}).start()
		d.kill(true)
		h.want("natpmp tcp 192.168.1.20:80", "203.0.113.5:80")
		elapse(3 * time.Second)
		if !h.logged("a restart would lose them") {
			t.Error("it is not logged")
		}
		d.kill(false)
		elapse(time.Second)
		if data, _ := d.Get("leases", "lease-192.168.1.20-tcp-80"); data == nil {
			t.Error("it is not stored")
		}
		h.stop()
	})
}

// A disk that is full from the beginning is no reason to end: a daemon would end with all its forwards.
func TestStoreFailsFromTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{Store: store.Memory(), dead: true}
		h := newHouse(t, d, &portmap.Spec{}).start()
		h.want("natpmp tcp 192.168.1.20:80", "203.0.113.5:80")
		if !h.logged("the age of the mappings is not kept") {
			t.Error("it is not logged")
		}
		d.kill(false)
		elapse(3 * time.Second)
		h.stop()
	})
}

// Many leases at once are one write, a moment later, besides the two that say that something is to come and that all is there.
func TestWritesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{Store: store.Memory()}
		h := newHouse(t, d, &portmap.Spec{}).start()
		before := d.written()
		for i := range 50 {
			h.ask("natpmp tcp 192.168.1.20:" + []string{"80", "81"}[i%2])
		}
		elapse(time.Second)
		if d.written() != before+2 {
			t.Errorf("%d writes", d.written()-before)
		}
		elapse(time.Minute)
		if d.written() != before+3 {
			t.Errorf("%d writes in the end", d.written()-before)
		}
		h.stop()
	})
}

func TestAddressChanges(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.ask("natpmp tcp 192.168.1.20:80")
		h.ask("natpmp tcp 192.168.1.20:81")
		elapse(time.Hour / 2)
		applies, _ := h.carrier.counts()
		h.replace(admin(h.t, "op", "203.0.113.9:81"))
		changed := h.Changed()
		h.goTo(Outside{Addr: netip.MustParseAddr("203.0.113.9")})
		h.wantCarried("lease-192.168.1.20-tcp-80 tcp/203.0.113.9:80 192.168.1.20:80", "op tcp/203.0.113.9:81 192.168.1.9:8080")
		select {
		case <-changed:
		default:
			h.t.Error("nobody was told")
		}
		if now, _ := h.carrier.counts(); now != applies+2 {
			h.t.Errorf("%d cycles", now-applies)
		}
		if addr, public := h.External(); addr.String() != "203.0.113.9" || !public || h.Epoch() != 0 {
			h.t.Errorf("%s %v, epoch %d", addr, public, h.Epoch())
		}
		elapse(time.Minute)
		h.goTo(Outside{})
		h.want("natpmp tcp 192.168.1.20:82", portmap.ErrNoExternal.Error())
		h.goTo(Outside{Addr: netip.MustParseAddr("203.0.113.9")}) // the same one again: nothing was lost
		if h.Epoch() != 60 {
			h.t.Errorf("the epoch is %d", h.Epoch())
		}
		changed = h.Changed()
		h.goTo(Outside{Addr: netip.MustParseAddr("203.0.113.9"), Public: netip.MustParseAddr("198.51.100.1")})
		select {
		case <-changed:
		default:
			h.t.Error("nobody was told of the public address")
		}
		h.want("natpmp tcp 192.168.1.20:82", "198.51.100.1:82")
		if m, ok := h.At(forward.TCP, 80); !ok || m.Public.String() != "198.51.100.1:80" {
			h.t.Errorf("%+v", m)
		}
	})
}

// A program that starts before its address is there goes on when it is the one that clients know, and else begins anew.
func TestAddressComesLate(t *testing.T) {
	for addr, want := range map[string]uint32{"203.0.113.5": 70, "203.0.113.9": 0} {
		synctest.Test(t, func(t *testing.T) {
			s := store.Memory()
			h := newHouse(t, s, &portmap.Spec{}).start()
			h.ask("natpmp tcp 192.168.1.20:80")
			elapse(time.Minute)
			h.stop()
			h = newHouse(t, s, &portmap.Spec{})
			h.outside = Outside{}
			h.start()
			h.want("natpmp tcp 192.168.1.20:80", portmap.ErrNoExternal.Error())
			elapse(10 * time.Second)
			changed := h.Changed()
			h.goTo(Outside{Addr: netip.MustParseAddr(addr)})
			<-changed
			if got := h.Epoch(); got != want {
				t.Errorf("%s: the epoch is %d, want %d", addr, got, want)
			}
			h.wantCarried("lease-192.168.1.20-tcp-80 tcp/" + addr + ":80 192.168.1.20:80")
			h.stop()
		})
	}
}

// The age of the mappings is told by a clock that cannot be set, whatever the wall clock says between two programs.
func TestEpochAndTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, c := range []struct {
			was  storedEpoch
			want uint32
		}{
			{storedEpoch{}, 0},
			{storedEpoch{Seconds: 100, At: now.Add(-time.Minute)}, 0},
			{storedEpoch{Seconds: 100, At: now.Add(-time.Minute), Clean: true}, 160},
			{storedEpoch{Seconds: 100, At: now, Clean: true, Address: wan}, 100},
			{storedEpoch{Seconds: 100, At: now, Clean: true, Address: one}, 0},                    // clients know another address
			{storedEpoch{Seconds: 100, At: now.Add(30 * 365 * 24 * time.Hour), Clean: true}, 100}, // the clock was set back
			{storedEpoch{Seconds: 100, At: time.Unix(0, 0), Clean: true}, 946684900},
			{storedEpoch{Seconds: 1<<32 - 1, At: now.Add(-time.Minute), Clean: true}, 1<<32 - 1},
		} {
			if got := resume(c.was, wan, now).seconds(); got != c.want {
				t.Errorf("%+v: %d, want %d", c.was, got, c.want)
			}
		}
		time.Sleep(time.Minute)
		if got := resume(storedEpoch{Seconds: 5, At: now, Clean: true}, netip.Addr{}, now).seconds(); got != 65 {
			t.Errorf("a minute later: %d", got)
		}
	})
}
