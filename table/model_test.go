package table

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
)

// TestAnyOrderOfChanges makes changes of every kind in any order, on a host that changes and with carriers that refuse, and
// holds what the table keeps in step by small steps against what follows from its entries.
func TestAnyOrderOfChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHouse(t, store.Memory())
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		<-h.Ready()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				rt.Error(err)
			}
		}()
		name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"})
		listen := rapid.SampledFrom([]string{"1", "2", "1-3", "203.0.113.5:1", "127.0.0.1:2", "unix:/a", "udp/1"})
		any := rapid.Custom(func(rt *rapid.T) config.Spec {
			s := config.Spec{Listen: listen.Draw(rt, "listen"), To: config.Strings{rapid.SampledFrom([]string{"192.168.1.7:80", "app:80"}).Draw(rt, "to")}}
			if rapid.IntRange(0, 3).Draw(rt, "enabled") == 0 {
				s.Enabled = new(bool)
			}
			return s
		})
		file := func(rt *rapid.T) []*forward.Forward {
			var list []*forward.Forward
			for _, n := range rapid.SliceOfNDistinct(name, 0, 4, rapid.ID[string]).Draw(rt, "names") {
				list = append(list, spec(t, n, forward.OriginFile, any.Draw(rt, "spec")))
			}
			return list
		}
		allowed := func(err error) {
			var tie *forward.TieError
			var conflict *ConflictError
			var pending *PendingError
			if err != nil && !errors.As(err, &tie) && !errors.As(err, &conflict) && !errors.As(err, &pending) &&
				!errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNothingPending) {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				_, err := h.Put(ctx, spec(t, name.Draw(rt, "name"), forward.OriginAPI, any.Draw(rt, "spec")))
				allowed(err)
			},
			"delete": func(rt *rapid.T) { allowed(h.Delete(ctx, name.Draw(rt, "name"))) },
			"replace": func(rt *rapid.T) {
				_, err := h.ReplaceFile(ctx, &config.Config{Forwards: file(rt)})
				allowed(err)
			},
			"try out": func(rt *rapid.T) {
				_, err := h.ReplaceUntilConfirmed(ctx, &config.Config{Forwards: file(rt)}, time.Hour)
				allowed(err)
			},
			"leases": func(rt *rapid.T) {
				var put, drop []*forward.Forward
				for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"l1", "l2", "l3"}), 1, 3, rapid.ID[string]).Draw(rt, "leases") {
					put = append(put, aLease(t, n, rapid.SampledFrom([]string{"203.0.113.5:1", "203.0.113.5:2", "udp/203.0.113.5:1"}).Draw(rt, "listen")))
				}
				for _, f := range h.Forwards() {
					if f.Origin.IsLease() && rapid.Bool().Draw(rt, "drop") {
						drop = append(drop, f)
					}
				}
				b, err := h.Batch(ctx, put, drop)
				if err != nil {
					rt.Fatal(err)
				}
				errs, err := b.Wait(ctx)
				for _, err := range append(errs, err) {
					allowed(err)
				}
			},
			"confirm": func(*rapid.T) { allowed(h.Confirm(ctx)) },
			"roll back": func(*rapid.T) {
				h.rollback(ctx, time.Now().Add(2*time.Hour))
				h.settle(ctx)
			},
			"host": func(rt *rapid.T) {
				facts := router
				facts.Routes4 = rapid.Bool().Draw(rt, "routes")
				h.setFacts(facts)
				h.Table.look()
				h.settle(ctx)
			},
			"refuse": func(rt *rapid.T) {
				var err error
				if rapid.Bool().Draw(rt, "busy") {
					err = errBusy
				}
				h.relay.refuse(name.Draw(rt, "name"), err)
			},
			"": func(rt *rapid.T) { h.check(rt) },
		})
	})
}

// settle waits for a cycle.
func (h *house) settle(ctx context.Context) {
	h.Table.mu.Lock()
	c := h.joinLocked()
	h.Table.mu.Unlock()
	_ = h.await(ctx, c)
}

// checkLeases wants no lease to have a port that another forward names, and each that ends to be in the heap.
func (h *house) checkLeases(rt *rapid.T) {
	t := h.Table
	heaped, leases := 0, 0
	for _, e := range t.entriesLocked() {
		if heaped += min(e.place, 1); e.place > 0 && t.expiries[e.place-1] != e {
			rt.Fatalf("%s is not where it should be in the heap", e.f.Name)
		}
		if !e.f.Origin.IsLease() {
			continue
		}
		leases++
		for _, o := range t.entriesLocked() {
			l := o.f.Listen
			if !o.f.Origin.IsLease() && !o.f.Disabled && !l.IsUnix() && l.Networks&e.f.Listen.Networks != 0 &&
				(!l.Addr.IsValid() || l.Addr == e.f.Listen.Addr) && l.Ports.Contains(e.f.Listen.Ports.Ranges[0].First) {
				rt.Fatalf("lease %s has a port of %s", e.f.Name, o.f.Name)
			}
		}
	}
	inClaims := 0
	for _, ports := range t.claims.leases {
		inClaims += len(ports)
	}
	if heaped != len(t.expiries) || inClaims != leases {
		rt.Fatalf("%d in the heap of %d, %d of %d leases in the claims", heaped, len(t.expiries), inClaims, leases)
	}
}

func (h *house) check(rt *rapid.T) {
	t := h.Table
	unlock, err := t.lock(context.Background())
	if err != nil {
		rt.Fatal(err)
	}
	defer unlock()
	t.carrying.Lock()
	defer t.carrying.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()

	var inKernel, inRelay []string
	var claims claims
	carried := 0
	for i, e := range t.entriesLocked() {
		if i > 0 && t.entriesLocked()[i-1].f.Name >= e.f.Name || t.byName[e.f.Name] != e {
			rt.Fatalf("the entries are out of order at %s", e.f.Name)
		}
		if err := claims.add(e.f); err != nil {
			rt.Fatalf("two entries tie: %v", err)
		}
		if e.wanted() != e.sent {
			rt.Fatalf("%s: wanted is %v, sent is %v", e.f.Name, e.wanted(), e.sent)
		}
		if f := e.sent; f != nil && f.Carry == forward.CarryKernel {
			inKernel, carried = append(inKernel, f.Name), carried+1
		} else if f != nil {
			inRelay = append(inRelay, f.Name)
			if !f.Listen.IsUnix() {
				inKernel = append(inKernel, f.Name)
			}
		}
		if failed := t.failing[e]; failed != (e.state == forward.StateFailed && e.decision.Err == nil) {
			rt.Fatalf("%s is %v and failing is %v", e.f.Name, e.state, failed)
		}
	}
	h.checkLeases(rt)
	if len(t.byName) != len(t.entriesLocked()) || t.lists.carried != carried || len(t.touched) != 0 {
		rt.Fatalf("%d names, %d entries, %d carried of %d, %d touched", len(t.byName), len(t.entriesLocked()), t.lists.carried, carried, len(t.touched))
	}
	if k, r := names(t.lists.kernel.Slice()), names(t.lists.relay.Slice()); k != strings.Join(inKernel, " ") || r != strings.Join(inRelay, " ") {
		rt.Fatalf("lists are %q and %q, want %q and %q", k, r, strings.Join(inKernel, " "), strings.Join(inRelay, " "))
	}
	for k, s := range t.shelf { // what could come back has
		if t.byName[k.name] == nil && !s.broken && claims.add(s.f) == nil {
			rt.Fatalf("%s is set aside for nothing", k.name)
		}
	}
	// Every claim is one of an entry, and there is no other.
	for _, e := range t.entriesLocked() {
		t.claims.remove(e.f)
	}
	for i, l := range []string{"1-3", "203.0.113.5:1-3", "127.0.0.1:1-3", "udp/1-3"} {
		for j, port := range []string{"", "1", "2", "3"} {
			if at, err := forward.ParseListen(l); err == nil {
				if port != "" {
					n, _ := strconv.ParseUint(port, 10, 16)
					at.Ports.Ranges = []forward.Range{{First: uint16(n), Last: uint16(n)}}
				}
				probe := &forward.Forward{Name: fmt.Sprint(i, j), Listen: at}
				if err := t.claims.add(probe); err != nil {
					rt.Fatalf("a claim is left of what is gone: %v", err)
				}
				t.claims.remove(probe)
			}
		}
	}
	if len(t.claims.unix) > 0 {
		rt.Fatal("a socket is left of what is gone")
	}
	for _, e := range t.entriesLocked() {
		if err := t.claims.add(e.f); err != nil {
			rt.Fatal(err)
		}
	}
}
