package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/hub"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

const (
	crowd      = 1000  // agents on one hub
	crowdPort  = 20000 // where the first of them listens
	crowdBase  = 8900  // of the hub
	atOnce     = 8     // that join at a time
	crowdLimit = 2 * time.Minute
)

// A recruit is an agent that is to be, as JSON on a line of the standard input of the role "agents".
type recruit struct {
	Hub, Token, Transport, Listen string
}

// manyAgents measures a hub that a thousand agents are connected to, each with a port there that nobody uses.
func (b *bench) manyAgents(ctx context.Context, s *reverseField, all []*reverse, notes []string) {
	t := reverseTable("resident memory of the hub, "+thousands(crowd)+" agents", "MB", nil, Target{Row: "fairlead", Max: 150})
	t.Lower = true
	t.Notes = append(t.Notes, "each is enrolled by a token of its own, and has the hub listen at a port; all agents are in one process")
	if !b.wanted(t) {
		return
	}
	once := b.cut(1, 1)
	once.rounds = 1
	var contestants []contestant
	for _, r := range all {
		if r.program != "" {
			contestants = append(contestants, contestant{r.name, func(ctx context.Context) (sample, error) { return b.crowd(ctx, s, r) }})
		}
	}
	once.compare(ctx, t, contestants)
}

// crowd is what a hub of fairlead takes with its agents.
func (b *bench) crowd(ctx context.Context, s *reverseField, r *reverse) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, crowdLimit)
	defer cancel()
	d, err := b.upProgram(ctx, r.program, s.g.Node, hubConfig(s, crowdBase))
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = d.Stop() }()
	cmd := s.server.Command(ctx, b.self, "agents")
	input, err := cmd.StdinPipe()
	if err != nil {
		return sample{}, err
	}
	p, err := s.server.StartCommand(cmd)
	if err != nil {
		return sample{}, err
	}
	defer p.Kill()
	defer input.Close()
	out := json.NewEncoder(input)
	for i := range crowd {
		token, err := d.token(ctx, fmt.Sprintf("agent%d", i))
		if err != nil {
			return sample{}, err
		}
		if err := out.Encode(recruit{s.hub(crowdBase), token, r.transport, hostPort(s.g.front, crowdPort+i)}); err != nil {
			return sample{}, fmt.Errorf("agents: %w: %s", err, tail(p.Output()))
		}
	}
	for strings.Count(p.Output(), "up\n") < crowd {
		select {
		case <-p.Done():
			return sample{}, errors.New("agents: " + tail(p.Output()))
		default:
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return sample{}, fmt.Errorf("%d of %d agents came: %w: %s", strings.Count(p.Output(), "up\n"), crowd, err, tail(p.Output()))
		}
	}
	if err := pause(ctx, settle); err != nil {
		return sample{}, err
	}
	kilobytes, err := sumTree(d.Pid(), resident)
	return sample{value: kilobytes / 1000}, err
}

// agents is the role: it reads recruits, makes an agent of each that listens at the hub, writes "up" for each, and keeps them until
// standard input ends. The process is good for nothing else, and ends with it.
func agents() error {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	places := make(chan struct{}, atOnce)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var r recruit
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("a recruit: %w", err)
		}
		places <- struct{}{}
		running.Go(func() {
			if err := r.serve(ctx, func() { <-places }); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "agent:", err)
			}
		})
	}
	return nil
}

// serve is the agent until ctx ends. It calls joined when the hub listens for it, or does not come to.
func (r recruit) serve(ctx context.Context, joined func()) error {
	joined = sync.OnceFunc(joined)
	defer joined()
	token, err := hub.ParseToken(r.Token)
	if err != nil {
		return err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	identity, err := link.NewIdentity(private)
	if err != nil {
		return err
	}
	options := link.DialOptions{Identity: identity, Hub: []string{r.Hub}, Key: token.Hub, Proxy: link.NoProxy}
	if r.Transport != "" {
		options.Transports = []string{r.Transport}
	}
	dialer, err := link.NewDialer(options)
	if err != nil {
		return err
	}
	first, err := dialer.Redial(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := agent.Enrol(ctx, first, token.Secret(), "", "bench"); err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	h, err := agent.NewHub(agent.HubOptions{Program: "bench", Connect: dialer.Redial})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = h.Run(ctx) })
	for !h.State().Up {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	ln, err := h.Listen(ctx, "tcp", r.Listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Println("up")
	joined()
	<-ctx.Done()
	return nil
}
