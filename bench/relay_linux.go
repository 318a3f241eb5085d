package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
)

// A stand is one relay as the measurements see it.
type stand struct {
	relay
	running *runningRelay
	err     error // why it does not run
}

const direct = "direct (routed)"

// A workload is what is asked of every relay that can do it, and its table.
type workload struct {
	table *Table
	port  int     // of the server
	scale float64 // from operations a second to the table's unit
	spec  load.Spec
	costs *costs // nil: not measured with it
}

// costs are the tables of what a gigabyte costs.
type costs struct{ relay, machine *Table }

// relays measures the user-space carrier beside programs that do the same.
func (b *bench) relays(ctx context.Context, h *harness) error {
	f := b.newField(h)
	g := f.gateway(h)
	var stands []*stand
	for _, r := range b.allRelays() {
		s := &stand{relay: r}
		if s.running, s.err = r.start(ctx, b, g, r.base, relayed); s.err == nil {
			h.Cleanup(s.running.stop)
		}
		stands = append(stands, s)
	}
	short := b.cut(4, 8)
	short.seconds = max(short.seconds, 0.1)
	for _, w := range workloads(f) {
		if !strings.Contains(w.table.Title, b.titles) {
			continue
		}
		w.table.Notes = append(w.table.Notes, fmt.Sprintf("%d slices of %.3g s each, by turns", short.rounds, short.seconds))
		short.work(ctx, f, g, stands, w)
	}
	if b.titles == "" {
		b.idle(ctx, f, g)
	}
	return nil
}

// work measures one workload.
func (b *bench) work(ctx context.Context, f *field, g *gateway, stands []*stand, w workload) {
	contestants := []contestant{{direct, func(ctx context.Context) (sample, error) {
		return b.slice(ctx, f, w, fmt.Sprintf("%s:%d", g.target, w.port), nil)
	}}}
	for _, s := range stands {
		if !s.carries(w.spec.Kind) {
			continue
		}
		contestants = append(contestants, contestant{s.name, func(ctx context.Context) (sample, error) {
			if s.err != nil {
				return sample{}, s.err
			}
			return b.slice(ctx, f, w, fmt.Sprintf("%s:%d", g.front, s.base+w.port-load.BasePort), s.running)
		}})
	}
	b.compare(ctx, w.table, contestants)
	if w.costs != nil {
		b.report.Tables = append(b.report.Tables, w.costs.relay, w.costs.machine)
	}
}

// slice is one sample of a workload; r is nil when no relay is in between.
func (b *bench) slice(ctx context.Context, f *field, w workload, target string, r *runningRelay) (sample, error) {
	w.spec.Targets = []string{target}
	if w.costs == nil {
		return b.rate(ctx, f.client, w.spec, w.scale)
	}
	s := sample{aside: map[*Table]float64{w.costs.machine: 0}}
	if r != nil {
		s.aside[w.costs.relay] = 0
	}
	before, err := r.cpu()
	if err != nil {
		return s, err
	}
	got, err := b.timed(ctx, f.client, w.spec)
	if err != nil {
		return s, err
	}
	after, err := r.cpu()
	if err != nil {
		return s, err
	}
	s.value, s.errors, s.err = got.Rate()*w.scale, got.Errors, got.Error
	gigabytes := float64(got.All) / 1e9
	s.aside[w.costs.machine] = (after.machine - before.machine) / gigabytes
	if r != nil {
		s.aside[w.costs.relay] = (after.relay - before.relay) / gigabytes
	}
	return s, nil
}

// spent is processor time in seconds.
type spent struct{ relay, machine float64 }

// cpu is what all processes of the relay and the whole machine have spent up to now. The relay may be nil.
func (r *runningRelay) cpu() (s spent, err error) {
	if r != nil {
		if s.relay, err = sumTree(r.process.Pid(), cpuTime); err != nil {
			return s, err
		}
	}
	s.machine, err = busyTime()
	return s, err
}

// workloads are those of the table.
func workloads(f *field) []workload {
	var list []workload
	for _, n := range []int{1, 16} {
		list = append(list, workload{
			table: bulkTable(n),
			port:  load.SinkPort, scale: 8e-9, spec: load.Spec{Kind: load.Bulk, Workers: n, Size: 128 << 10},
			costs: bulkCosts(n),
		})
	}
	for _, end := range []struct {
		kind load.Kind
		port int
		how  string
	}{{load.Connect, load.EchoPort, "reset"}, {load.Close, load.ClosePort, "close"}} {
		t := relayTable("new connections, 16 at a time, "+end.how, "/s", 1.15)
		t.Notes = append(t.Notes, "connect, 64 bytes there and back, "+end.how+" by the client")
		list = append(list, workload{
			table: t, port: end.port, scale: 1, spec: load.Spec{Kind: end.kind, Workers: 16, Size: 64},
		})
	}
	for _, n := range []int{16, 256} {
		t := relayTable(fmt.Sprintf("request-response, 64 B × %d", n), "/s", 1.1)
		t.Targets = append(t.Targets, Target{Row: "fairlead", By: peers, Of: ofP99, Max: 1})
		list = append(list, workload{
			table: t, port: load.EchoPort, scale: 1, spec: load.Spec{Kind: load.Request, Workers: n, Size: 64},
		})
	}
	for _, n := range []struct{ flows, each int }{{16, 4}, {1000, 1}} {
		list = append(list, workload{
			table: datagramTable(fmt.Sprintf("UDP echo, 200 B, %s flows × %d", thousands(int64(n.flows)), n.each), 2),
			port:  load.UDPPort, scale: 1, spec: load.Spec{Kind: load.UDP, Workers: n.flows, Size: 200, InFlight: n.each},
		})
	}
	for _, n := range []struct{ flows, each int }{{1, 128}, {16, 16}} {
		t := datagramTable("UDP bulk one way, 1,400 B, "+map[bool]string{true: "1 flow", false: "16 flows"}[n.flows == 1], 3)
		t.Notes = append(t.Notes, fmt.Sprintf("datagrams that arrive; the sender keeps %d on their way", n.flows*n.each))
		list = append(list, workload{
			table: t, port: load.CountPort, scale: 1,
			spec: load.Spec{Kind: load.OneWay, Workers: n.flows, Size: 1400, InFlight: n.each, Tally: f.tally},
		})
	}
	return list
}

// relayTable is a table of rates in which fairlead has to be some times as fast as the better of the others.
func relayTable(title, unit string, times float64) *Table {
	return &Table{
		Section: "c", Title: "relay: " + title, Unit: unit, Against: peers,
		Targets: []Target{{Row: "fairlead", By: peers, Min: times}},
	}
}

// datagramTable is a relayTable for what nginx alone can do beside us; and what nginx does not lose, nobody may.
func datagramTable(title string, times float64) *Table {
	nginx := peers[:1]
	t := relayTable(title, "/s", times)
	t.Against, t.Notes = nginx, []string{"haproxy does not carry UDP; nginx with multi_accept and receive buffers of 4 MB; errors are datagrams that were lost"}
	t.Targets = []Target{{Row: "fairlead", By: nginx, Min: times}, {Row: "fairlead", By: nginx, Of: ofErrors}}
	return t
}

func bulkTable(n int) *Table {
	t := relayTable("TCP bulk, "+streams(n), "Gb/s", 1.15)
	t.Notes = []string{"nginx with buffers of 128 kB, 1.5 times as fast here as with its own 16 kB"}
	return t
}

// bulkCosts are the tables for what is measured along with a bulk workload.
func bulkCosts(n int) *costs {
	table := func(title string, notes ...string) *Table {
		return &Table{
			Section: "c", Title: "relay: " + title + ", " + streams(n), Unit: "s/GB", Lower: true, Against: peers,
			Notes: notes, Targets: []Target{{Row: "fairlead", By: peers, Max: 1}},
		}
	}
	return &costs{
		relay: table("CPU of the relay", "user and system time of all its processes for each GB carried, during the bulk measurement"),
		machine: table("CPU of the machine", "all that the processors did meanwhile: client, server and the kernel's interrupts too, "+
			"which no process is charged for"),
	}
}

func streams(n int) string {
	if n == 1 {
		return "1 stream"
	}
	return fmt.Sprintf("%d streams", n)
}

// carries reports whether the relay takes part in such a workload.
func (r relay) carries(k load.Kind) bool { return r.kinds == nil || slices.Contains(r.kinds, k) }

// pause lets time pass, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
