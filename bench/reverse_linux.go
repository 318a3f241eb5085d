package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A reverse is a program for reverse tunnels: a hub on the gateway, and an agent on the server host that calls it, so that ports of
// the gateway lead to the server.
type reverse struct {
	name  string
	needs []string // programs that have to be there
	udp   bool
	start startReverse
	base  int // where its ports begin

	program, transport string // of fairlead

	// What runs, by the line between agent and hub.
	near, far  *runningRelay
	nErr, fErr error
}

// startReverse starts both ends: front ports from base on lead to the server's in the same order, and the hub's own is at base+hubPort. Of
// what it returns the process is the hub's.
type startReverse func(ctx context.Context, b *bench, s *reverseField, base int) (*runningRelay, error)

const (
	hubPort      = 40 // from a reverse tunnel's first port
	freshPorts   = 50 // to those of one that is started anew
	reverseBase  = 7100
	reverseEach  = 100
	mostReverses = 12   // that there can be, with every transport of two programs
	sshHeld      = 1000 // idle streams of ssh whose memory is measured: it takes minutes to open as many as of the others
)

// The rows of section g.
const (
	frpName     = "frp"
	chiselName  = "chisel"
	opensshName = "openssh"
)

var reversePeers = []string{frpName, chiselName, opensshName}

// reversed are the server's ports of TCP and of UDP that reverse tunnels lead to.
var (
	reversed    = []int{load.EchoPort, load.SinkPort, load.ClosePort, load.HoldPort, load.FetchPort}
	reversedUDP = []int{load.UDPPort, load.CountPort}
)

// A reverseField is what reverse tunnels are made in.
type reverseField struct {
	*field
	g    *gateway
	keys sshKeys
	line *netlab.Line // between the hub and the agent; nil: a plain wire
}

// at is where a tunnel has a port of the server's.
func (s *reverseField) at(base, port int) string { return hostPort(s.g.front, base+port-load.BasePort) }

// hub is where the hub is called.
func (s *reverseField) hub(base int) string { return hostPort(s.g.back, base+hubPort) }

// hubs are all places where one may be called.
func (s *reverseField) hubs() (all []string) {
	for i := range mostReverses {
		base := reverseBase + i*reverseEach
		all = append(all, s.hub(base), s.hub(base+freshPorts))
	}
	return all
}

// reverses measures reverse tunnels.
func (b *bench) reverses(ctx context.Context, h *harness) error {
	all, notes := b.allReverses(ctx)
	f := b.newField(h)
	near := &reverseField{field: f, g: f.gateway(h)}
	far := &reverseField{field: f}
	far.g, far.line = f.farGateway(h)
	near.cubic(h)
	far.cubic(h)
	if slices.ContainsFunc(all, func(r *reverse) bool { return r.name == opensshName }) {
		keys, err := b.keysFor(ctx, near.g.Node, slices.Concat(near.hubs(), far.hubs()))
		if err != nil {
			return err
		}
		near.keys, far.keys = keys, keys
	}
	for i, r := range all {
		r.base = reverseBase + i*reverseEach
		r.near, r.nErr = b.startReverse(ctx, h, near, r, r.base)
		r.far, r.fErr = b.startReverse(ctx, h, far, r, r.base)
	}
	for _, measure := range []func(context.Context, *reverseField, []*reverse, []string){
		b.reverseRates, b.reverseBeside, b.reverseDatagrams, b.reverseMemory, b.manyAgents,
	} {
		measure(ctx, near, all, notes)
	}
	for _, measure := range []func(context.Context, *reverseField, []*reverse, []string){b.reverseLossy, b.reverseBack} {
		measure(ctx, far, all, notes)
	}
	return nil
}

// cubic has TCP between hub and agent do what it does on most systems, whatever this one is set to: BBR takes no notice of a packet in
// a hundred that is lost. A namespace may not choose for all its connections, but its routes may.
func (s *reverseField) cubic(h netlab.TB) {
	for _, end := range []struct {
		node *netlab.Node
		addr string
	}{{s.g.Node, s.g.back}, {s.server, s.g.target}} {
		network := netip.PrefixFrom(netip.MustParseAddr(end.addr), 24).Masked().String()
		route := strings.Fields(end.node.Run(h, "ip", "-4", "route", "show", network, "src", end.addr))
		if len(route) == 0 {
			h.Fatalf("on %s: there is no route to %s", end.node, network)
		}
		end.node.Run(h, "ip", slices.Concat([]string{"-4", "route", "change"}, route, []string{"congctl", "cubic"})...)
	}
}

// startReverse starts both ends and waits until they carry.
func (b *bench) startReverse(ctx context.Context, h *harness, s *reverseField, r *reverse, base int) (*runningRelay, error) {
	running, err := r.start(ctx, b, s, base)
	if err != nil {
		return nil, err
	}
	if err := b.comesUp(ctx, s.field, running, s.at(base, load.EchoPort)); err != nil {
		running.stop()
		return nil, err
	}
	if h != nil {
		h.Cleanup(running.stop)
	}
	return running, nil
}

// reverseTable is a table in which fairlead is to be some times as good as the best of the others.
func reverseTable(title, unit string, notes []string, targets ...Target) *Table {
	return &Table{Section: "g", Title: "reverse: " + title, Unit: unit, Against: reversePeers, Notes: slices.Clone(notes), Targets: targets}
}

func atLeast(times float64, by ...string) Target { return Target{Row: "fairlead", By: by, Min: times} }

// wanted reports whether a table was asked for.
func (b *bench) wanted(t *Table) bool { return strings.Contains(t.Title, b.titles) }

// reverseRates measures what the tables of -R do, and more streams.
func (b *bench) reverseRates(ctx context.Context, s *reverseField, all []*reverse, notes []string) {
	short := b.calls()
	const bits = 8e-9 // in Gb a byte
	bulk := load.Spec{Kind: load.Bulk, Size: 128 << 10}
	fetch := load.Spec{Kind: load.Fetch, Size: 128 << 10}
	for _, w := range []struct {
		title, unit string
		port        int
		scale       float64
		spec        load.Spec
		workers     int
		times       float64
	}{
		{"bulk up, 1 stream", "Gb/s", load.SinkPort, bits, bulk, 1, 1.5},
		{"bulk down, 1 stream", "Gb/s", load.FetchPort, bits, fetch, 1, 1.5},
		{"bulk up, 16 streams", "Gb/s", load.SinkPort, bits, bulk, 16, 2},
		{"bulk down, 16 streams", "Gb/s", load.FetchPort, bits, fetch, 16, 2},
		{"new connections, 16 at a time", "/s", load.ClosePort, 1, load.Spec{Kind: load.Close, Size: 64}, 16, 1.5},
		{"request-response, 64 B × 16", "/s", load.EchoPort, 1, load.Spec{Kind: load.Request, Size: 64}, 16, 1.3},
	} {
		t := reverseTable(w.title, w.unit, notes, atLeast(w.times, reversePeers...))
		if w.spec.Kind == load.Request {
			t.Targets = append(t.Targets, Target{Row: "fairlead", By: reversePeers, Of: ofP99, Max: 1})
		}
		if !b.wanted(t) {
			continue
		}
		t.Notes = append(t.Notes, fmt.Sprintf("%d slices of %.3g s each, by turns", short.rounds, short.seconds))
		w.spec.Workers = w.workers
		var contestants []contestant
		for _, r := range all {
			work := workload{table: t, port: w.port, scale: w.scale, spec: w.spec}
			contestants = append(contestants, short.caller(r.name, work, call{from: s.client, to: s.at(r.base, w.port)}, r.nErr))
		}
		short.compare(ctx, t, contestants)
	}
}

// reverseBeside measures how long small requests take while four streams are full.
func (b *bench) reverseBeside(ctx context.Context, s *reverseField, all []*reverse, notes []string) {
	t := reverseTable("p99 of 64 B × 4 beside 4 bulk streams down", "ms", notes, Target{Row: "fairlead", By: []string{frpName}, Max: 0.2})
	t.Lower = true
	rest := reverseTable("bulk down meanwhile, 4 streams", "Gb/s", nil)
	if !b.wanted(t) {
		return
	}
	var contestants []contestant
	for _, r := range all {
		contestants = append(contestants, contestant{r.name, func(ctx context.Context) (sample, error) {
			out := sample{aside: map[*Table]float64{rest: 0}}
			if r.nErr != nil {
				return out, r.nErr
			}
			bulk := load.Spec{Kind: load.Fetch, Workers: 4, Size: 128 << 10, Targets: []string{s.at(r.base, load.FetchPort)}}
			var full load.Result
			ended := make(chan error, 1)
			go func() {
				var err error
				full, err = b.timed(ctx, s.client, bulk)
				ended <- err
			}()
			small, err := b.timed(ctx, s.client, load.Spec{Kind: load.Request, Workers: 4, Size: 64, Targets: []string{s.at(r.base, load.EchoPort)}})
			if failed := <-ended; err == nil {
				err = failed
			}
			out.value, out.errors, out.err = ms(small.P99), small.Errors, small.Error
			out.aside[rest] = full.Rate() * 8e-9
			return out, err
		}})
	}
	b.compare(ctx, t, contestants)
	b.report.Tables = append(b.report.Tables, rest)
}

// reverseDatagrams measures UDP.
func (b *bench) reverseDatagrams(ctx context.Context, s *reverseField, all []*reverse, notes []string) {
	short := b.calls()
	for _, w := range []struct {
		title string
		port  int
		spec  load.Spec
	}{
		{"UDP echo, 200 B, 16 flows × 4", load.UDPPort, load.Spec{Kind: load.UDP, Workers: 16, Size: 200, InFlight: 4}},
		{"UDP one way, 1,200 B, 1 flow", load.CountPort, load.Spec{Kind: load.OneWay, Workers: 1, Size: 1200, InFlight: 64, Tally: s.tally}},
	} {
		t := reverseTable(w.title, "/s", notes, atLeast(5, frpName))
		t.Against = reversePeers[:2]
		t.Notes = append(t.Notes, "datagrams that arrive; errors are those that were lost; ssh does not carry UDP",
			fmt.Sprintf("%d slices of %.3g s each, by turns", short.rounds, short.seconds))
		if !b.wanted(t) {
			continue
		}
		var contestants []contestant
		for _, r := range all {
			if r.udp {
				work := workload{table: t, port: w.port, scale: 1, spec: w.spec}
				contestants = append(contestants, short.caller(r.name, work, call{from: s.client, to: s.at(r.base, w.port)}, r.nErr))
			}
		}
		short.compare(ctx, t, contestants)
	}
}

// reverseMemory measures what an idle stream takes at the hub, with programs that were started for that.
func (b *bench) reverseMemory(ctx context.Context, s *reverseField, all []*reverse, notes []string) {
	t := reverseTable("memory of the hub per idle stream", "kB", notes, Target{Row: "fairlead", Max: 4})
	t.Lower = true
	t.Notes = append(t.Notes, fmt.Sprintf("what the resident memory of the hub grows by with %s connections that were used once, of ssh %s, by their number", thousands(held), thousands(sshHeld)))
	rest := reverseTable("resident memory of the hub, one agent, idle", "MB", nil)
	rest.Lower = true
	if !b.wanted(t) {
		return
	}
	few := b.cut(1, 1)
	few.rounds = min(b.rounds, 3) // it varies little and takes long
	var contestants []contestant
	for _, r := range all {
		contestants = append(contestants, contestant{r.name, func(ctx context.Context) (sample, error) {
			out := sample{aside: map[*Table]float64{rest: 0}}
			if r.nErr != nil {
				return out, r.nErr
			}
			running, err := b.startReverse(ctx, nil, s, r, r.base+freshPorts)
			if err != nil {
				return out, err
			}
			defer running.stop()
			if err := pause(ctx, settle/2); err != nil {
				return out, err
			}
			before, err := holds(running.process.Pid())
			if err != nil {
				return out, err
			}
			out.aside[rest] = before.kilobytes / 1000
			count := held
			if r.name == opensshName {
				count = sshHeld
			}
			grown, err := b.growth(ctx, s.field, running.process.Pid(), count, s.at(r.base+freshPorts, load.HoldPort))
			out.value = grown.kilobytes / float64(count)
			return out, err
		}})
	}
	few.compare(ctx, t, contestants)
	b.report.Tables = append(b.report.Tables, rest)
}

// peer is a program beside which we are measured: in the directory that FAIRLEAD_BENCH_PEERS names, where "make peers" builds, or
// installed. "" is none.
func (b *bench) peer(name string) string {
	for _, dir := range []string{os.Getenv("FAIRLEAD_BENCH_PEERS"), b.peers} {
		if file := filepath.Join(dir, name); dir != "" && executable(file) {
			return file
		}
	}
	if absent(name) != "" {
		return ""
	}
	return name
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// allReverses are those that are there, and a note about those that are not.
func (b *bench) allReverses(ctx context.Context) (present []*reverse, notes []string) {
	all := []*reverse{
		{name: frpName, needs: []string{"frps", "frpc"}, udp: true, start: startFRP},
		{name: chiselName, needs: []string{"chisel"}, udp: true, start: startChisel},
		{name: opensshName, needs: []string{"ssh", "sshd", "ssh-keygen"}, start: startRemote},
	}
	notes = []string{"frp with TLS and tcpMux as it comes, chisel, and ssh -R with " + theCipher + "; the hub on a gateway, the agent beside the server; TCP between them with CUBIC, as most systems have it"}
	for _, r := range all {
		missing := slices.IndexFunc(r.needs, func(name string) bool { return b.peer(name) == "" })
		if missing >= 0 {
			line := fmt.Sprintf("no %s: %s is not installed, see \"make peers\"", r.name, r.needs[missing])
			fmt.Fprintln(os.Stderr, "  "+line)
			notes = append(notes, line)
			continue
		}
		if r.name != opensshName {
			b.report.Versions[r.name] = firstLine(b.peer(r.needs[0]), "--version")
		}
		present = append(present, r)
	}
	for _, own := range []struct{ name, program string }{{"fairlead", b.fairlead}, {besideName, b.beside}} {
		if own.program == "" {
			continue
		}
		if firstLine(own.program, "hub", "--help") == "" {
			fmt.Fprintf(os.Stderr, "  no %s: it has no hub\n", own.name)
			continue
		}
		present = append(present, &reverse{name: own.name, udp: true, start: startHub(own.program, ""), program: own.program})
		for transport := range strings.SplitSeq(b.transports, ",") {
			if transport != "" {
				one := &reverse{name: own.name + ", " + transport, udp: true, program: own.program, transport: transport}
				one.start = startHub(own.program, transport)
				present = append(present, one)
			}
		}
	}
	return present, notes
}
