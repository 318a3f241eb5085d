package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/firewall"
	"github.com/fairlead-net/fairlead/kernel"
)

func newDown(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End the daemon and take its rules away",
		Long: `Take everything away that Fairlead carries, in the kernel too, and end the daemon. Where no daemon runs, take away the rules
that one has left behind, and those of "fairlead forward" commands that were killed.

To end the daemon and let the kernel go on carrying, as for an upgrade, send it SIGTERM.`,
		Example:           `  fairlead down`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := g.logger(cmd.ErrOrStderr(), slog.LevelWarn)
			if err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			err = c.Down(cmd.Context())
			away := new(api.UnreachableError)
			switch {
			case err == nil:
				fmt.Fprintln(cmd.OutOrStdout(), "the daemon has ended and its rules are gone")
			case errors.As(err, &away) && away.NotRunning():
				state, err := g.stateDir()
				if err != nil {
					return err
				}
				return sweep(cmd.OutOrStdout(), away, state, log)
			default:
				return err
			}
			return nil
		},
	}
}

// sweep removes what a daemon that runs no more has left in the kernel. In its state directory it has noted what settings it changed.
func sweep(w io.Writer, away error, state string, log *slog.Logger) error {
	if reason := look().Unusable; reason != "" {
		return advise(fmt.Errorf("%w; and whether it left rules behind cannot be told: %s", away, reason), "run this as root where the daemon ran as root")
	}
	if _, err := kernel.CleanStale(log); err != nil {
		return fmt.Errorf("taking the rules of killed forwards away: %w", err)
	}
	if err := kernel.New(kernel.Options{Log: log}).Clear(); err != nil {
		return fmt.Errorf("taking the rules away: %w", err)
	}
	gateway := kernel.NewGateway(kernel.GatewayOptions{StateDir: state, Log: log})
	if err := errors.Join(gateway.Clear(), gateway.Close()); err != nil {
		return fmt.Errorf("taking the gateway away: %w", err)
	}
	if err := kernel.NewKeep(kernel.Options{Log: log}).Release(); err != nil {
		return fmt.Errorf("taking the routing for clients' addresses away: %w", err)
	}
	if err := clearFirewalls(firewall.New(firewall.Options{Log: log})); err != nil {
		return fmt.Errorf("taking the rules in other firewalls away: %w", err)
	}
	fmt.Fprintln(w, "no daemon runs; there are no rules left")
	return nil
}
