package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A field is a client and a server with any number of gateways side by side between them, each joined to both by wires of
// its own. So every contestant stays set up while the others are measured, and changing over costs nothing.
type field struct {
	*netlab.Lab
	client, server *netlab.Node
	gateways       int
	tally          string // the file that the server counts datagrams in
}

// A gateway stands between client and server: client – front [wan gw lan] – target.
type gateway struct {
	*netlab.Node
	front  string // the address that the client calls
	back   string // its own on the server's wire
	target string // the server's address on this gateway's wire
}

// newField sets the network up and starts the server.
func (b *bench) newField(h netlab.TB) *field {
	l := netlab.New(h)
	f := &field{Lab: l, client: l.Node("client"), server: l.Node("server"), tally: filepath.Join(b.dir, "tally")}
	f.client.Sysctl(h, "net.ipv4.ip_local_port_range", "1024 65535")
	f.client.Sysctl(h, "net.ipv4.tcp_tw_reuse", "1")
	f.server.Sysctl(h, "net.core.somaxconn", "8192")
	f.server.Sysctl(h, "net.ipv4.ip_local_port_range", "10240 65535") // the far ends of tunnels call from there
	f.server.Sysctl(h, "net.ipv4.tcp_tw_reuse", "1")

	cmd := b.inside(context.Background(), f.server, "serve")
	input, err := cmd.StdinPipe() // the server ends when this does, however this process ends
	if err != nil {
		h.Fatalf("server: %v", err)
	}
	server, err := f.server.StartCommand(cmd)
	if err != nil {
		h.Fatalf("server: %v", err)
	}
	h.Cleanup(func() { _ = input.Close(); server.Kill() })
	if _, err := fmt.Fprintln(input, f.tally); err != nil {
		h.Fatalf("server: %v", err)
	}
	server.WaitOutput(h, "ready")
	return f
}

// gateway adds one. It forwards packets and translates nothing.
func (f *field) gateway(h netlab.TB) *gateway { return f.gatewayBy(h, f.Link) }

// farGateway adds one whose wire to the server is a line.
func (f *field) farGateway(h netlab.TB) (g *gateway, line *netlab.Line) {
	g = f.gatewayBy(h, func(a, b netlab.End) { line = f.Line(a, b) })
	return g, line
}

// gatewayBy adds one that is joined to the server by join.
func (f *field) gatewayBy(h netlab.TB, join func(a, b netlab.End)) *gateway {
	f.gateways++
	k := f.gateways
	front, back := fmt.Sprintf("198.18.%d.", k), fmt.Sprintf("198.19.%d.", k)
	g := &gateway{Node: f.Node(fmt.Sprintf("gw%d", k)), front: front + "1", back: back + "1", target: back + "2"}
	f.Link(
		netlab.End{Node: f.client, Interface: fmt.Sprintf("wan%d", k), Addrs: []string{front + "2/24"}},
		netlab.End{Node: g.Node, Interface: "wan", Addrs: []string{front + "1/24"}})
	join(
		netlab.End{Node: f.server, Interface: fmt.Sprintf("lan%d", k), Addrs: []string{back + "2/24"}},
		netlab.End{Node: g.Node, Interface: "lan", Addrs: []string{back + "1/24"}})
	f.server.Route(h, front+"0/24", back+"1")
	f.client.Route(h, back+"0/24", front+"1") // for measuring without any translation
	g.Sysctl(h, "net.ipv4.ip_forward", "1")
	g.Sysctl(h, "net.ipv4.ip_local_port_range", "10240 65535") // relays listen below
	g.Sysctl(h, "net.ipv4.tcp_tw_reuse", "1")
	g.Sysctl(h, "net.core.somaxconn", "8192")
	return g
}

// remove takes a gateway away again, with what is left running on it.
func (f *field) remove(g *gateway) { f.Gone(g.Node) }

// inside is this program in one of its roles, on a host.
func (b *bench) inside(ctx context.Context, n *netlab.Node, role string) *exec.Cmd {
	cmd := n.Command(ctx, b.self, role)
	// Its threads block in system calls that the Go scheduler does not know of; the signals by which it would have them move
	// on would only interrupt them.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	return cmd
}

// load makes a measurement from a host.
func (b *bench) load(ctx context.Context, n *netlab.Node, s load.Spec) (load.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Warm+s.Time+20*time.Second)
	defer cancel()
	spec, err := json.Marshal(s)
	if err != nil {
		return load.Result{}, err
	}
	cmd := b.inside(ctx, n, "load")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(spec), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return load.Result{}, fmt.Errorf("load %s: %w: %s", s.Kind, err, strings.TrimSpace(stderr.String()))
	}
	return load.ParseResult(stdout.Bytes())
}

// rate is a contestant's sample of operations a second, times scale. A measurement in which nothing worked has failed.
func (b *bench) rate(ctx context.Context, n *netlab.Node, s load.Spec, scale float64) (sample, error) {
	r, err := b.timed(ctx, n, s)
	return sample{value: r.Rate() * scale, p99: r.P99, errors: r.Errors, err: r.Error}, err
}

// timed makes a measurement of the length that is asked for, after what it says itself or a moment.
func (b *bench) timed(ctx context.Context, n *netlab.Node, s load.Spec) (load.Result, error) {
	s.Time = time.Duration(b.seconds * float64(time.Second))
	s.Warm = max(s.Warm, min(300*time.Millisecond, s.Time/2))
	if s.Kind == load.UDP {
		s.Warm = max(s.Warm, 150*time.Millisecond) // what is lost at the start is noticed later, and is not to count
	}
	r, err := b.load(ctx, n, s)
	if err == nil && r.Count == 0 {
		err = fmt.Errorf("load %s: nothing came through: %s", s.Kind, r.Error)
	}
	return r, err
}
