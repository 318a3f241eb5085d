package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/sshnode"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// foregroundName is the name of the one forward of `fairlead forward`.
const foregroundName = "forward"

func newForward(g *globals) *cobra.Command {
	var s specFlags
	cmd := &cobra.Command{
		Use:   "forward LISTEN TO... [flags]",
		Short: "Forward a port, now, until Ctrl-C",
		Long: `Forward what arrives at LISTEN to TO until Ctrl-C, without a daemon or a file. Ports above 1023 need no root; as root the
kernel carries what it can.

LISTEN is [tcp/|udp/|tcp+udp/][ADDRESS:]PORTS, tcp when left out; PORTS is a port, a range, a list or *. Or unix:/PATH.
TO is HOST[:PORT], :PORT for a port of this host, or unix:/PATH. Without a port it is the one that the client came to. Or it is a
proxy, "socks", "http" or "proxy" for both: each client says where it goes.`,
		Example: `  fairlead forward 8080 127.0.0.1:80
  fairlead forward tcp+udp/27015-27030 192.168.1.20
  fairlead forward 127.0.0.1:5432 db.example.com:5432 --max-connections 20
  fairlead forward 127.0.0.1:5432 db.internal:5432 --via deploy@bastion.example.com
  fairlead forward 8080 127.0.0.1:3000 --at deploy@server.example.com
  fairlead forward 127.0.0.1:1080 socks --via bastion
  fairlead forward 8443 10.0.0.1:443 10.0.0.2:443 --balance round-robin --expires 2h
  fairlead forward 127.0.0.1:1080 socks`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			nodes := s.destinations()
			f, _, err := s.forward(foregroundName, forward.OriginCLI, args[0], args[1:], time.Now())
			if err != nil {
				return err
			}
			if err := errors.Join(config.CheckNodes(f, config.Settings{Nodes: nodes}), config.CheckUsers(f, nil), config.CheckProvider(f, config.OIDC{})); err != nil {
				return &usageError{err: err, hint: cmp.Or(config.Hint(err), hintFor(err))}
			}
			screen := newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr())
			log, err := g.logger(screen, slog.LevelError)
			if err != nil {
				return err
			}
			// A terminal that is closed ends the command as Ctrl-C does: nobody would see it run on.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
			defer stop()
			return runForward(ctx, f, nodes, screen, log)
		},
	}
	s.register(cmd, "an SSH server such as deploy@bastion.example.com:2222 or an alias of ~/.ssh/config")
	return cmd
}

// destinations makes nodes of the SSH servers that --at and --via name, and has them name the nodes.
func (s *specFlags) destinations() []node.Spec {
	var list []node.Spec
	for _, field := range []*string{&s.spec.At, &s.spec.Via} {
		target := *field
		if target == "" || target == forward.Host {
			continue
		}
		*field = strings.Trim(strings.Map(nameRune, target), "-._")
		if !slices.ContainsFunc(list, func(n node.Spec) bool { return n.Name == *field }) {
			list = append(list, node.Spec{Name: *field, SSH: &node.SSH{Target: target}})
		}
	}
	slices.SortFunc(list, func(a, b node.Spec) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// runForward carries f until ctx ends or f expires, and leaves nothing behind.
func runForward(ctx context.Context, f *forward.Forward, nodes []node.Spec, screen *screen, log *slog.Logger) error {
	if err := dropPrivileges(log, target{}); err != nil {
		return err
	}
	cleanStale(log)
	e := newEngine(engineOptions{
		nftables: kernel.ForegroundTable(), store: store.Memory(), node: sshnode.Options{Ask: askTerminal()}, log: log,
	})
	e.settings.settle(config.Settings{Nodes: nodes})
	// The engine outlives ctx: it has to take its rules away yet.
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	tasks, running := errgroup.WithContext(running)
	tasks.Go(func() error { return e.run(running) })
	tasks.Go(func() error {
		defer end()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(running, stop)()
		err := watchForward(ctx, e, f, screen)
		screen.clear()
		return errors.Join(err, e.table.Down(context.WithoutCancel(ctx)))
	})
	return tasks.Wait()
}

// watchForward starts f, says how it is carried, and shows what passes until ctx ends or f expires.
func watchForward(ctx context.Context, e *engine, f *forward.Forward, screen *screen) error {
	select {
	case <-e.table.Ready():
	case <-ctx.Done():
		return nil
	}
	st, err := e.table.Put(ctx, f)
	if ctx.Err() != nil {
		return nil // ended by the user, or by the engine, which says why
	}
	if err != nil {
		return err
	}
	if st.State == forward.StateFailed {
		shown := api.ForwardOf(st)
		return advise(fmt.Errorf("%s: %s", arrow(shown.Listen, shown.To), shown.Detail), failedHint(f))
	}
	screen.print(stateLine(st))

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var expired <-chan time.Time
	if !f.Expires.IsZero() {
		expired = time.After(time.Until(f.Expires))
	}
	before, last := st, time.Now()
	published := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-expired:
			screen.print("expired")
			return nil
		case now := <-tick.C:
			for _, st := range e.table.Snapshot() { // there is one
				if st.State != before.State {
					screen.print(stateLine(st))
				}
				if state, ok := e.router.publisher.State(f.Name); ok {
					now := strings.Join(publishedLines(api.PublishedOf(state)), "\n")
					if now != published {
						screen.print(now)
					}
					published = now
				}
				screen.update(liveLine(st, before.Stats, now.Sub(last)))
				before, last = st, now
			}
		}
	}
}

// stateLine says how a forward is doing: "tcp/8080 -> 127.0.0.1:80  carried by relay: the target is on loopback".
func stateLine(st table.Status) string {
	shown := api.ForwardOf(st)
	line := arrow(shown.Listen, shown.To) + "  "
	if st.State == forward.StateUp {
		line += carriedBy(shown.Carried, shown.Why)
	} else {
		line += shown.State
	}
	if shown.Detail != "" {
		line += " (" + plain(shown.Detail) + ")"
	}
	return line
}

// failedHint says what would help a forward that did not come up.
func failedHint(f *forward.Forward) string {
	if table.Plan(f, look()).Err != nil {
		return "what needs the kernel needs root and a kernel with nf_tables; `sudo fairlead forward …`, or leave that wish out"
	}
	for _, r := range f.Listen.Ports.Ranges {
		if r.First < 1024 && os.Geteuid() != 0 {
			return "ports below 1024 need root; " + otherPort
		}
	}
	return otherPort
}

const otherPort = "another LISTEN may do, such as 8080; `ss -tulpn` shows who listens where"

// cleanStale takes away what forwards have left in the kernel whose process was killed.
func cleanStale(log *slog.Logger) {
	if look().Unusable != "" {
		return
	}
	if _, err := kernel.CleanStale(log); err != nil {
		log.Warn("rules of forwards that were killed cannot be looked for", "err", err)
	}
}
