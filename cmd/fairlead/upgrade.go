package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/relay"
)

// checkTime is how long the new program may take to show that it can stand in, and upgradeTime how long it may take to
// answer at the control socket then.
const (
	checkTime   = 30 * time.Second
	upgradeTime = time.Minute
)

func newUpgrade(g *globals) *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use:   "upgrade [--binary PATH]",
		Short: "Replace the running daemon by another version of the program, without losing a connection",
		Long: `Replace the running daemon by the program of this command, or by another one. The new program is first asked whether it
understands the configuration and what the daemon will leave to it; if it does not, nothing changes.

Listening sockets and the sessions of the relay go over to the new program as they are: clients that connect meanwhile wait
for a moment, none is refused, and no session ends, but for those over SSH: connections of nodes are made anew, and clients of
the SSH server have to come again. Sessions over a hub or an agent go on, too. The process keeps its number. Kernel forwards are
not touched at all.`,
		Example: `  sudo fairlead upgrade
  fairlead upgrade --binary /opt/fairlead/bin/fairlead`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if binary == "" {
				own, err := os.Executable()
				if err != nil {
					return fmt.Errorf("this program's own path: %w", err)
				}
				binary = own
			}
			path, err := filepath.Abs(binary)
			if err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			now, err := upgrade(cmd.Context(), c, path)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the daemon is now %s (process %d)\n", now.Version, now.PID)
			return nil
		},
	}
	cmd.Flags().StringVar(&binary, "binary", "", "the `program` to run (default: the one of this command)")
	return cmd
}

// upgrade asks for it and waits until the new program answers.
func upgrade(ctx context.Context, c *api.Client, binary string) (api.Version, error) {
	before, err := c.Version(ctx)
	if err != nil {
		return before, err
	}
	if err := c.Upgrade(ctx, binary); err != nil {
		return before, err
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeTime)
	defer cancel()
	for {
		if now, err := c.Version(ctx); err == nil && !now.Started.Equal(before.Started) {
			return now, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return before, advise(errors.New("the new program does not answer"), "see the daemon's log")
		}
	}
}

// A program is what `fairlead version --json` says of one.
type program struct {
	Version  string `json:"version"`
	Handover int    `json:"handover"` // the format of what it takes over and leaves; 0 is none
}

// canTakeOver asks a program whether it can stand in for this one.
func canTakeOver(ctx context.Context, binary, file string) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "version", "--json").Output()
	if err != nil {
		return refuseUpgrade(binary, "it does not run as the daemon's user: %w", withStderr(err))
	}
	var p program
	if err := json.Unmarshal(out, &p); err != nil {
		return refuseUpgrade(binary, "it does not say what it can take over")
	}
	if p.Handover != relay.HandoverFormat || !relay.CanHandOver {
		return refuseUpgrade(binary, "version %s takes over format %d and this daemon leaves %d", p.Version, p.Handover, handoverFormat())
	}
	if file == "" {
		return nil
	}
	if _, err := exec.CommandContext(ctx, binary, "check", "-c", file).Output(); err != nil {
		return refuseUpgrade(binary, "it does not accept %s: %w", file, withStderr(err))
	}
	return nil
}

func refuseUpgrade(binary, format string, args ...any) error {
	return advise(fmt.Errorf("%s cannot stand in: "+format, append([]any{binary}, args...)...),
		"the daemon runs on as before; restart it to change to this program, which ends the relay's sessions unless it understands them")
}

// withStderr adds what a program said before it failed.
func withStderr(err error) error {
	if exit := new(exec.ExitError); errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}

// handoverFormat is what this program takes over and leaves.
func handoverFormat() int {
	if relay.CanHandOver {
		return relay.HandoverFormat
	}
	return 0
}

// successor is the program that goes on where the daemon stops.
type successor struct {
	binary string
	args   []string
}

// upgradeTo has the daemon end in favour of another program, if that can stand in.
func (d *daemon) upgradeTo(ctx context.Context, binary string) error {
	if err := canTakeOver(ctx, binary, d.server.Version.File); err != nil {
		return err
	}
	d.settings.hub.awaitThaw(ctx) // of an upgrade just before
	d.log.Info("upgrading", "program", binary)
	d.tell(reloading())
	d.relay.Leave()
	d.next.Store(&binary)
	return nil
}
