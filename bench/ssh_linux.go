package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// Where things listen, on the gateway below its own ports for connections.
const (
	opensshPort = 2201 // SSH servers, here and on the server; fairlead's follow
	delayPort   = 2301 // what is between client and SSH server in the measurements with a delay
	tunnelPort  = 7100 // the forwards of the first pair; those of the others follow, pairPorts each
	pairPorts   = 100
	remotePorts = 20 // from a pair's -L to its -R
	slowPorts   = 40 // from a pair's -L to the one with a delay
	dynamicPort = 60 // from a pair's -L to its -D
)

// tunnelled are the server's ports that the measurements of tunnels and proxies call.
var tunnelled = []int{load.EchoPort, load.SinkPort, load.ClosePort, load.FetchPort}

// theBaseline is OpenSSH on both ends with the cipher that all use.
const theBaseline = "openssh/openssh"

// A pair is an SSH client and an SSH server, and the tunnels that they make of it.
type pair struct {
	name           string
	client, server *end
	cipher         string // that the client asks for; "": the one that all use
	base           int
	errs           [tunnelKinds]error // why a tunnel does not run
}

// The tunnels of a pair.
const (
	fromHere  = iota // -L and -D
	fromThere        // -R
	late             // -L with a delay
	tunnelKinds
)

// A sshField is what the tunnels are made in. -L and -D lead from the gateway through the SSH server on the server host. -R leads from
// the SSH server on the gateway to the client on the server host.
type sshField struct {
	*field
	g    *gateway
	keys sshKeys
}

// tunnels measures SSH, then proxies without it.
func (b *bench) tunnels(ctx context.Context, h *harness) error {
	f := b.newField(h)
	g := f.gateway(h)
	if err := b.ssh(ctx, h, f, g); err != nil {
		return err
	}
	return b.proxies(ctx, h, f, g)
}

func (b *bench) ssh(ctx context.Context, h *harness, f *field, g *gateway) error {
	if missing := absent("ssh", "sshd", "ssh-keygen"); missing != "" {
		fmt.Fprintf(os.Stderr, "  no SSH: %s is not installed\n", missing)
		return nil
	}
	keys, err := b.makeKeys(ctx, g)
	if err != nil {
		return err
	}
	s := &sshField{f, g, keys}
	pairs := b.sshServers(ctx, h, s)
	for i, p := range pairs {
		p.base = tunnelPort + i*pairPorts
		b.startTunnels(ctx, h, s, p)
	}
	short := b.calls()
	for _, way := range []struct {
		flag   string
		tunnel int
		at     func(p *pair, port int) call
	}{
		{"-L", fromHere, func(p *pair, port int) call {
			return call{from: f.client, to: hostPort(g.front, p.base+port-load.BasePort)}
		}},
		{"-R", fromThere, func(p *pair, port int) call {
			return call{from: f.client, to: hostPort(g.front, p.base+remotePorts+port-load.BasePort)}
		}},
		{"-D", fromHere, func(p *pair, port int) call {
			return call{from: g.Node, socks: hostPort(loopback, p.base+dynamicPort), to: hostPort(g.target, port)}
		}},
	} {
		for _, w := range sshWorkloads("ssh "+way.flag+": ", 1.2, 1.5) {
			if way.flag == "-D" && w.spec.Kind == load.Fetch {
				continue // once it stands, it is what -L's is
			}
			w.table.Notes = append(w.table.Notes, fmt.Sprintf("%d slices of %.3g s each, by turns", short.rounds, short.seconds))
			if way.flag == "-D" {
				w.table.Notes = append(w.table.Notes, "SOCKS 5, called from the client's own host over loopback, where nobody has to log in")
			}
			var contestants []contestant
			for _, p := range pairs {
				if p.cipher != "" && (way.flag != "-L" || w.port != load.SinkPort) {
					continue // once is enough to know what the cipher does
				}
				contestants = append(contestants, short.caller(p.name, w, way.at(p, w.port), p.errs[way.tunnel]))
			}
			if strings.Contains(w.table.Title, b.titles) {
				short.compare(ctx, w.table, contestants)
			}
		}
	}
	b.slow(ctx, f, g, pairs)
	return nil
}

// calls is b with slices for tunnels and proxies: the differences asked for are large, and a slice needs enough connections for a p99.
func (b *bench) calls() *bench {
	short := b.cut(1, 4)
	short.seconds = max(short.seconds, 0.25) // a tunnel may move nothing for a tenth of a second on a busy machine
	return short
}

// slowWarm is fifteen turns with the delay.
const slowWarm = 1500 * time.Millisecond

// slow measures bulk with a delay. Windows need some turns to open, so a slice is longer and begins later.
func (b *bench) slow(ctx context.Context, f *field, g *gateway, pairs []*pair) {
	long := *b
	long.rounds, long.seconds = min(b.rounds, 3), min(10, 1.5*b.seconds)
	for _, w := range sshWorkloads(fmt.Sprintf("ssh -L, %d ms of delay: ", 2*delayEach.Milliseconds()), 1, 1) {
		if !strings.Contains(w.table.Title, b.titles) || w.spec.Kind != load.Bulk && w.spec.Kind != load.Fetch {
			continue
		}
		w.spec.Warm = slowWarm
		w.table.Notes = append(w.table.Notes, fmt.Sprintf("%d slices of %.3g s each, by turns, each after %v", long.rounds, long.seconds, w.spec.Warm),
			fmt.Sprintf("a relay between SSH client and server has each direction %v late, and holds up to %d MB", delayEach, delayRoom>>20))
		var contestants []contestant
		for _, p := range pairs {
			if p.cipher == "" {
				to := hostPort(g.front, p.base+slowPorts+w.port-load.BasePort)
				contestants = append(contestants, long.caller(p.name, w, call{from: f.client, to: to}, p.errs[late]))
			}
		}
		long.compare(ctx, w.table, contestants)
	}
}

// A call is from where a contestant is called, and how.
type call struct {
	from      *netlab.Node
	socks, to string
}

// caller is a contestant that is called. An err is why it cannot be.
func (b *bench) caller(name string, w workload, c call, err error) contestant {
	w.spec.Targets, w.spec.Socks = []string{c.to}, c.socks
	return contestant{name, func(ctx context.Context) (sample, error) {
		if err != nil {
			return sample{}, err
		}
		return b.rate(ctx, c.from, w.spec, w.scale)
	}}
}

// sshWorkloads are those of every kind of tunnel, in which fairlead has to be some times as fast on one end, and on both.
func sshWorkloads(title string, one, both float64) []workload {
	list := callWorkloads(title)
	for _, w := range list {
		t := w.table
		t.Against = []string{theBaseline}
		t.Notes = append(t.Notes, "client/server; all with "+theCipher+", without compression")
		for _, name := range []string{"fairlead/openssh", "openssh/fairlead", "fairlead/fairlead"} {
			times := one
			if name == "fairlead/fairlead" {
				times = both
			}
			t.Targets = append(t.Targets, Target{Row: name, By: t.Against, Min: times})
			if w.spec.Kind == load.Close || w.spec.Kind == load.Request {
				t.Targets = append(t.Targets, Target{Row: name, By: t.Against, Of: ofP99, Max: 1})
			}
		}
	}
	return list
}

// callWorkloads are those of tunnels and of proxies.
func callWorkloads(title string) []workload {
	work := func(name, unit string, scale float64, port int, spec load.Spec) workload {
		return workload{table: &Table{Section: "e", Title: title + name, Unit: unit}, port: port, scale: scale, spec: spec}
	}
	const bits = 8e-9 // in Gb a byte
	list := []workload{
		work("bulk up, 1 stream", "Gb/s", bits, load.SinkPort, load.Spec{Kind: load.Bulk, Workers: 1, Size: 128 << 10}),
		work("bulk down, 1 stream", "Gb/s", bits, load.FetchPort, load.Spec{Kind: load.Fetch, Workers: 1, Size: 128 << 10}),
		work("new connections, 16 at a time", "/s", 1, load.ClosePort, load.Spec{Kind: load.Close, Workers: 16, Size: 64}),
		work("request-response, 64 B × 16", "/s", 1, load.EchoPort, load.Spec{Kind: load.Request, Workers: 16, Size: 64}),
	}
	list[2].table.Notes = []string{"connect, 64 bytes there and back, close by the client"}
	return list
}

func hostPort(host string, port int) string { return fmt.Sprintf("%s:%d", host, port) }
