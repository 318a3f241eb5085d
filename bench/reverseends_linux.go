package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// twoEnds starts a hub, waits until it listens, and starts its agent.
func twoEnds(ctx context.Context, s *reverseField, base int, hub, agent *exec.Cmd) (*runningRelay, error) {
	running, err := startListening(ctx, s.g.Node, hub, base+hubPort, 1)
	if err != nil {
		return nil, err
	}
	p, err := s.server.StartCommand(agent)
	if err != nil {
		running.stop()
		return nil, err
	}
	return withAgent(running, p), nil
}

// withAgent has an agent stopped along with its hub.
func withAgent(r *runningRelay, agent *netlab.Process) *runningRelay {
	return &runningRelay{r.process, func() { _ = agent.Stop(); r.stop() }}
}

// startFRP starts both with what they are when nothing is said: TLS, one TCP connection for all.
func startFRP(ctx context.Context, b *bench, s *reverseField, base int) (*runningRelay, error) {
	dir, err := os.MkdirTemp(b.dir, "frp-")
	if err != nil {
		return nil, err
	}
	common := "auth.token = \"the same for both\"\nlog.level = \"error\"\n"
	hub := fmt.Sprintf("bindAddr = %q\nbindPort = %d\nproxyBindAddr = %q\n", s.g.back, base+hubPort, s.g.front) + common
	agent := fmt.Sprintf("serverAddr = %q\nserverPort = %d\nloginFailExit = false\n", s.g.back, base+hubPort) + common
	proxy := func(kind string, port int) {
		agent += fmt.Sprintf("[[proxies]]\nname = \"%s%d\"\ntype = %q\nlocalIP = %q\nlocalPort = %d\nremotePort = %d\n",
			kind, port, kind, s.g.target, port, base+port-load.BasePort)
	}
	for _, port := range reversed {
		proxy("tcp", port)
	}
	for _, port := range reversedUDP {
		proxy("udp", port)
	}
	files := map[string]string{"frps.toml": hub, "frpc.toml": agent}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return twoEnds(ctx, s, base,
		s.g.Command(context.Background(), b.peer("frps"), "-c", filepath.Join(dir, "frps.toml")),
		s.server.Command(context.Background(), b.peer("frpc"), "-c", filepath.Join(dir, "frpc.toml")))
}

// startChisel starts both.
func startChisel(ctx context.Context, b *bench, s *reverseField, base int) (*runningRelay, error) {
	const login = "bench:the same for both"
	program := b.peer("chisel")
	args := []string{"client", "--auth", login, "http://" + s.hub(base)}
	for _, port := range reversed {
		args = append(args, fmt.Sprintf("R:%s:%s", s.at(base, port), hostPort(s.g.target, port)))
	}
	for _, port := range reversedUDP {
		args = append(args, fmt.Sprintf("R:%s:%s/udp", s.at(base, port), hostPort(s.g.target, port)))
	}
	return twoEnds(ctx, s, base,
		s.g.Command(context.Background(), program, "server", "--reverse", "--auth", login, "--host", s.g.back, "--port", fmt.Sprint(base+hubPort)),
		s.server.Command(context.Background(), program, args...))
}

// startRemote is ssh -R.
func startRemote(ctx context.Context, b *bench, s *reverseField, base int) (*runningRelay, error) {
	ssh := &sshField{s.field, s.g, s.keys}
	hub, err := serveOpenSSH(ctx, b, ssh, s.g.Node, s.g.back, base+hubPort)
	if err != nil {
		return nil, err
	}
	t := tunnel{server: s.hub(base)}
	for _, port := range reversed {
		t.remote = append(t.remote, route{s.at(base, port), hostPort(s.g.target, port)})
	}
	agent, err := connectOpenSSH(ctx, b, ssh, s.server, t)
	if err != nil {
		hub.stop()
		return nil, err
	}
	return withAgent(hub, agent.process), nil
}

// hubConfig and agentConfig are the fairlead.toml of each end.
func hubConfig(s *reverseField, base int) string {
	return fmt.Sprintf("[hub]\nlisten = %q\naddress = %q\n", s.hub(base), s.hub(base))
}

func agentConfig(s *reverseField, base int, transport string) string {
	text := "[agent]\n"
	if transport != "" {
		text += fmt.Sprintf("transports = %q\n", transport)
	}
	forward := func(network string, port int) {
		text += fmt.Sprintf("[forward.%s%d]\nat = \"hub\"\nlisten = \"%s/%s\"\nto = %q\n", network, port, network, s.at(base, port), hostPort(s.g.target, port))
	}
	for _, port := range reversed {
		forward("tcp", port)
	}
	for _, port := range reversedUDP {
		forward("udp", port)
	}
	return text
}

// startHub starts fairlead on both ends, as its documents say. It chooses how to reach the hub, unless a transport is asked for.
func startHub(program, transport string) startReverse {
	return func(ctx context.Context, b *bench, s *reverseField, base int) (*runningRelay, error) {
		hub, err := b.upProgram(ctx, program, s.g.Node, hubConfig(s, base))
		if err != nil {
			return nil, err
		}
		running := &runningRelay{hub.Process, func() { _ = hub.Stop() }}
		token, err := hub.token(ctx, "bench")
		if err != nil {
			running.stop()
			return nil, err
		}
		agent, err := b.upWith(ctx, program, s.server, agentConfig(s, base, transport), func(state string) error {
			out, err := s.server.Command(ctx, program, "join", s.hub(base), token, "--state", state).CombinedOutput()
			if err != nil {
				return fmt.Errorf("fairlead join: %w: %s", err, tail(string(out)))
			}
			return nil
		})
		if err != nil {
			running.stop()
			return nil, err
		}
		return withAgent(running, agent.Process), nil
	}
}

// token makes one that enrols an agent.
func (d *daemon) token(ctx context.Context, name string) (string, error) {
	var out struct{ Token string }
	err := d.ask(ctx, http.MethodPost, "/v1/agents", map[string]any{"name": name, "limits": map[string]any{}}, &out)
	return out.Token, err
}
