package table

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// aLease is a lease at a place for an hour.
func aLease(t testing.TB, name, listen string) *forward.Forward {
	f := spec(t, name, "lease:pcp", config.Spec{Listen: listen, To: config.Strings{"192.168.1.10:8080"}})
	f.Expires, f.Lease, f.Outbound = time.Now().Add(time.Hour), &forward.Lease{Client: netip.MustParseAddr("192.168.1.10")}, true
	return f
}

// batch puts and drops, and is the errors in one line.
func (h *house) batch(put, drop []*forward.Forward) string {
	h.t.Helper()
	b, err := h.Batch(h.t.Context(), put, drop)
	if err != nil {
		h.t.Fatal(err)
	}
	errs, err := b.Wait(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprint(errs)
}

func these(f ...*forward.Forward) []*forward.Forward { return f }

func TestBatch(t *testing.T) {
	inHouse(t, func(h *house) {
		h.replace(viaKernel(h.t, "op", forward.OriginFile, "80"), viaKernel(h.t, "c", forward.OriginFile, "90"))
		h.start()
		a, b, c := aLease(h.t, "a", "203.0.113.5:1"), aLease(h.t, "b", "203.0.113.5:1"), aLease(h.t, "c", "203.0.113.5:3")
		d, e := aLease(h.t, "d", "203.0.113.5:80"), aLease(h.t, "e", "203.0.113.5:5")
		bad := aLease(h.t, "bad", "203.0.113.5:6")
		bad.To = nil
		none := viaKernel(h.t, "none", forward.OriginAPI, "7")
		before := h.kernel.count()
		got := h.batch(these(a, b, c, d, e, bad, none), nil)
		want := `[<nil> forwards "a" and "b" claim the same traffic: tcp port 1 forward "c" belongs to the configuration file ` +
			`forwards "op" and "d" claim the same traffic: tcp port 80 <nil> to: a forward needs a target, such as "192.168.1.10:8080" "none" is no lease]`
		if got != want {
			h.t.Errorf("got  %s\nwant %s", got, want)
		}
		if n := h.kernel.count() - before; n != 1 {
			h.t.Errorf("%d cycles", n)
		}
		h.wantCarried("a c e op", "")

		// What is dropped makes room for what is put; what is another by now is not dropped.
		b2 := aLease(h.t, "b", "203.0.113.5:1")
		former := *e
		if got := h.batch(these(b2), these(a, &former)); got != "[<nil>]" {
			h.t.Error(got)
		}
		h.wantCarried("b c e op", "")

		// One that is refused stays as it was.
		moved := *e
		moved.Listen.Ports = b2.Listen.Ports
		if got := h.batch(these(&moved), nil); !strings.Contains(got, "claim the same traffic") {
			h.t.Error(got)
		}
		if h.kernel.get("e") == nil || !h.kernel.get("e").Listen.Equal(e.Listen) {
			h.t.Error("a lease that could not move is gone")
		}
		// Two that change places in one batch: one loses its place for good.
		x, y := *b2, *e
		x.Listen, y.Listen = e.Listen, b2.Listen
		if got := h.batch(these(&x, &y), nil); got != "[<nil> <nil>]" {
			h.t.Error(got)
		}
		if at := h.kernel.get("b").Listen.String(); at != "tcp/203.0.113.5:5" {
			h.t.Errorf("b listens at %s", at)
		}
		if got := h.batch(these(aLease(h.t, "z", "203.0.113.5:8"), aLease(h.t, "z", "203.0.113.5:9")), nil); got != `[<nil> "z" is put twice]` {
			h.t.Error(got)
		}
		h.kernel.refuse("a", errBusy)
		if got := h.batch(these(aLease(h.t, "a", "203.0.113.5:9")), nil); got != "[address already in use]" {
			h.t.Error(got)
		}
	})
}

func TestRenewalCostsNothing(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		a := aLease(h.t, "a", "203.0.113.5:1")
		h.batch(these(a), nil)
		sent, before := h.kernel.get("a"), h.kernel.count()
		again := *a
		again.Expires, again.Lease = a.Expires.Add(time.Hour), &forward.Lease{Hostname: "xbox"}
		h.batch(these(&again), nil)
		if h.kernel.count() != before || h.kernel.get("a") != sent {
			h.t.Error("a renewal reached the carrier")
		}
		if f := h.Forwards()[0]; f != &again {
			h.t.Errorf("it is %+v", f)
		}
		elapse(90 * time.Minute)
		h.wantCarried("a", "")
		short := again
		short.Expires = time.Now().Add(time.Minute)
		h.batch(these(&short), nil)
		elapse(time.Minute)
		h.wantCarried("", "")
		// It is planned anew like any other.
		h.batch(these(aLease(h.t, "a", "203.0.113.5:1")), nil)
		facts := router
		facts.Routes4 = false
		h.setFacts(facts)
		elapse(2 * lookEvery)
		h.wantCarried("", "a") // the kernel keeps the place once it carries something
	})
}

// A renewal that comes while the carriers have not answered for the lease waits for them.
func TestRenewalWaitsForTheFirst(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		a := aLease(h.t, "a", "203.0.113.5:1")
		hold := make(chan struct{})
		h.kernel.watch(func([]*forward.Forward) { <-hold })
		first, err := h.Batch(h.t.Context(), these(a), nil)
		if err != nil {
			h.t.Fatal(err)
		}
		synctest.Wait()
		again := *a
		again.Expires = a.Expires.Add(time.Second)
		second, err := h.Batch(h.t.Context(), these(&again), nil)
		if err != nil {
			h.t.Fatal(err)
		}
		answered := make(chan struct{})
		go func() {
			_, _ = second.Wait(h.t.Context())
			close(answered)
		}()
		synctest.Wait()
		select {
		case <-answered:
			h.t.Error("it is in force before the carrier has said so")
		default:
		}
		h.kernel.watch(nil)
		close(hold)
		if _, err := first.Wait(h.t.Context()); err != nil {
			h.t.Error(err)
		}
		<-answered
	})
}

func TestLeasesEndInOrder(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		var all []*forward.Forward
		for i := range 50 {
			f := aLease(h.t, fmt.Sprintf("l%02d", i), fmt.Sprintf("203.0.113.5:%d", 1+i))
			f.Expires = time.Now().Add(time.Duration(1+i*7%50) * time.Minute)
			all = append(all, f)
		}
		h.batch(all, nil)
		began := time.Now()
		for m := range 50 {
			elapse(time.Until(began.Add(time.Duration(m)*time.Minute + time.Second)))
			for _, f := range all {
				if over := !time.Now().Before(f.Expires); over == (h.kernel.get(f.Name) != nil) {
					h.t.Fatalf("after %d minutes %s, which ends at %s, is carried: %v", m, f.Name, f.Expires, !over)
				}
			}
		}
		before := h.kernel.count()
		elapse(time.Hour)
		if n := h.kernel.count() - before; n > 1 {
			h.t.Errorf("%d cycles after the last", n)
		}
	})
}

func TestLeaseIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, store.Memory())
		var mu sync.Mutex
		var told []string
		name := func(f *forward.Forward) string {
			if f == nil {
				return "-"
			}
			return f.Name + f.Listen.Ports.String()
		}
		note := func(now, before *forward.Forward) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, name(before)+">"+name(now))
		}
		h.Table.lease = note
		want := func(w string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(told, " "); got != w {
				t.Errorf("told %s, want %s", got, w)
			}
			told = nil
		}
		h.start()
		a, b := aLease(t, "a", "203.0.113.5:1"), aLease(t, "b", "203.0.113.5:2")
		h.batch(these(a, b), nil)
		want("->a1 ->b2")
		again := *a
		again.Expires = a.Expires.Add(time.Hour)
		h.batch(these(&again), these(b))
		want("b2>- a1>a1")
		h.put(viaKernel(t, "op", forward.OriginAPI, "1-2"))
		want("a1>-")
		h.batch(these(aLease(t, "c", "203.0.113.5:3"), aLease(t, "d", "203.0.113.5:4")), nil)
		if err := h.Delete(t.Context(), "c"); err != nil {
			t.Error(err)
		}
		want("->c3 ->d4 c3>-")
		h.stop()
		s := h.store
		h = newHouse(t, s)
		h.Table.lease = note
		h.start()
		want("->d4")
		elapse(time.Hour)
		want("d4>-")
		h.stop()
		if data, _ := s.Get(bucketLeases, "d"); data != nil {
			t.Error("it is still stored")
		}
	})
}

// A forward of the operator that comes back by itself takes a lease's port as well.
func TestShelvedForwardComesBackOverALease(t *testing.T) {
	inHouse(t, func(h *house) {
		storeSpec(h.t, h.store, "api", `{"listen":"5-6","to":"app:1"}`)
		h.replace(viaRelay(h.t, "file", forward.OriginFile, "6"), viaRelay(h.t, "api", forward.OriginFile, "9"))
		h.start()
		if got := h.batch(these(aLease(h.t, "l", "203.0.113.5:5")), nil); got != "[<nil>]" {
			h.t.Fatal(got)
		}
		h.replace()
		h.wantLook("api api up")
	})
}

// TestPassivePorts has a lease ask for a port at which a forward waits for FTP's data now and then, and has one there.
func TestPassivePorts(t *testing.T) {
	inHouse(t, func(h *house) {
		ftp := func(passive string) *forward.Forward {
			return spec(h.t, "ftp", forward.OriginFile, config.Spec{Listen: "21", To: config.Strings{"app:21"}, Helper: "ftp", PassivePorts: passive})
		}
		h.replace(ftp("50000-50009"))
		h.start()
		got := h.batch(these(aLease(h.t, "in", "203.0.113.5:50003"), aLease(h.t, "out", "203.0.113.5:50010"), aLease(h.t, "udp", "udp/203.0.113.5:50004")), nil)
		if want := `[forwards "ftp" and "in" claim the same traffic: tcp port 50003 <nil> <nil>]`; got != want {
			h.t.Errorf("got  %s\nwant %s", got, want)
		}
		if !h.Taken(netip.MustParseAddr("203.0.113.5"), forward.TCP).Has(50003) {
			h.t.Error("it is not taken")
		}
		h.replace(ftp("50000-50019"))
		var names []string
		for _, f := range h.Forwards() {
			names = append(names, f.Name)
		}
		if want := []string{"ftp", "udp"}; !slices.Equal(names, want) {
			h.t.Errorf("there are %v, and should be %v", names, want)
		}
	})
}

func TestTaken(t *testing.T) {
	inHouse(t, func(h *house) {
		off := viaKernel(h.t, "off", forward.OriginFile, "99")
		off.Disabled = true
		h.replace(viaRelay(h.t, "a", forward.OriginFile, "10-12"), viaKernel(h.t, "b", forward.OriginFile, "20"), off,
			spec(h.t, "c", forward.OriginFile, config.Spec{Listen: "192.168.1.1:30", To: config.Strings{"app:1"}}),
			spec(h.t, "d", forward.OriginFile, config.Spec{Listen: "udp/40", To: config.Strings{"app:1"}}),
			spec(h.t, "e", forward.OriginFile, config.Spec{Listen: "[::]:50", To: config.Strings{"app:1"}}),
			spec(h.t, "f", forward.OriginFile, config.Spec{Listen: "*", To: config.Strings{"192.168.1.9"}}))
		h.start()
		h.batch(these(aLease(h.t, "l", "203.0.113.5:60")), nil)
		taken := func(addr string, network forward.Networks) (ports []int) {
			bits := h.Taken(netip.MustParseAddr(addr), network)
			for p := range 65536 {
				if bits.Has(uint16(p)) {
					ports = append(ports, p)
				}
			}
			return ports
		}
		for _, c := range []struct {
			addr    string
			network forward.Networks
			want    []int
		}{
			{"203.0.113.5", forward.TCP, []int{10, 11, 12, 20}}, {"192.168.1.1", forward.TCP, []int{10, 11, 12, 30}},
			{"203.0.113.9", forward.TCP, []int{10, 11, 12}}, {"203.0.113.5", forward.UDP, []int{40}},
		} {
			if got := taken(c.addr, c.network); !slices.Equal(got, c.want) {
				h.t.Errorf("%s %s: %v, want %v", c.addr, c.network, got, c.want)
			}
		}
		h.replace()
		if got := taken("203.0.113.5", forward.TCP); got != nil {
			h.t.Errorf("%v are left", got)
		}
	})
}

// A pinhole of the operator goes before a lease's; a forward of every address of this host has none of another host's.
func TestPinholeLeases(t *testing.T) {
	inHouse(t, func(h *house) {
		hole := func(name string, origin forward.Origin, ports string) *forward.Forward {
			f := spec(h.t, name, origin, config.Spec{Listen: "[2001:db8:9::1]:" + ports, To: config.Strings{"[2001:db8:9::1]:" + ports}})
			if origin.IsLease() {
				f.Expires, f.Lease = time.Now().Add(time.Hour), &forward.Lease{}
			}
			return f
		}
		h.replace(viaRelay(h.t, "every", forward.OriginFile, "80-90"))
		h.start()
		if got := h.batch(these(hole("a", "lease:pcp", "80"), hole("b", "lease:pcp", "81")), nil); got != "[<nil> <nil>]" {
			h.t.Error(got)
		}
		h.put(hole("op", forward.OriginAPI, "81-82"))
		h.wantLook("a lease:pcp up, every file up, op api up")
		if got := h.batch(these(hole("c", "lease:pcp", "82")), nil); !strings.Contains(got, `"op" and "c"`) {
			h.t.Error(got)
		}
	})
}

func TestBatchAfterTheEnd(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.stop()
		if _, err := h.Batch(h.t.Context(), these(aLease(h.t, "a", "203.0.113.5:1")), nil); !errors.Is(err, ErrStopped) {
			h.t.Error(err)
		}
	})
}

// What of the stored leases cannot be used goes, and nothing else does.
func TestStoredLeases(t *testing.T) {
	inHouse(t, func(h *house) {
		keep := func(name, data string) {
			h.t.Helper()
			if err := h.store.Update(func(tx store.Tx) error { return tx.Put(bucketLeases, name, []byte(data)) }); err != nil {
				h.t.Fatal(err)
			}
		}
		in := func(name, listen, expires string, left time.Duration) {
			keep(name, fmt.Sprintf(`{"Spec":{"listen":%q,"to":"192.168.1.10:80","expires":%q},"Origin":"lease:pcp","Lease":{"Client":"192.168.1.10"},"Left":%d}`, listen, expires, left))
		}
		in("fine", "203.0.113.5:1", "2000-01-01T01:00:00Z", time.Hour)
		in("over", "203.0.113.5:2", "1999-12-31T23:59:59Z", time.Hour)
		in("late", "203.0.113.5:3", "2030-01-01T00:00:00Z", time.Minute) // the clock was set back
		in("tied", "203.0.113.5:4", "2000-01-01T01:00:00Z", time.Hour)
		in("op", "203.0.113.5:5", "2000-01-01T01:00:00Z", time.Hour)
		in("junk", "203.0.113.5:70000", "2000-01-01T01:00:00Z", time.Hour)
		keep("endless", `{"Spec":{"listen":"203.0.113.5:6","to":"192.168.1.10:80"},"Origin":"lease:pcp"}`)
		keep("foreign", `{"Spec":{"listen":"203.0.113.5:7","to":"192.168.1.10:80"},"Origin":"file"}`)
		keep("cut", `{"Spec":`)
		h.replace(viaRelay(h.t, "op", forward.OriginFile, "4"))
		h.start()
		h.wantLook("fine lease:pcp up, late lease:pcp up, op file up")
		elapse(time.Second)
		for name, want := range map[string]bool{"fine": true, "late": true, "over": false, "tied": false, "op": false, "junk": false, "endless": false, "foreign": false, "cut": false} {
			if data, _ := h.store.Get(bucketLeases, name); (data != nil) != want {
				h.t.Errorf("%s is stored: %v", name, data != nil)
			}
		}
		elapse(time.Minute)
		h.wantLook("fine lease:pcp up, op file up")
	})
}
