package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
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
TO is HOST[:PORT], :PORT for a port of this host, or unix:/PATH. Without a port it is the one that the client came to.`,
		Example: `  fairlead forward 8080 127.0.0.1:80
  fairlead forward tcp+udp/27015-27030 192.168.1.20
  fairlead forward 127.0.0.1:5432 db.example.com:5432 --max-connections 20
  fairlead forward 8443 10.0.0.1:443 10.0.0.2:443 --balance round-robin --expires 2h`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, _, err := s.forward(foregroundName, forward.OriginCLI, args[0], args[1:], time.Now())
			if err != nil {
				return err
			}
			screen := newScreen(cmd.OutOrStdout(), cmd.ErrOrStderr())
			log, err := g.logger(screen, slog.LevelWarn)
			if err != nil {
				return err
			}
			// A terminal that is closed ends the command as Ctrl-C does: nobody would see it run on.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP)
			defer stop()
			return runForward(ctx, f, screen, log)
		},
	}
	s.register(cmd)
	return cmd
}

// runForward carries f until ctx ends or f expires, and leaves nothing behind.
func runForward(ctx context.Context, f *forward.Forward, screen *screen, log *slog.Logger) error {
	if err := dropPrivileges(log, target{}); err != nil {
		return err
	}
	cleanStale(log)
	e := newEngine(kernel.ForegroundTable(), store.Memory(), log)
	ctx, end := context.WithCancel(ctx)
	defer end()
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error {
		defer end()
		return e.run(ctx)
	})
	tasks.Go(func() error {
		defer end()
		return watchForward(ctx, e, f, screen)
	})
	err := tasks.Wait()
	screen.clear()
	// Only now that nothing applies any more: the rules would come back otherwise.
	return errors.Join(err, clearKernel(e.kernel))
}

// watchForward starts f, says how it is carried, and shows what passes until ctx ends or f expires.
func watchForward(ctx context.Context, e *engine, f *forward.Forward, screen *screen) error {
	st, err := e.table.Put(ctx, f)
	if ctx.Err() != nil {
		return nil // ended by the user, or by the engine, which says why
	}
	if err != nil {
		return err
	}
	shown := api.ForwardOf(st)
	line := arrow(shown.Listen, shown.To)
	switch st.State {
	case forward.StateFailed:
		return advise(fmt.Errorf("%s: %s", line, shown.Detail), failedHint(f))
	case forward.StateUp:
		line += "  " + carriedBy(shown.Carried, shown.Why)
	default:
		line += "  " + st.State.String()
	}
	if shown.Detail != "" {
		line += " (" + shown.Detail + ")"
	}
	screen.print(line)

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var expired <-chan time.Time
	if !f.Expires.IsZero() {
		expired = time.After(time.Until(f.Expires))
	}
	var before forward.Stats
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-expired:
			screen.print("expired")
			return nil
		case now := <-tick.C:
			if !screen.live {
				continue
			}
			for _, st := range e.table.Snapshot() {
				screen.update(liveLine(st.State, st.Detail, st.Stats, before, now.Sub(last)))
				before, last = st.Stats, now
			}
		}
	}
}

func failedHint(f *forward.Forward) string {
	for _, r := range f.Listen.Ports.Ranges {
		if r.First < 1024 && os.Geteuid() != 0 {
			return "ports below 1024 need root; " + otherPort
		}
	}
	return otherPort
}

const otherPort = "another LISTEN may do, such as 8080; `ss -tulpn` shows who listens where"

// clearKernel takes the rules away; where there can be none, there is nothing to do.
func clearKernel(c *kernel.Carrier) error {
	if kernel.Probe().Unusable != "" {
		return nil
	}
	return c.Clear()
}

// cleanStale takes away what forwards have left in the kernel whose process was killed.
func cleanStale(log *slog.Logger) {
	if kernel.Probe().Unusable != "" {
		return
	}
	if _, err := kernel.CleanStale(log); err != nil {
		log.Warn("rules of forwards that were killed cannot be looked for", "err", err)
	}
}
