package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
)

const (
	many     = 60_000
	addPort  = 1900 // of the forward that is added: one that no other has
	addTimes = 20   // in each round; the round's value is the median
)

// changeTables are what is measured of one start: bringing many forwards up, adding one, taking them away.
type changeTables struct{ cold, add, transactions, down *Table }

// A change is a start with what follows, in a fresh namespace. rows are what it measures; run calls set for each.
type change struct {
	rows map[*Table][]string
	run  func(ctx context.Context, g *gateway, set func(t *Table, row string, value float64)) error
}

func newChangeTables() changeTables {
	return changeTables{
		cold: &Table{
			Section: "b", Title: "cold apply", Unit: "ms", Lower: true,
			Notes: []string{
				"from the start of the process until READY=1 (fairlead) or its end (nft -f), in a fresh namespace each time",
				"what 1 forward takes is the start of the process and of its state",
			},
			Targets: []Target{{Row: "fairlead up, 60,000 forwards", Max: 2000}},
		},
		add: &Table{
			Section: "b", Title: "add one to 60,000", Unit: "ms", Lower: true,
			Notes: []string{
				fmt.Sprintf("the median of %d in each round; PUT is a request to the control socket over a connection kept open", addTimes),
			},
			Targets: []Target{{Row: "fairlead, PUT", Max: 10}},
		},
		transactions: &Table{
			Section: "b", Title: "nf_tables transactions", Unit: "each", Lower: true,
			Targets: []Target{{Row: "fairlead, PUT", Max: 1}},
		},
		down: &Table{Section: "b", Title: "take 60,000 away", Unit: "ms", Lower: true},
	}
}

// changes measures what it takes to change the set of forwards.
func (b *bench) changes(ctx context.Context, h *harness) error {
	f, t := b.newField(h), newChangeTables()
	b.report.Tables = append(b.report.Tables, t.cold, t.add)
	if b.fairlead != "" {
		b.report.Tables = append(b.report.Tables, t.transactions, t.down)
	}
	all := []change{
		{
			map[*Table][]string{t.cold: {"nft -f, a map of 60,000"}, t.add: {"nft add element (process)"}},
			func(ctx context.Context, g *gateway, set func(*Table, string, float64)) error {
				return b.changeMap(ctx, g, t, set)
			},
		},
		{
			map[*Table][]string{t.cold: {"fairlead up, 1 forward"}},
			func(ctx context.Context, g *gateway, set func(*Table, string, float64)) error {
				d, err := b.up(ctx, g.Node, kernelForwards(g, 1))
				if err != nil {
					return err
				}
				set(t.cold, "fairlead up, 1 forward", ms(d.ready))
				_, err = d.down(ctx)
				return err
			},
		},
		{
			map[*Table][]string{
				t.cold: {"fairlead up, 60,000 forwards"}, t.add: {"fairlead, PUT", "fairlead add (process)"},
				t.transactions: {"fairlead up, 60,000 forwards", "fairlead, PUT"}, t.down: {"fairlead down"},
			},
			func(ctx context.Context, g *gateway, set func(*Table, string, float64)) error {
				return b.changeFairlead(ctx, f, g, t, set)
			},
		},
	}
	if b.fairlead == "" {
		all = all[:1]
	}
	for round := range b.rounds {
		for _, i := range turns(round, len(all)) {
			if ctx.Err() != nil {
				return nil
			}
			b.changeOnce(ctx, f, all[i])
		}
	}
	return nil
}

// changeOnce makes one round of a change. What it did not come to is a gap in its rows.
func (b *bench) changeOnce(ctx context.Context, f *field, c change) {
	type cell struct {
		table *Table
		row   string
	}
	got := map[cell]float64{}
	err := scope(func(h *harness) error {
		g := f.gateway(h)
		defer f.remove(g)
		return c.run(ctx, g, func(t *Table, row string, value float64) { got[cell{t, row}] = value })
	})
	if ctx.Err() != nil {
		return // what was cut short is no result
	}
	for t, rows := range c.rows {
		for _, row := range rows {
			value, ok := got[cell{t, row}]
			failure := err
			if ok {
				failure = nil
			}
			b.record(t, row, sample{value: value}, failure)
		}
	}
}

// changeMap is the least that any program would have to do: the same forwards in one map, by nft itself.
func (b *bench) changeMap(ctx context.Context, g *gateway, t changeTables, set func(*Table, string, float64)) error {
	file := filepath.Join(b.dir, "map.nft")
	if err := os.WriteFile(file, []byte(nftMap(g, many)), 0o644); err != nil {
		return err
	}
	nft := func(args ...string) (float64, error) {
		began := time.Now()
		out, err := g.Command(ctx, "nft", args...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("nft: %w: %s", err, tail(string(out)))
		}
		return ms(time.Since(began)), nil
	}
	took, err := nft("-f", file)
	if err != nil {
		return err
	}
	set(t.cold, "nft -f, a map of 60,000", took)
	var adds []float64
	for i := range addTimes {
		took, err := nft("add", "element", "ip", "bench", "to", fmt.Sprintf("{ %d : %s . %d }", addPort-i, g.target, load.EchoPort))
		if err != nil {
			return err
		}
		adds = append(adds, took)
	}
	set(t.add, "nft add element (process)", median(adds))
	return nil
}

// changeFairlead brings 60,000 forwards up, sees that the last one works, adds some, sees that they work, and takes all
// away.
func (b *bench) changeFairlead(
	ctx context.Context, f *field, g *gateway, t changeTables, set func(*Table, string, float64),
) (err error) {
	before, err := generation(g.Node)
	if err != nil {
		return err
	}
	d, err := b.up(ctx, g.Node, kernelForwards(g, many))
	if err != nil {
		return err
	}
	up := true
	defer func() {
		if up {
			err = errors.Join(err, d.Stop())
		}
	}()
	if err := d.carried(ctx, many, "kernel"); err != nil {
		return err
	}
	after, err := generation(g.Node)
	if err != nil {
		return err
	}
	if err := b.works(ctx, f, fmt.Sprintf("%s:%d", g.front, firstPort+many-1)); err != nil {
		return err
	}
	set(t.cold, "fairlead up, 60,000 forwards", ms(d.ready))
	set(t.transactions, "fairlead up, 60,000 forwards", float64(after-before))

	var puts, adds []float64
	to := fmt.Sprintf("%s:%d", g.target, load.EchoPort)
	for i := range addTimes {
		spec := map[string]string{"listen": fmt.Sprint(addPort - i), "to": to}
		began := time.Now()
		if err := d.ask(ctx, http.MethodPut, fmt.Sprintf("/v1/forwards/more%d", i), spec, nil); err != nil {
			return err
		}
		puts = append(puts, ms(time.Since(began)))
	}
	last, err := generation(g.Node)
	if err != nil {
		return err
	}
	if err := b.works(ctx, f, fmt.Sprintf("%s:%d", g.front, addPort)); err != nil {
		return err
	}
	set(t.add, "fairlead, PUT", median(puts))
	set(t.transactions, "fairlead, PUT", float64(last-after)/addTimes)
	for i := range 5 {
		took, err := d.command(ctx, "add", fmt.Sprintf("process%d", i), fmt.Sprint(addPort-addTimes-i), to)
		if err != nil {
			return err
		}
		adds = append(adds, ms(took))
	}
	set(t.add, "fairlead add (process)", median(adds))
	up = false
	took, err := d.down(ctx)
	if err == nil {
		set(t.down, "fairlead down", ms(took))
	}
	return err
}

// works fails unless an exchange with the echo server comes about at an address that the client calls.
func (b *bench) works(ctx context.Context, f *field, addr string) error {
	r, err := b.load(ctx, f.client, load.Spec{
		Kind: load.Connect, Targets: []string{addr}, Workers: 1, Size: 64, Time: 10 * time.Millisecond,
	})
	if err == nil && r.Count == 0 {
		err = fmt.Errorf("%s leads nowhere: %s", addr, r.Error)
	}
	return err
}
