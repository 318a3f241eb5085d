package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fairlead-net/fairlead/bench/load"
)

// A proxy is a SOCKS server of its own, without SSH. It listens on the gateway's loopback.
type proxy struct {
	name    string
	program string // that has to be installed; "": it is there
	port    int
	start   func(ctx context.Context, b *bench, g *gateway, port int) (*runningRelay, error)
	err     error // why it does not run
}

const (
	danteName  = "dante"
	socksPorts = 8100
)

// proxies measures SOCKS 5 beside programs that do the same.
func (b *bench) proxies(ctx context.Context, h *harness, f *field, g *gateway) error {
	all := []*proxy{
		{name: danteName, program: "danted", port: socksPorts, start: startDante},
		{name: "microsocks", program: "microsocks", port: socksPorts + 1, start: startMicrosocks},
	}
	if b.fairlead != "" {
		all = append(all, &proxy{name: "fairlead", port: socksPorts + 2, start: startSocks(b.fairlead)})
	}
	if b.beside != "" {
		all = append(all, &proxy{name: besideName, port: socksPorts + 3, start: startSocks(b.beside)})
	}
	var present []*proxy
	notes := []string{"SOCKS 5 CONNECT to an address, without a login; called from the proxy's own host over loopback"}
	for _, p := range all {
		if p.program != "" && absent(p.program) != "" {
			notes = append(notes, p.program+" is not installed, and left out")
			fmt.Fprintf(os.Stderr, "  no %s: %s is not installed\n", p.name, p.program)
			continue
		}
		running, err := p.start(ctx, b, g, p.port)
		if err == nil {
			h.Cleanup(running.stop)
		}
		p.err = err
		present = append(present, p)
	}
	short := b.calls()
	notes = append(notes, fmt.Sprintf("%d slices of %.3g s each, by turns", short.rounds, short.seconds))
	for _, w := range callWorkloads("socks: ") {
		if !strings.Contains(w.table.Title, b.titles) {
			continue
		}
		w.table.Against = []string{danteName, "microsocks"}
		w.table.Notes = append(w.table.Notes, notes...)
		if w.spec.Kind != load.Request {
			w.table.Targets = []Target{{Row: "fairlead", By: w.table.Against[:1], Min: 1}}
		}
		var contestants []contestant
		for _, p := range present {
			c := call{from: g.Node, socks: hostPort(loopback, p.port), to: hostPort(g.target, w.port)}
			contestants = append(contestants, short.caller(p.name, w, c, p.err))
		}
		short.compare(ctx, w.table, contestants)
	}
	return nil
}

// startDante starts it as it is when nothing is asked for: it starts processes as they are needed.
func startDante(ctx context.Context, b *bench, g *gateway, port int) (*runningRelay, error) {
	file := filepath.Join(b.dir, "danted.conf")
	config := fmt.Sprintf(`logoutput: /dev/null
internal: %s port = %d
external: lan
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
`, loopback, port)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	cmd := g.Command(context.Background(), "danted", "-f", file, "-p", filepath.Join(b.dir, "danted.pid"))
	return startListening(ctx, g.Node, cmd, port, 1)
}

// startMicrosocks starts it with its log, a line for each connection, thrown away.
func startMicrosocks(ctx context.Context, _ *bench, g *gateway, port int) (*runningRelay, error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	cmd := g.Command(context.Background(), "microsocks", "-i", loopback, "-p", fmt.Sprint(port))
	cmd.Stdout, cmd.Stderr = null, null
	return startListening(ctx, g.Node, cmd, port, 1)
}

func startSocks(program string) func(context.Context, *bench, *gateway, int) (*runningRelay, error) {
	return func(ctx context.Context, b *bench, g *gateway, port int) (*runningRelay, error) {
		d, err := b.upProgram(ctx, program, g.Node, fmt.Sprintf("[forward.proxy]\nlisten = %q\nto = \"socks\"\n", hostPort(loopback, port)))
		if err != nil {
			return nil, err
		}
		r := &runningRelay{d.Process, func() { _ = d.Stop() }}
		if err := waitListening(ctx, g.Node, d.Process, port, 1); err != nil {
			r.stop()
			return nil, fmt.Errorf("fairlead: %w: %s", err, tail(d.Output()))
		}
		return r, nil
	}
}
