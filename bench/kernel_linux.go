package main

import (
	"context"
	"fmt"

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

const oneRule = "one nft rule"

// kernelCarrier measures what a forward costs each new connection, and how that grows with the number of forwards.
func (b *bench) kernelCarrier(ctx context.Context, h *harness) error {
	b = b.cut(4, 4)
	f := b.newField(h)
	setups := []*kernelSetup{{name: oneRule, forwards: 1, rules: nftRules}}
	for _, n := range []int{1, 10_000, 60_000} {
		if b.fairlead != "" {
			setups = append(setups, &kernelSetup{name: "fairlead, " + counted(n), forwards: n, program: b.fairlead})
		}
		if b.beside != "" {
			setups = append(setups, &kernelSetup{name: besideName + ", " + counted(n), forwards: n, program: b.beside})
		}
	}
	setups = append(setups,
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
		Section: "a", Title: "kernel: new connections", Unit: "/s", Against: []string{oneRule},
		Notes: []string{
			fmt.Sprintf("each is measured %d times for %.3g s beside the one rule, by turns before and after it; the ratio is the median "+
				"of those pairs'", b.rounds, b.seconds),
			"connect, 64 bytes there and back, reset; 16 clients, each calls another forward of those spread evenly over all",
			"a rule among 10,000 linear ones so stands in the middle of them on average",
		},
	}
	for _, s := range setups {
		if s.program != "" && s.program != b.beside {
			table.Targets = append(table.Targets, Target{Row: s.name, By: []string{oneRule}, Min: 0.95})
		}
	}
	var contestants []contestant
	for _, s := range setups {
		contestants = append(contestants, contestant{s.name, func(ctx context.Context) (sample, error) {
			return b.connections(ctx, f, setups, s)
		}})
	}
	b.compareWith(ctx, table, contestants[0], contestants[1:])
	return nil
}

// cut is b with more rounds, each a part as long: a difference of a few percent is less than what a machine drifts by in
// seconds, and many short slices by turns see the same drift.
func (b *bench) cut(more int, parts float64) *bench {
	short := *b
	short.rounds, short.seconds = b.rounds*more, b.seconds/parts
	return &short
}

// connections measures one setup while the daemons of the others are halted. Everybody's connections of before are forgotten
// first, because all network namespaces share the kernel's table of them: it is to be as empty for each. What a daemon does
// every few seconds (saving counters) is due at once after a halt, which is not what happens in life; so there is a moment's
// rest for each.
func (b *bench) connections(ctx context.Context, f *field, all []*kernelSetup, s *kernelSetup) (sample, error) {
	if s.err != nil {
		return sample{}, s.err
	}
	for _, other := range all {
		if err := other.gateway.FlushConntrack(); err != nil {
			return sample{}, fmt.Errorf("flush conntrack: %w", err)
		}
	}
	if s.daemon != nil {
		s.daemon.resume()
		defer s.daemon.pause()
	}
	if err := pause(ctx, settle/2); err != nil {
		return sample{}, err
	}
	return b.rate(ctx, f.client, load.Spec{
		Kind: load.Connect, Targets: spread16(s.gateway, s.forwards), Workers: 16, Size: 64,
	}, 1)
}

func counted(n int) string {
	if n == 1 {
		return "1 forward"
	}
	return thousands(int64(n)) + " forwards"
}
