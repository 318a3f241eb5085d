package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/fairlead-net/fairlead/bench/load"
)

// TestMain lets the test program start itself inside a namespace, as the benchmark does.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 {
		if err, is := role(os.Args[1]); is {
			exit(err)
			return
		}
	}
	os.Exit(m.Run())
}

func newTestBench(t *testing.T) *bench {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := options{rounds: 1, seconds: 0.1}
	return &bench{options: o, self: self, dir: t.TempDir(), report: newReport(o)}
}

// Every kind of load comes through a rule by hand, and the relays' ports lead to the server's.
func TestLoad(t *testing.T) {
	b := newTestBench(t)
	f := b.newField(t)
	g := f.gateway(t)
	g.Nft(t, nftChain("", fmt.Sprintf("ip daddr %s meta l4proto { tcp, udp } th dport 9000-9006 dnat to %s\n", g.front, g.target)))
	for _, s := range []load.Spec{
		{Kind: load.Connect, Workers: 4, Size: 64, Targets: []string{g.front + ":9000"}},
		{Kind: load.Close, Workers: 4, Size: 64, Targets: []string{g.front + ":9002"}},
		{Kind: load.Request, Workers: 4, Size: 64, Targets: []string{g.front + ":9000", g.target + ":9000"}},
		{Kind: load.Bulk, Workers: 2, Size: 1 << 16, Targets: []string{g.front + ":9001"}},
		{Kind: load.Fetch, Workers: 2, Size: 1 << 16, Targets: []string{g.front + ":9006"}},
		{Kind: load.UDP, Workers: 2, Size: 200, InFlight: 4, Targets: []string{g.front + ":9004"}},
		{Kind: load.UDP, Workers: 200, Size: 200, InFlight: 1, Targets: []string{g.front + ":9004"}},
		{Kind: load.OneWay, Workers: 1, Size: 1400, InFlight: 64, Tally: f.tally, Targets: []string{g.front + ":9005"}},
		{Kind: load.OneWay, Workers: 3, Size: 100, InFlight: 8, Tally: f.tally, Targets: []string{g.front + ":9005"}},
	} {
		got, err := b.rate(t.Context(), f.client, s, 1)
		if err != nil || got.errors != 0 || got.value == 0 {
			t.Errorf("%s: %+v, %v", s.Kind, got, err)
		}
		if timed := slices.Contains([]load.Kind{load.Connect, load.Close, load.Request}, s.Kind); timed != (got.p99 > 0) {
			t.Errorf("%s: p99 is %v", s.Kind, got.p99)
		}
	}
	nobody := load.Spec{Kind: load.Connect, Workers: 1, Size: 64, Targets: []string{g.front + ":1"}}
	if _, err := b.rate(t.Context(), f.client, nobody, 1); err == nil {
		t.Error("a port without a server has a rate")
	}
	if _, err := b.growth(t.Context(), f, os.Getpid(), held, g.front+":9003"); err != nil {
		t.Errorf("hold: %v", err)
	}
}

func TestGeneration(t *testing.T) {
	b := newTestBench(t)
	f := b.newField(t)
	g := f.gateway(t)
	g.Nft(t, nftMap(g, 100))
	before, err := generation(g.Node)
	if err != nil {
		t.Fatal(err)
	}
	g.Run(t, "nft", "add", "element", "ip", "bench", "to", "{ 1 : 192.0.2.1 . 1 }")
	if after, err := generation(g.Node); err != nil || after != before+1 {
		t.Errorf("generation %d, then %d, %v", before, after, err)
	}
	if err := b.works(t.Context(), f, fmt.Sprintf("%s:%d", g.front, firstPort+99)); err != nil {
		t.Error(err)
	}
}

// A failure inside a scope becomes its error, and the cleanups run, the last first.
func TestScope(t *testing.T) {
	var order []int
	err := scope(func(h *harness) error {
		h.Cleanup(func() { order = append(order, 1) })
		h.Cleanup(func() { order = append(order, 2) })
		h.Fatalf("no %s", "luck")
		return nil
	})
	if err == nil || err.Error() != "no luck" || fmt.Sprint(order) != "[2 1]" {
		t.Errorf("got %v, cleanups %v", err, order)
	}
	want := errors.New("returned")
	if err := scope(func(*harness) error { return want }); err != want {
		t.Errorf("got %v", err)
	}
}

func TestStartSpec(t *testing.T) {
	s := startSpec{Command: []string{"false"}, Address: "127.0.0.1:1", Times: 1}
	if _, err := s.once(); err == nil {
		t.Error("a program that ends was taken for one that listens")
	}
}
