package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

const (
	loopback  = "127.0.0.1"
	theCipher = "aes128-gcm@openssh.com" // Fairlead's first choice; OpenSSH's own is the slower one below on this kind of processor
	ownCipher = "chacha20-poly1305@openssh.com"
	sshEnds   = 3 // at most: OpenSSH, fairlead, and the one beside it
)

// An end is a program that can be either side of an SSH connection.
type end struct {
	name    string
	port    int // of its servers
	connect func(ctx context.Context, b *bench, s *sshField, at *netlab.Node, t tunnel) (*runningRelay, error)
	serve   func(ctx context.Context, b *bench, s *sshField, at *netlab.Node, addr string, port int) (*runningRelay, error)
	err     error // why its servers do not run
}

// sshServers starts the servers of every end on both hosts, with the delay before those on the server host, and says who is measured.
func (b *bench) sshServers(ctx context.Context, h *harness, s *sshField) []*pair {
	openssh := &end{name: "openssh", connect: connectOpenSSH, serve: serveOpenSSH}
	ends := []*end{openssh}
	for _, e := range []struct{ name, program string }{{"fairlead", b.fairlead}, {besideName, b.beside}} {
		if e.program != "" {
			ends = append(ends, &end{name: e.name, connect: connectFairlead(e.program), serve: serveFairlead(e.program)})
		}
	}
	var slowed []delayed
	for i, e := range ends {
		e.port = opensshPort + i
		slowed = append(slowed, delayed{hostPort(s.g.back, delayPort+i), hostPort(s.g.target, e.port), delayEach})
		for _, at := range []struct {
			node *netlab.Node
			addr string
		}{{s.server, s.g.target}, {s.g.Node, s.g.back}} {
			running, err := e.serve(ctx, b, s, at.node, at.addr, e.port)
			if err != nil {
				e.err = err
				break
			}
			h.Cleanup(running.stop)
		}
	}
	b.delay(h, s.g.Node, slowed)
	pairs := []*pair{
		{name: theBaseline, client: openssh, server: openssh},
		{name: theBaseline + ", " + ownCipher, client: openssh, server: openssh, cipher: ownCipher},
	}
	for _, e := range ends[1:] {
		pairs = append(pairs,
			&pair{name: e.name + "/openssh", client: e, server: openssh},
			&pair{name: "openssh/" + e.name, client: openssh, server: e},
			&pair{name: e.name + "/" + e.name, client: e, server: e})
	}
	return pairs
}

// serveOpenSSH starts sshd, which takes either cipher.
func serveOpenSSH(ctx context.Context, b *bench, s *sshField, at *netlab.Node, addr string, port int) (*runningRelay, error) {
	program, err := exec.LookPath("sshd") // it starts itself anew, and wants to know its path for that
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where Debian's confines itself to; made by its service elsewhere
		return nil, err
	}
	file := filepath.Join(b.dir, "sshd-"+at.String()+".conf")
	config := fmt.Sprintf(`ListenAddress %s
Port %d
HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
GatewayPorts clientspecified
Ciphers %s,%s
Compression no
UseDNS no
LogLevel ERROR
`, addr, port, s.keys.host, s.keys.authorized, theCipher, ownCipher)
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return startListening(ctx, at, at.Command(context.Background(), program, "-D", "-e", "-f", file), port, 1)
}

// connectOpenSSH starts ssh.
func connectOpenSSH(ctx context.Context, b *bench, s *sshField, at *netlab.Node, t tunnel) (*runningRelay, error) {
	host, port, err := net.SplitHostPort(t.server)
	if err != nil {
		return nil, err
	}
	cipher := theCipher
	if t.cipher != "" {
		cipher = t.cipher
	}
	args := []string{"-F", "none", "-N", "-T", "-c", cipher, "-i", s.keys.identity, "-p", port}
	for _, option := range []string{
		"BatchMode=yes", "StrictHostKeyChecking=yes", "UserKnownHostsFile=" + s.keys.known, "GlobalKnownHostsFile=none", "IdentitiesOnly=yes",
		"IdentityAgent=none", "ControlMaster=no", "ControlPath=none", "Compression=no", "ExitOnForwardFailure=yes", "LogLevel=ERROR",
	} {
		args = append(args, "-o", option)
	}
	for _, r := range t.local {
		args = append(args, "-L", r.listen+":"+r.to)
	}
	for _, r := range t.remote {
		args = append(args, "-R", r.listen+":"+r.to)
	}
	if t.dynamic != "" {
		args = append(args, "-D", t.dynamic)
	}
	p, err := at.StartCommand(at.Command(context.Background(), "ssh", append(args, "root@"+host)...))
	if err != nil {
		return nil, err
	}
	return &runningRelay{p, func() { _ = p.Stop() }}, nil
}

// serveFairlead starts "fairlead up" with an SSH server.
func serveFairlead(program string) func(context.Context, *bench, *sshField, *netlab.Node, string, int) (*runningRelay, error) {
	return func(ctx context.Context, b *bench, s *sshField, at *netlab.Node, addr string, port int) (*runningRelay, error) {
		config := fmt.Sprintf("[sshd]\nlisten = %q\nauthorized_keys = %q\nhost_keys = %q\ngateway_ports = \"clientspecified\"\n",
			hostPort(addr, port), s.keys.authorized, s.keys.host)
		d, err := b.upProgram(ctx, program, at, config)
		if err != nil {
			return nil, err
		}
		return &runningRelay{d.Process, func() { _ = d.Stop() }}, nil
	}
}

// connectFairlead starts "fairlead up" with a node and forwards there. Of the ciphers it prefers the one that all use.
func connectFairlead(program string) func(context.Context, *bench, *sshField, *netlab.Node, tunnel) (*runningRelay, error) {
	return func(ctx context.Context, b *bench, s *sshField, at *netlab.Node, t tunnel) (*runningRelay, error) {
		d, err := b.upProgram(ctx, program, at, nodeForwards(s.keys, t))
		if err != nil {
			return nil, err
		}
		return &runningRelay{d.Process, func() { _ = d.Stop() }}, nil
	}
}

// nodeForwards is a fairlead.toml for a tunnel.
func nodeForwards(keys sshKeys, t tunnel) string {
	text := fmt.Sprintf("[node.there]\nssh = \"root@%s\"\nidentity = %q\nknown_hosts = %q\nconfig = \"none\"\nagent = \"none\"\n",
		t.server, keys.identity, keys.known)
	for i, r := range t.local {
		text += fmt.Sprintf("[forward.local%d]\nlisten = %q\nto = %q\nvia = \"there\"\n", i, r.listen, r.to)
	}
	for i, r := range t.remote {
		text += fmt.Sprintf("[forward.remote%d]\nlisten = %q\nto = %q\nat = \"there\"\n", i, r.listen, r.to)
	}
	if t.dynamic != "" {
		text += fmt.Sprintf("[forward.dynamic]\nlisten = %q\nto = \"socks\"\nvia = \"there\"\n", t.dynamic)
	}
	return text
}

// absent is the first of the programs that is not installed, or "".
func absent(names ...string) string {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return name
		}
	}
	return ""
}
