package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
)

const miniupnpdName = "miniupnpd"

// A granter is a port-mapping server on a gateway of its own.
type granter struct {
	name  string
	start func(ctx context.Context, g *gateway) (stop func(), err error)
}

// grants measures port-mapping servers: how fast one client process has mappings made, with few and with many that are there.
func (b *bench) grants(ctx context.Context, h *harness) error {
	f := b.newField(h)
	var all []*granter
	note := "one client process on the LAN makes mappings and deletes them again; each asker waits for its answer"
	if path := absent(miniupnpdName); path != "" {
		note += "; " + miniupnpdName + " is not installed, and left out"
	} else {
		all = append(all, &granter{name: miniupnpdName, start: b.startMiniupnpd})
	}
	if b.fairlead != "" {
		all = append(all, &granter{name: "fairlead", start: b.startGrants})
	}
	for _, w := range []struct {
		title, protocol string
		askers          int
		held            int
		theirs          int // of miniupnpd, which takes minutes to make as many
		atLeast         float64
	}{
		{"PCP MAP, 64 askers", "pcp", 64, 0, 0, 5000},
		{"PCP MAP, 1 asker", "pcp", 1, 0, 0, 0},
		{"NAT-PMP, 64 askers", "natpmp", 64, 0, 0, 5000},
		{"UPnP AddPortMapping, 16 askers", "upnp", 16, 0, 0, 1500},
		{"PCP MAP, 64 askers, 20,000 leases (miniupnpd: 1,000)", "pcp", 64, 20_000, 1000, 5000},
		{"UPnP AddPortMapping, 16 askers, 20,000 leases (miniupnpd: 1,000)", "upnp", 16, 20_000, 1000, 1500},
	} {
		if ctx.Err() != nil || !strings.Contains(w.title, b.titles) {
			continue
		}
		t := &Table{Section: "f", Title: w.title, Unit: "requests/s", Against: []string{miniupnpdName}, Notes: []string{note}}
		t.Targets = append(t.Targets, Target{Row: "fairlead", By: []string{miniupnpdName}, Min: 1})
		if w.atLeast > 0 {
			t.Targets = append(t.Targets, Target{Row: "fairlead", Min: w.atLeast})
		}
		err := scope(func(h *harness) error {
			var contestants []contestant
			for _, one := range all {
				g := f.gateway(h)
				h.Cleanup(func() { f.remove(g) })
				stop, err := one.start(ctx, g)
				if err != nil {
					return err
				}
				h.Cleanup(stop)
				s := load.MapSpec{
					Protocol: w.protocol, Server: netip.MustParseAddr(g.back), Client: netip.MustParseAddr(g.target), Askers: w.askers,
					Held: w.held, Time: time.Duration(b.seconds * float64(time.Second)),
				}
				if one.name == miniupnpdName {
					s.Held = w.theirs
				}
				contestants = append(contestants, contestant{one.name, func(ctx context.Context) (sample, error) {
					r, err := b.mappings(ctx, f, s)
					return sample{value: r.Rate(), p99: r.P99, errors: r.Errors, err: r.Error}, err
				}})
			}
			b.compare(ctx, t, contestants)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// mappings makes a measurement from the LAN.
func (b *bench) mappings(ctx context.Context, f *field, s load.MapSpec) (load.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	spec, err := json.Marshal(s)
	if err != nil {
		return load.Result{}, err
	}
	cmd := f.server.Command(ctx, b.self, "map")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(spec), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return load.Result{}, fmt.Errorf("mappings: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	r, err := load.ParseResult(stdout.Bytes())
	if err == nil && r.Count == 0 {
		err = fmt.Errorf("no mapping was made: %s", r.Error)
	}
	return r, err
}

// startGrants starts the daemon as a gateway that grants everything.
func (b *bench) startGrants(ctx context.Context, g *gateway) (func(), error) {
	d, err := b.up(ctx, g.Node, `[gateway]
wan = "wan"
lan = "lan"
[gateway.portmap]
max_leases = 60000
max_per_client = 60000
`)
	if err != nil {
		return nil, err
	}
	return func() { _, _ = d.down(ctx) }, nil
}

// startMiniupnpd starts it as its packages do, with the chains that it wants.
func (b *bench) startMiniupnpd(ctx context.Context, g *gateway) (func(), error) {
	dir, err := os.MkdirTemp(b.dir, "miniupnpd-")
	if err != nil {
		return nil, err
	}
	chains, config, pid := filepath.Join(dir, "chains.nft"), filepath.Join(dir, "miniupnpd.conf"), filepath.Join(dir, "pid")
	if err := os.WriteFile(chains, []byte(`table inet filter {
	chain miniupnpd { }
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
	chain forward { type filter hook forward priority 0; policy accept; jump miniupnpd; }
	chain prerouting { type nat hook prerouting priority -100; policy accept; jump prerouting_miniupnpd; }
	chain postrouting { type nat hook postrouting priority 100; policy accept; jump postrouting_miniupnpd; }
}
`), 0o644); err != nil {
		return nil, err
	}
	// Its WAN has an address that looks public to it; it refuses those that do not.
	if err := os.WriteFile(config, []byte(`ext_ifname=wan
ext_ip=11.22.33.44
listening_ip=lan
port=5555
enable_natpmp=yes
enable_upnp=yes
secure_mode=no
uuid=5b9ff5d0-1e2e-4a57-9b3c-0d6a6c3d3b6e
serial=1
force_igd_desc_v1=yes
allow 1024-65535 0.0.0.0/0 1024-65535
`), 0o644); err != nil {
		return nil, err
	}
	if out, err := g.Command(ctx, "nft", "-f", chains).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("nft: %w: %s", err, out)
	}
	if out, err := g.Command(ctx, miniupnpdName, "-f", config, "-P", pid).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("miniupnpd: %w: %s", err, out)
	}
	for range 100 {
		text, err := os.ReadFile(pid)
		id, bad := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil && bad == nil {
			time.Sleep(200 * time.Millisecond) // it has written that before its sockets are open
			return func() { _ = syscall.Kill(id, syscall.SIGTERM) }, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("miniupnpd does not start")
}
