package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A relay is a program that carries connections in user space. start runs it on a gateway, listening on the gateway's front
// address at the port base and those that follow, for the server's ports in the same order (load.BasePort).
type relay struct {
	name  string
	base  int
	kinds []load.Kind // in which it takes part; nil: in all
	start startFunc
}

type startFunc func(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error)

// A runningRelay is one that listens.
type runningRelay struct {
	process *netlab.Process
	stop    func()
}

const (
	nginxModule = "/usr/lib/nginx/modules/ngx_stream_module.so" // where Debian has it; elsewhere it may be built in
	tcpPorts    = load.HoldPort - load.BasePort + 1             // of the server
	relayed     = tcpPorts                                      // forwards, of TCP: all of the server's, and so those of UDP too
)

// The variants of HAProxy that bulk is measured with, since either may be the faster one; the plain one is slower than both.
const (
	haproxyLarge  = "haproxy, 128 kB buffers"
	haproxySplice = "haproxy, splice"
)

// besideName is the row of the fairlead that -beside names.
const besideName = "fairlead, beside"

// peers are those beside whom fairlead is measured, nginx first.
var peers = []string{"nginx", "haproxy", haproxyLarge, haproxySplice}

// allRelays are those to measure, the peers with what makes them fastest at each kind of load.
func (b *bench) allRelays() []relay {
	var (
		tcp    = []load.Kind{load.Connect, load.Close, load.Request, load.Hold}
		bulk   = []load.Kind{load.Bulk}
		udp    = []load.Kind{load.UDP, load.OneWay}
		accept = "\tmulti_accept on;\n" // has nginx take all datagrams that are there, and one process all connections
		large  = "\ttune.bufsize 131072\n"
		splice = "\toption splice-auto\n"
	)
	relays := []relay{
		{"nginx", 7100, append(bulk, tcp...), startNginx("")},
		{"nginx", 7500, udp, startNginx(accept)},
		{"haproxy", 7200, tcp, startHAProxy("", "")},
		{haproxyLarge, 7600, bulk, startHAProxy(large, "")},
		{haproxySplice, 7400, bulk, startHAProxy("", splice)},
	}
	if b.fairlead != "" {
		relays = append(relays, relay{"fairlead", 7300, nil, startFairleadRelay(b.fairlead)})
	}
	if b.beside != "" {
		relays = append(relays, relay{besideName, 7700, nil, startFairleadRelay(b.beside)})
	}
	return relays
}

// resting are those of which each stands for its program when nothing is to be carried.
func (b *bench) resting() []relay {
	return slices.DeleteFunc(b.allRelays(), func(r relay) bool { return !r.carries(load.Hold) })
}

// tcpTarget is where the i-th TCP port of a relay leads.
func (g *gateway) tcpTarget(i int) string {
	return fmt.Sprintf("%s:%d", g.target, load.BasePort+min(i, tcpPorts-1))
}

// startProgram runs a program with a configuration file and waits until all its ports listen.
func (b *bench) startProgram(
	ctx context.Context, g *gateway, base, tcp int, config, name string, args ...string,
) (*runningRelay, error) {
	file := filepath.Join(b.dir, fmt.Sprintf("%s-%d.conf", name, base))
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return startListening(ctx, g.Node, g.Command(context.Background(), name, append(args, file)...), base, tcp)
}

// startListening runs a program on a host and waits until all its ports listen.
func startListening(ctx context.Context, at *netlab.Node, cmd *exec.Cmd, base, tcp int) (*runningRelay, error) {
	p, err := at.StartCommand(cmd)
	if err != nil {
		return nil, err
	}
	r := &runningRelay{p, func() { _ = p.Stop() }}
	if err := waitListening(ctx, at, p, base, tcp); err != nil {
		r.stop()
		return nil, fmt.Errorf("%w: %s", err, tail(p.Output()))
	}
	return r, nil
}

func waitListening(ctx context.Context, at *netlab.Node, p *netlab.Process, base, tcp int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i := range tcp {
		for !at.Listening("tcp", base+i) {
			select {
			case <-p.Done():
				return errors.New("it has ended")
			case <-ctx.Done():
				return fmt.Errorf("it does not listen on port %d: %w", base+i, ctx.Err())
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	return nil
}

// nginxConfig has further lines for its events.
func nginxConfig(b *bench, g *gateway, base, forwards int, events string) string {
	text := ""
	if _, err := os.Stat(nginxModule); err == nil {
		text = "load_module " + nginxModule + ";\n"
	}
	text += fmt.Sprintf(`daemon off;
user root;
pid %s/nginx-%d.pid;
error_log %s/nginx-%d.log crit;
worker_processes auto;
worker_rlimit_nofile 20000;
events {
	worker_connections 16000;
%s}
stream {
	tcp_nodelay on;
	proxy_timeout 10m;
`, b.dir, base, b.dir, base, events)
	for i := range forwards {
		buffers := ""
		if i == load.SinkPort-load.BasePort {
			buffers = "proxy_buffer_size 128k; "
		}
		text += fmt.Sprintf("\tserver { listen %s:%d; %sproxy_pass %s; }\n", g.front, base+i, buffers, g.tcpTarget(i))
	}
	if forwards == relayed {
		for port := load.UDPPort; port <= load.CountPort; port++ {
			text += fmt.Sprintf("\tserver { listen %s:%d udp reuseport rcvbuf=4m; proxy_timeout 3s; proxy_pass %s:%d; }\n",
				g.front, base+port-load.BasePort, g.target, port)
		}
	}
	return text + "}\n"
}

func startNginx(events string) startFunc {
	return func(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error) {
		return b.startProgram(ctx, g, base, forwards, nginxConfig(b, g, base, forwards, events), "nginx", "-e", "stderr", "-c")
	}
}

// haproxyConfig has further lines for two of its sections.
func haproxyConfig(g *gateway, base, forwards int, global, defaults string) string {
	text := `global
	maxconn 7500
	nbthread 2
	maxpipes 100
` + global + `defaults
	mode tcp
	timeout connect 5s
	timeout client 10m
	timeout server 10m
` + defaults
	for i := range forwards {
		text += fmt.Sprintf("listen l%d\n\tbind %s:%d\n\tserver s %s\n", i, g.front, base+i, g.tcpTarget(i))
	}
	return text
}

func startHAProxy(global, defaults string) startFunc {
	return func(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error) {
		return b.startProgram(ctx, g, base, forwards, haproxyConfig(g, base, forwards, global, defaults), "haproxy", "-db", "-f")
	}
}

// relayForwards is a fairlead.toml with forwards that the relay carries.
func relayForwards(g *gateway, base, forwards int) string {
	text := ""
	for i := range forwards {
		text += fmt.Sprintf("[forward.tcp%d]\nlisten = \"%s:%d\"\nto = \"%s\"\ncarry = \"relay\"\n",
			i, g.front, base+i, g.tcpTarget(i))
	}
	if forwards == relayed {
		for port := load.UDPPort; port <= load.CountPort; port++ {
			text += fmt.Sprintf("[forward.udp%d]\nlisten = \"udp/%s:%d\"\nto = \"%s:%d\"\ncarry = \"relay\"\n",
				port, g.front, base+port-load.BasePort, g.target, port)
		}
	}
	return text
}

func startFairleadRelay(program string) startFunc {
	return func(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error) {
		d, err := b.upProgram(ctx, program, g.Node, relayForwards(g, base, forwards))
		if err != nil {
			return nil, err
		}
		r := &runningRelay{d.Process, func() { _ = d.Stop() }}
		want := forwards
		if forwards == relayed {
			want += load.CountPort - load.UDPPort + 1
		}
		if err := d.carried(ctx, want, "relay"); err != nil {
			r.stop()
			return nil, err
		}
		return r, nil
	}
}
