package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
)

const (
	held   = 3000 // idle connections whose memory is measured
	settle = time.Second
)

// A stand is one relay as the measurements see it.
type stand struct {
	relay
	running *runningRelay
	err     error // why it does not run
}

const direct = "direct (routed)"

// relays measures the user-space carrier beside programs that do the same.
func (b *bench) relays(ctx context.Context, h *harness) error {
	f := b.newField(h)
	g := f.gateway(h)
	var stands []*stand
	for _, r := range b.allRelays() {
		s := &stand{relay: r}
		if s.running, s.err = r.start(ctx, b, g, r.base, tcpPorts); s.err == nil {
			h.Cleanup(s.running.stop)
		}
		stands = append(stands, s)
	}
	workloads := []struct {
		title, unit string
		port        int // of the server
		scale       float64
		spec        load.Spec
	}{
		{"relay: TCP bulk, 1 stream", "Gb/s", load.SinkPort, 8e-9, load.Spec{Kind: load.Bulk, Workers: 1, Size: 128 << 10}},
		{"relay: TCP bulk, 16 streams", "Gb/s", load.SinkPort, 8e-9, load.Spec{Kind: load.Bulk, Workers: 16, Size: 128 << 10}},
		{"relay: new connections, 16 at a time", "/s", load.EchoPort, 1, load.Spec{Kind: load.Connect, Workers: 16, Size: 64}},
		{"relay: request-response, 64 B × 16", "/s", load.EchoPort, 1, load.Spec{Kind: load.Request, Workers: 16, Size: 64}},
		{"relay: UDP echo, 200 B, 16 flows × 4", "/s", load.UDPPort, 1,
			load.Spec{Kind: load.UDP, Workers: 16, Size: 200, InFlight: 4}},
	}
	for _, w := range workloads {
		t := &Table{Section: "c", Title: w.title, Unit: w.unit, Against: []string{"nginx", "haproxy"}}
		contestants := []contestant{{direct, func(ctx context.Context) (sample, error) {
			w.spec.Targets = []string{fmt.Sprintf("%s:%d", g.target, w.port)}
			return b.rate(ctx, f.client, w.spec, w.scale)
		}}}
		for _, s := range stands {
			if w.spec.Kind == load.UDP && !s.udp {
				t.Notes = append(t.Notes, s.name+" does not carry UDP")
				continue
			}
			contestants = append(contestants, contestant{s.name, func(ctx context.Context) (sample, error) {
				if s.err != nil {
					return sample{}, s.err
				}
				w.spec.Targets = []string{fmt.Sprintf("%s:%d", g.front, s.base+w.port-load.BasePort)}
				return b.rate(ctx, f.client, w.spec, w.scale)
			}})
		}
		b.compare(ctx, t, contestants)
	}
	b.memory(ctx, f, g)
	return nil
}

// memory measures what an idle connection takes, with a relay that was started for that: what a program has once taken it
// seldom gives back.
func (b *bench) memory(ctx context.Context, f *field, g *gateway) {
	t := &Table{
		Section: "c", Title: "relay: memory per idle connection", Unit: "kB", Lower: true, Against: []string{"nginx", "haproxy"},
		Notes: []string{fmt.Sprintf("what the resident memory of all processes grows by with %d connections that were used once, "+
			"by their number; the kernel's share (sockets, pipes) is not in it", held)},
	}
	var contestants []contestant
	for _, r := range b.allRelays() {
		contestants = append(contestants, contestant{r.name, func(ctx context.Context) (sample, error) {
			running, err := r.start(ctx, b, g, r.base+50, tcpPorts)
			if err != nil {
				return sample{}, err
			}
			defer running.stop()
			target := fmt.Sprintf("%s:%d", g.front, r.base+50+load.HoldPort-load.BasePort)
			kilobytes, err := b.growth(ctx, f, running.process.Pid(), target)
			return sample{value: kilobytes / held}, err
		}})
	}
	b.compare(ctx, t, contestants)
}

// growth is by how much the processes grow, in kB, when they carry idle connections.
func (b *bench) growth(ctx context.Context, f *field, pid int, target string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := pause(ctx, settle/2); err != nil {
		return 0, err
	}
	before, err := residentTree(pid)
	if err != nil {
		return 0, err
	}
	cmd := b.inside(ctx, f.client, "load")
	input, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	p, err := f.client.StartCommand(cmd)
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	defer input.Close()
	spec := load.Spec{Kind: load.Hold, Targets: []string{target}, Workers: held, Size: 64}
	if err := json.NewEncoder(input).Encode(spec); err != nil {
		return 0, err
	}
	for !strings.Contains(p.Output(), "\n") {
		select {
		case <-p.Done():
			return 0, errors.New("load hold: " + tail(p.Output()))
		default:
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, fmt.Errorf("load hold: %w: %s", err, tail(p.Output()))
		}
	}
	if !strings.HasPrefix(p.Output(), "{") {
		return 0, errors.New("load hold: " + tail(p.Output()))
	}
	if err := pause(ctx, settle); err != nil {
		return 0, err
	}
	after, err := residentTree(pid)
	return after - before, err
}

// pause lets time pass, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
