package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
)

// A kernelSetup is one way to translate addresses, on a gateway of its own.
type kernelSetup struct {
	name     string
	forwards int
	rules    func(*gateway, int) string // by hand; nil: fairlead
	program  string                     // else this fairlead
	gateway  *gateway
	daemon   *daemon // nil: rules by hand
	err      error   // why it could not be set up
}

// The baselines: one rule by hand. Clients who call many ports cost more than those who call one, whatever translates, so each row
// is held against the rule that is called as it is.
const (
	oneRule  = "one nft rule"
	wideRule = "one nft rule, 60,000 ports"
)

// baseline is the rule that s is held against.
func (s *kernelSetup) baseline() string {
	if s.forwards == 1 {
		return oneRule
	}
	return wideRule
}

// kernelCarrier measures what a forward costs each new connection, and how that grows with the number of forwards.
func (b *bench) kernelCarrier(ctx context.Context, h *harness) error {
	b = b.cut(20, 20)
	f := b.newField(h)
	setups := []*kernelSetup{{name: oneRule, forwards: 1, rules: nftRules}, {name: wideRule, forwards: 60_000, rules: nftRange}}
	for _, n := range []int{1, 10_000, 60_000} {
		if b.fairlead != "" {
			setups = append(setups, &kernelSetup{name: "fairlead, " + counted(n), forwards: n, program: b.fairlead})
		}
		if b.beside != "" {
			setups = append(setups, &kernelSetup{name: besideName + ", " + counted(n), forwards: n, program: b.beside})
		}
	}
	setups = append(setups,
		&kernelSetup{name: "one nft rule, again", forwards: 1, rules: nftRules},
		&kernelSetup{name: "one nft map, 60,000 entries", forwards: 60_000, rules: nftMap},
		&kernelSetup{name: "10,000 linear nft rules", forwards: 10_000, rules: nftRules})
	for _, s := range setups {
		s.gateway = f.gateway(h)
		if s.rules != nil {
			s.gateway.Nft(h, s.rules(s.gateway, s.forwards))
			continue
		}
		if s.daemon, s.err = b.upProgram(ctx, s.program, s.gateway.Node, kernelForwards(s.gateway, s.forwards)); s.err != nil {
			continue
		}
		h.Cleanup(func() { s.daemon.resume(); _ = s.daemon.Stop() })
		s.err = s.daemon.carried(ctx, s.forwards, "kernel")
		s.daemon.pause()
	}
	table := &Table{
		Section: "a", Title: "kernel: new connections", Unit: "/s", Against: []string{oneRule, wideRule},
		Notes: []string{
			fmt.Sprintf("the same 16 clients call one after the other for %.3g s each, %d times round; the ratios are medians of the rounds'",
				b.seconds, b.rounds),
			"the daemons are halted meanwhile: what they do every 10 s or less often takes at most a hundredth of one processor",
			"connect, 64 bytes there and back, reset; 16 clients, each calls another forward of those spread evenly over all",
			"a rule for one port is called at one, all others at 16: " + wideRule + ", is what calling more ports costs by itself",
			"one nft rule again, on a gateway of its own like each, shows how exact the ratios are",
			"a rule among 10,000 linear ones so stands in the middle of them on average",
		},
	}
	for _, s := range setups {
		if s.program != "" && s.program != b.beside {
			table.Targets = append(table.Targets, Target{Row: s.name, By: []string{s.baseline()}, Min: 0.95})
		}
	}
	return b.takeTurns(ctx, f, table, setups)
}

// takeTurns measures all setups at once: one stream of connections goes to each for a moment. The difference of a few percent
// that there may be is less than what a machine drifts by in seconds.
func (b *bench) takeTurns(ctx context.Context, f *field, t *Table, setups []*kernelSetup) error {
	b.report.Tables = append(b.report.Tables, t)
	for _, s := range setups {
		if s.err != nil {
			b.record(t, s.name, sample{}, s.err)
		}
	}
	setups = slices.DeleteFunc(slices.Clone(setups), func(s *kernelSetup) bool { return s.err != nil })
	spec := load.Spec{
		Kind: load.Connect, Workers: 16, Size: 64, Warm: settle, Turn: time.Duration(b.seconds * float64(time.Second)),
	}
	for _, s := range setups {
		spec.Groups = append(spec.Groups, spread16(s.gateway, s.forwards))
	}
	spec.Time = spec.Turn * time.Duration(b.rounds*len(setups))
	r, err := b.load(ctx, f.client, spec)
	if err != nil {
		return err
	}
	for i, s := range setups {
		g, row := r.Groups[i], t.row(s.name)
		for _, n := range g.Counts {
			row.Values = append(row.Values, float64(n)/b.seconds)
		}
		row.P99 = []float64{ms(g.P99)}
		row.Errors, row.Error = g.Errors, g.Error
	}
	return nil
}

// cut is b with more rounds, each a part as long: a difference of a few percent is less than what a machine drifts by in
// seconds, and many short slices by turns see the same drift.
func (b *bench) cut(more int, parts float64) *bench {
	short := *b
	short.rounds, short.seconds = b.rounds*more, b.seconds/parts
	return &short
}

func counted(n int) string {
	if n == 1 {
		return "1 forward"
	}
	return thousands(int64(n)) + " forwards"
}
