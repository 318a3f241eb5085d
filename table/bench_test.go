package table

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
)

// sink is a Carrier that does nothing, as fast as it can be done.
type sink struct{}

func (sink) Apply(context.Context, forward.List) map[string]error { return nil }
func (sink) Stats() map[string]forward.Stats                      { return nil }

const many = 60_000

// manyForwards are what a large gateway has; every one could have companions.
func manyForwards(b testing.TB) []*forward.Forward {
	list := make([]*forward.Forward, many)
	for i := range list {
		list[i] = spec(b, fmt.Sprintf("f%05d", i), forward.OriginFile, config.Spec{
			Listen: fmt.Sprint(1 + i), To: config.Strings{fmt.Sprintf("192.168.%d.%d:80", i/256, i%256)},
		})
	}
	return list
}

// emptyTable is a table that runs until the end of the benchmark.
func emptyTable(b *testing.B) *Table {
	t := New(Options{Kernel: sink{}, Relay: sink{}, Facts: func() (kernel.Facts, error) { return router, nil }, Store: store.Memory()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- t.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-done
	})
	<-t.Ready()
	return t
}

func manyInTable(b *testing.B) *Table {
	t := emptyTable(b)
	if _, err := t.ReplaceFile(b.Context(), &config.Config{Forwards: manyForwards(b)}); err != nil {
		b.Fatal(err)
	}
	return t
}

// BenchmarkAddOneTo60000 is what one forward more costs in the table: one Put and one Delete, carriers and disk apart.
func BenchmarkAddOneTo60000(b *testing.B) {
	t := manyInTable(b)
	f := spec(b, "f3", forward.OriginCLI, config.Spec{Listen: "65000", To: config.Strings{"192.168.1.10:80"}})
	for b.Loop() {
		if _, err := t.Put(b.Context(), f); err != nil {
			b.Fatal(err)
		}
		if err := t.Delete(b.Context(), f.Name); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLease is one cycle for leases that come and go again, beside so many that stay; carriers and disk apart.
func BenchmarkLease(b *testing.B) {
	leases := func(first, n int) []*forward.Forward {
		list := make([]*forward.Forward, n)
		for i := range list {
			list[i] = spec(b, fmt.Sprintf("pcp-%05d", first+i), "lease:pcp", config.Spec{
				Listen: fmt.Sprintf("203.0.113.5:%d", first+i), To: config.Strings{fmt.Sprintf("192.168.1.10:%d", first+i)},
			})
			list[i].Expires = time.Now().Add(time.Hour)
		}
		return list
	}
	for _, beside := range []int{0, 20_000} {
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("beside=%d/batch=%d", beside, n), func(b *testing.B) {
				t := emptyTable(b)
				step := func(put, drop []*forward.Forward) {
					batch, err := t.Batch(b.Context(), put, drop)
					if err != nil {
						b.Fatal(err)
					}
					errs, err := batch.Wait(b.Context())
					if err = errors.Join(append(errs, err)...); err != nil {
						b.Fatal(err)
					}
				}
				step(leases(20_000, beside), nil)
				list := leases(1000, n)
				b.ReportAllocs()
				for b.Loop() {
					step(list, nil)
					step(nil, list)
				}
			})
		}
	}
}

// BenchmarkReplace60000 is an apply of a large file that differs in one line.
func BenchmarkReplace60000(b *testing.B) {
	t := manyInTable(b)
	list := manyForwards(b)
	other := spec(b, "f30000", forward.OriginFile, config.Spec{Listen: "30001", To: config.Strings{"192.168.9.9:80"}})
	for b.Loop() {
		list[30_000], other = other, list[30_000]
		c, err := t.ReplaceFile(b.Context(), &config.Config{Forwards: list})
		if err != nil || c.Kept < many-1 {
			b.Fatal(c, err)
		}
	}
}

func BenchmarkStart60000(b *testing.B) {
	list := manyForwards(b)
	for b.Loop() {
		t := New(Options{Kernel: sink{}, Relay: sink{}, Facts: func() (kernel.Facts, error) { return router, nil }, Store: store.Memory()})
		if _, err := t.ReplaceFile(b.Context(), &config.Config{Forwards: list}); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- t.Run(ctx) }()
		<-t.Ready()
		cancel()
		<-done
	}
}

func BenchmarkSnapshot60000(b *testing.B) {
	t := manyInTable(b)
	for b.Loop() {
		if got := t.Snapshot(); len(got) != many {
			b.Fatal(len(got))
		}
	}
}
