package hub

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A watched store counts what is written, and waits before it writes where somebody wants that.
type watched struct {
	store.Store
	writes atomic.Int32
	hold   atomic.Pointer[chan struct{}]
	begun  chan struct{}
}

func watch() *watched { return &watched{Store: store.Memory(), begun: make(chan struct{}, 100)} }

func (w *watched) Update(fn func(store.Tx) error) error {
	w.writes.Add(1)
	if hold := w.hold.Load(); hold != nil {
		w.begun <- struct{}{}
		<-*hold
	}
	return w.Store.Update(fn)
}

func enrolled(t *testing.T, r *Registry, keys ...tunnel.Key) {
	t.Helper()
	for _, k := range keys {
		if _, err := r.Enrol(k, mustToken(t, r, TokenOptions{}).Secret(), "", "", unspoken, 0, noon); err != nil {
			t.Fatal(err)
		}
	}
}

func port(n int) forward.Door { return claim{Network: forward.TCP, Port: uint16(n)}.door() }

func claims(r *Registry, key tunnel.Key) (ports []int) {
	rec, _ := r.Agent(key)
	for _, c := range rec.claims {
		ports = append(ports, int(c.Port))
	}
	return ports
}

// TestTheDiskIsSlow: who asks what an agent may does not wait for what another one writes.
func TestTheDiskIsSlow(t *testing.T) {
	s := watch()
	r := openRegistry(t, s)
	enrolled(t, r, anna, ben)
	if fresh, err := r.Reserve(anna, port(8000), nobody, noon); err != nil || !fresh {
		t.Fatal(err)
	}
	disk := make(chan struct{})
	s.hold.Store(&disk)
	kept := make(chan error)
	go func() { kept <- r.Keep(anna, port(8000), false, 10, nil) }()
	<-s.begun
	if rec, ok := r.Agent(ben); !ok || len(r.Agents()) != 2 || len(r.Tokens(noon)) != 0 {
		t.Errorf("%+v", rec)
	}
	r.Seen(anna, "newer", noon.Add(time.Second))
	if _, err := r.Reserve(ben, port(8000), nobody, noon); err == nil {
		t.Error("what is being written is anybody's meanwhile")
	}
	if _, err := r.Reserve(ben, port(8001), nobody, noon); err != nil {
		t.Error(err)
	}
	if _, err := r.Enrol(tunnel.Key{3}, newToken(hubKey).Secret(), "x", "", unspoken, 0, noon); err == nil {
		t.Error("a wrong token is good")
	}
	s.hold.Store(nil)
	close(disk)
	if err := <-kept; err != nil {
		t.Error(err)
	}
	if rec, _ := r.Agent(anna); rec.Program != "newer" || len(rec.claims) != 1 {
		t.Errorf("what was noted while the disk was busy is lost: %+v", rec)
	}
}

// TestReserve: nothing is written before somebody listens, and one who cannot keeps what was his before.
func TestReserve(t *testing.T) {
	s := watch()
	r := openRegistry(t, s)
	enrolled(t, r, anna, ben)
	writes := s.writes.Load()
	for range 3 {
		if fresh, err := r.Reserve(anna, port(8000), nobody, noon); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
		if _, err := r.Reserve(ben, port(8000), nobody, noon); err == nil {
			t.Error("two have the same place")
		}
		r.Release(anna, port(8000))
	}
	if _, err := r.Reserve(ben, port(8000), nobody, noon); err != nil {
		t.Errorf("what was given back: %v", err)
	}
	r.Release(ben, port(8000))
	if n := s.writes.Load(); n != writes || len(r.reserved) != 0 {
		t.Errorf("%d were written, %v is left", n-writes, r.reserved)
	}
	if err := claimFor(r, anna, port(8000), false, nobody, noon); err != nil {
		t.Fatal(err)
	}
	if fresh, err := r.Reserve(anna, port(8000), nobody, noon); err != nil || fresh {
		t.Errorf("what was the agent's before is fresh: %v", err)
	}
	if err := r.Revoke(anna, noon); err != nil {
		t.Fatal(err)
	}
	if err := r.Keep(anna, port(8000), false, 10, nil); err == nil || len(claims(r, anna)) != 0 {
		t.Error("one that is revoked has a place")
	}
}

// TestClaimsAreBounded: an agent keeps as many places as it may have, and those that it has now before others.
func TestClaimsAreBounded(t *testing.T) {
	r := openRegistry(t, store.Memory())
	enrolled(t, r, anna)
	open := []forward.Door{port(2000)}
	for n := 2000; n < 2020; n++ {
		if _, err := r.Reserve(anna, port(n), nobody, noon); err != nil {
			t.Fatal(err)
		}
		if err := r.Keep(anna, port(n), false, 3, open); err != nil {
			t.Fatal(err)
		}
	}
	if got := claims(r, anna); !slices.Equal(got, []int{2000, 2018, 2019}) {
		t.Errorf("it keeps %v", got)
	}
}

// TestAPlaceThatSomebodyTook: the agent's port is its own even if it cannot be listened at for a while.
func TestAPlaceThatSomebodyTook(t *testing.T) {
	var w *world
	var at string
	var other net.Listener
	for tries := 0; other == nil; tries++ { // another process may be faster
		w = newWorld(t, func(o *Options) { o.Linger, o.Resume = time.Millisecond, 100*time.Millisecond })
		w.enrol(anna, "anna", Limits{})
		w.enrol(ben, "ben", Limits{})
		m := w.run(anna, nil)
		at = w.listen(m, "127.0.0.1:0").Addr().String()
		m.stop()
		w.eventually("nobody listens", func() bool { return len(w.doors.Open()) == 0 })
		var err error
		if other, err = net.Listen("tcp", at); err != nil && tries == 20 {
			t.Fatal(err)
		}
	}
	defer other.Close()
	l, err := w.run(anna, nil).Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the port is in use", func() bool { return strings.Contains(l.(node.Stated).State().Why, "in use") })
	thief, err := w.run(ben, nil).Listen(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("another agent is told whose it is", func() bool { return strings.Contains(thief.(node.Stated).State().Why, errTaken.Error()) })
	if got := claims(w.hub.o.Registry, anna); len(got) != 1 || !strings.HasSuffix(at, fmt.Sprint(got[0])) {
		t.Errorf("it keeps %v", got)
	}
}

// TestManyListens: who has listeners opened again and again waits for himself.
func TestManyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Options{Registry: openRegistry(t, store.Memory()), Forwards: newDoors(t)})
		if err != nil {
			t.Fatal(err)
		}
		m := newMember(h, Record{Key: anna})
		start := time.Now()
		for range 20 {
			m.breathe(5)
		}
		if d := time.Since(start); d < 9*letEvery || d > 11*letEvery {
			t.Errorf("twenty, where ten may come at once, take %v", d)
		}
		m.stop()
		for range 1000 {
			m.breathe(5) // it is over
		}
		if d := time.Since(start); d > 11*letEvery {
			t.Errorf("one that is revoked waits on: %v", d)
		}
	})
}
