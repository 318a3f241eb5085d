package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
)

const (
	held   = 5000 // idle connections whose memory is measured
	settle = time.Second
)

// A holding is what processes hold.
type holding struct{ kilobytes, descriptors float64 }

// holds is what a process and all that it has started hold now.
func holds(pid int) (h holding, err error) {
	if h.kilobytes, err = sumTree(pid, resident); err != nil {
		return h, err
	}
	h.descriptors, err = sumTree(pid, descriptors)
	return h, err
}

// idle measures what an idle connection takes, with a relay that was started for that: what a program has once taken it
// seldom gives back.
func (b *bench) idle(ctx context.Context, f *field, g *gateway) {
	memory := &Table{
		Section: "c", Title: "relay: memory per idle connection", Unit: "kB", Lower: true, Against: peers,
		Notes: []string{fmt.Sprintf("what the resident memory of all processes grows by with %s connections that were used once, "+
			"by their number; the kernel's share (sockets, pipes) is not in it", thousands(held))},
		Targets: []Target{{Row: "fairlead", Max: 1.5}},
	}
	open := &Table{
		Section: "c", Title: "relay: descriptors per idle connection", Unit: "fds", Lower: true, Against: peers,
		Targets: []Target{{Row: "fairlead", Max: 2}},
	}
	var contestants []contestant
	for _, r := range b.resting() {
		contestants = append(contestants, contestant{r.name, func(ctx context.Context) (sample, error) {
			s := sample{aside: map[*Table]float64{open: 0}}
			running, err := r.start(ctx, b, g, r.base+50, relayed)
			if err != nil {
				return s, err
			}
			defer running.stop()
			target := fmt.Sprintf("%s:%d", g.front, r.base+50+load.HoldPort-load.BasePort)
			grown, err := b.growth(ctx, f, running.process.Pid(), held, target)
			s.value = grown.kilobytes / held
			s.aside[open] = math.Round(100*grown.descriptors/held) / 100 // one more for the whole program is none for each
			return s, err
		}})
	}
	b.compare(ctx, memory, contestants)
	b.report.Tables = append(b.report.Tables, open)
}

// growth is by how much the processes grow when they carry so many idle connections.
func (b *bench) growth(ctx context.Context, f *field, pid, count int, target string) (grown holding, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := pause(ctx, settle/2); err != nil {
		return grown, err
	}
	before, err := holds(pid)
	if err != nil {
		return grown, err
	}
	cmd := b.inside(ctx, f.client, "load")
	input, err := cmd.StdinPipe()
	if err != nil {
		return grown, err
	}
	p, err := f.client.StartCommand(cmd)
	if err != nil {
		return grown, err
	}
	defer p.Kill()
	defer input.Close()
	spec := load.Spec{Kind: load.Hold, Targets: []string{target}, Workers: count, Size: 64}
	if err := json.NewEncoder(input).Encode(spec); err != nil {
		return grown, err
	}
	for !strings.Contains(p.Output(), "\n") {
		select {
		case <-p.Done():
			return grown, errors.New("load hold: " + tail(p.Output()))
		default:
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return grown, fmt.Errorf("load hold: %w: %s", err, tail(p.Output()))
		}
	}
	if !strings.HasPrefix(p.Output(), "{") {
		return grown, errors.New("load hold: " + tail(p.Output()))
	}
	if err := pause(ctx, settle); err != nil {
		return grown, err
	}
	after, err := holds(pid)
	return holding{after.kilobytes - before.kilobytes, after.descriptors - before.descriptors}, err
}
