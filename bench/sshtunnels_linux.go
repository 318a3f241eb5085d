package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A tunnel is what an SSH client is to forward.
type tunnel struct {
	server  string  // address and port
	local   []route // -L
	remote  []route // -R
	dynamic string  // -D; "": none
	cipher  string  // "": theCipher
}

type route struct{ listen, to string }

// startTunnels starts the tunnels of a pair, if its servers run, and waits until they carry.
func (b *bench) startTunnels(ctx context.Context, h *harness, s *sshField, p *pair) {
	here := tunnel{server: hostPort(s.g.target, p.server.port), cipher: p.cipher, dynamic: hostPort(loopback, p.base+dynamicPort)}
	back := tunnel{server: hostPort(s.g.back, p.server.port), cipher: p.cipher}
	slow := tunnel{server: hostPort(s.g.back, delayPort+p.server.port-opensshPort), cipher: p.cipher}
	for _, port := range tunnelled {
		to, at := hostPort(s.g.target, port), p.base+port-load.BasePort
		here.local = append(here.local, route{hostPort(s.g.front, at), to})
		back.remote = append(back.remote, route{hostPort(s.g.front, at+remotePorts), to})
		slow.local = append(slow.local, route{hostPort(s.g.front, at+slowPorts), to})
	}
	for i, t := range [tunnelKinds]struct {
		tunnel
		at *netlab.Node
	}{fromHere: {here, s.g.Node}, fromThere: {back, s.server}, late: {slow, s.g.Node}} {
		if p.errs[i] = p.server.err; p.errs[i] != nil || late == i && p.cipher != "" {
			continue
		}
		running, err := p.client.connect(ctx, b, s, t.at, t.tunnel)
		if err == nil {
			h.Cleanup(running.stop)
			err = b.comesUp(ctx, s.field, running, slices.Concat(t.local, t.remote)[0].listen) // the first is the echo port's
		}
		p.errs[i] = err
	}
}

// comesUp waits until an exchange comes about at an address of a tunnel that leads to the echo port.
func (b *bench) comesUp(ctx context.Context, f *field, r *runningRelay, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		_, err := b.load(ctx, f.client, load.Spec{Kind: load.Hold, Targets: []string{addr}, Workers: 1, Size: 64})
		if err == nil {
			return nil
		}
		select {
		case <-r.process.Done():
			return fmt.Errorf("it has ended: %s", tail(r.process.Output()))
		case <-ctx.Done():
			return fmt.Errorf("%s leads nowhere: %w: %s", addr, err, tail(r.process.Output()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// sshKeys are files: those of a user and of a server, one pair for all.
type sshKeys struct {
	identity, authorized, host, known string
}

// makeKeys makes them, and lists every address of an SSH server as one that has the host key.
func (b *bench) makeKeys(ctx context.Context, g *gateway) (k sshKeys, err error) {
	var addresses []string
	for i := range sshEnds {
		addresses = append(addresses, hostPort(g.target, opensshPort+i), hostPort(g.back, opensshPort+i), hostPort(g.back, delayPort+i))
	}
	return b.keysFor(ctx, g.Node, addresses)
}

// keysFor makes them for servers at these addresses.
func (b *bench) keysFor(ctx context.Context, at *netlab.Node, addresses []string) (k sshKeys, err error) {
	dir, err := os.MkdirTemp(b.dir, "keys-")
	if err != nil {
		return k, err
	}
	k = sshKeys{filepath.Join(dir, "id"), filepath.Join(dir, "id.pub"), filepath.Join(dir, "host"), filepath.Join(dir, "known_hosts")}
	for _, file := range []string{k.identity, k.host} {
		if out, err := at.Command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
			return k, fmt.Errorf("ssh-keygen: %w: %s", err, tail(string(out)))
		}
	}
	public, err := os.ReadFile(k.host + ".pub")
	if err != nil {
		return k, err
	}
	known := ""
	for _, addr := range addresses {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return k, err
		}
		known += fmt.Sprintf("[%s]:%s %s\n", host, port, strings.TrimSpace(string(public)))
	}
	return k, os.WriteFile(k.known, []byte(known), 0o644)
}
