package grant

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// sink is a carrier that does nothing, as fast as it can be done.
type sink struct{}

func (sink) Apply(context.Context, forward.List) map[string]error { return nil }
func (sink) Stats() map[string]forward.Stats                      { return nil }

// benchDesk is a desk with many leases already, of many hosts.
func benchDesk(b *testing.B, carrier table.Carrier, s store.Store, probe func() (kernel.Facts, error), many int) *Desk {
	book := NewBook()
	t := table.New(table.Options{Kernel: carrier, Relay: sink{}, Facts: probe, Store: s, Lease: book.Note})
	d := New(Options{
		Book: book, Table: t, Store: s,
		Outside: func() (Outside, <-chan struct{}) { return Outside{Addr: wan}, nil },
	})
	d.Configure(&portmap.Spec{MaxLeases: 60_000, MaxClient: 60_000})
	ctx, cancel := context.WithCancel(context.Background())
	counting, counted := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- t.Run(counting) }()
	go func() {
		defer counted()
		done <- d.Run(ctx)
	}()
	b.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				b.Error(err)
			}
		}
	})
	for first := 0; first < many; first += 1000 {
		mapAll(b, d, forward.TCP, first, 1000)
	}
	return d
}

// benchRequests are mappings of hosts with 100 each.
func benchRequests(network forward.Networks, first, n int) []portmap.Request {
	list := make([]portmap.Request, n)
	for i := range list {
		k := first + i
		host := netip.AddrFrom4([4]byte{192, 168, byte(k / 100 / 250), byte(k/100%250 + 2)})
		list[i] = portmap.Request{
			Protocol: portmap.PCP, Client: host, Lifetime: time.Hour, External: uint16(1024 + k),
			Key: portmap.Key{Network: network, Internal: netip.AddrPortFrom(host, uint16(10000+k%100))},
		}
	}
	return list
}

func mapAll(b *testing.B, d *Desk, network forward.Networks, first, n int) {
	b.Helper()
	for _, r := range d.Map(b.Context(), benchRequests(network, first, n)) {
		if r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}

func fakeHost() (kernel.Facts, error) { return facts, nil }

// BenchmarkMap is what granting costs beside so many leases, carrier and disk apart: new leases, and the same ones again.
func BenchmarkMap(b *testing.B) {
	for _, many := range []int{0, 20_000} {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("new/beside=%d/batch=%d", many, batch), func(b *testing.B) {
				benchNew(b, benchDesk(b, sink{}, store.Memory(), fakeHost, many), batch)
			})
			b.Run(fmt.Sprintf("renew/beside=%d/batch=%d", many, batch), func(b *testing.B) {
				benchRenew(b, benchDesk(b, sink{}, store.Memory(), fakeHost, many), batch)
			})
		}
	}
}

// benchNew maps leases that are not there, and takes them away without counting that.
func benchNew(b *testing.B, d *Desk, batch int) {
	next, used := 0, processorTime()
	for b.Loop() {
		mapAll(b, d, forward.UDP, next, batch)
		if next += batch; next >= 30_000 {
			b.StopTimer()
			d.Configure(&portmap.Spec{Deny: rules(b, "* udp/*"), MaxLeases: 60_000, MaxClient: 60_000})
			for len(d.Book.list(netip.Addr{})) >= 30_000 {
				time.Sleep(10 * time.Millisecond)
			}
			d.Configure(&portmap.Spec{MaxLeases: 60_000, MaxClient: 60_000})
			next = 0
			b.StartTimer()
		}
	}
	benchReport(b, batch, used)
}

func benchRenew(b *testing.B, d *Desk, batch int) {
	mapAll(b, d, forward.UDP, 0, batch)
	used := processorTime()
	for b.Loop() {
		mapAll(b, d, forward.UDP, 0, batch)
	}
	benchReport(b, batch, used)
}

// benchReport says what a lease costs, in processor time as well: that is the same on a machine that is busy.
func benchReport(b *testing.B, batch int, used time.Duration) {
	leases := float64(batch) * float64(b.N)
	b.ReportMetric(leases/b.Elapsed().Seconds(), "leases/s")
	b.ReportMetric(float64(processorTime()-used)/float64(b.N)/1e6, "cpu-ms/op")
}

// processorTime is what this process has used, the kernel on its behalf included.
func processorTime() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
