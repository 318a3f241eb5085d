package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	start func(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error)
}

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

// peers are those beside whom fairlead is measured, nginx first.
var peers = []string{"nginx", "haproxy", haproxySplice}

// haproxySplice is a variant, and measured where it makes a difference.
const haproxySplice = "haproxy, splice"

// allRelays are those to measure.
func (b *bench) allRelays() []relay {
	relays := []relay{
		{"nginx", 7100, nil, startNginx},
		{"haproxy", 7200, []load.Kind{load.Bulk, load.Connect, load.Close, load.Request, load.Hold}, startHAProxy("")},
		{haproxySplice, 7400, []load.Kind{load.Bulk}, startHAProxy("\toption splice-auto\n")},
	}
	if b.fairlead != "" {
		relays = append(relays, relay{"fairlead", 7300, nil, startFairleadRelay})
	}
	return relays
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
	p, err := g.StartCommand(g.Command(context.Background(), name, append(args, file)...))
	if err != nil {
		return nil, err
	}
	r := &runningRelay{p, func() { _ = p.Stop() }}
	if err := waitListening(ctx, g, p, base, tcp); err != nil {
		r.stop()
		return nil, fmt.Errorf("%s: %w: %s", name, err, tail(p.Output()))
	}
	return r, nil
}

func waitListening(ctx context.Context, g *gateway, p *netlab.Process, base, tcp int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for i := range tcp {
		for !g.Listening("tcp", base+i) {
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

func nginxConfig(b *bench, g *gateway, base, forwards int) string {
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
events { worker_connections 16000; }
stream {
	tcp_nodelay on;
	proxy_timeout 10m;
`, b.dir, base, b.dir, base)
	for i := range forwards {
		text += fmt.Sprintf("\tserver { listen %s:%d; proxy_pass %s; }\n", g.front, base+i, g.tcpTarget(i))
	}
	if forwards == relayed {
		for port := load.UDPPort; port <= load.CountPort; port++ {
			text += fmt.Sprintf("\tserver { listen %s:%d udp reuseport rcvbuf=4m; proxy_timeout 3s; proxy_pass %s:%d; }\n",
				g.front, base+port-load.BasePort, g.target, port)
		}
	}
	return text + "}\n"
}

func startNginx(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error) {
	return b.startProgram(ctx, g, base, forwards, nginxConfig(b, g, base, forwards), "nginx", "-e", "stderr", "-c")
}

// haproxyConfig has further lines for its defaults.
func haproxyConfig(g *gateway, base, forwards int, defaults string) string {
	text := `global
	maxconn 8000
	nbthread 2
defaults
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

func startHAProxy(defaults string) func(context.Context, *bench, *gateway, int, int) (*runningRelay, error) {
	return func(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error) {
		return b.startProgram(ctx, g, base, forwards, haproxyConfig(g, base, forwards, defaults), "haproxy", "-db", "-f")
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

func startFairleadRelay(ctx context.Context, b *bench, g *gateway, base, forwards int) (*runningRelay, error) {
	d, err := b.up(ctx, g.Node, relayForwards(g, base, forwards))
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
