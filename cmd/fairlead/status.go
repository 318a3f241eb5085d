package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

func newStatus(g *globals) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status [NAME...] [--json] [--watch]",
		Short: "Show every forward: state, carrier and why, sessions, bytes",
		Long: `Show what the daemon carries: the state of each forward, what carries it and why, its sessions and the bytes in (to the
target) and out (to the clients). What needs attention stands on a line below, and at the end what is wrong with the gateway,
the port-mapping server and the SSH server of this host. Of forwards that are named and have several targets, or a check, each
target has a line, too. With --json the forwards are "forwards", and the rest is "problems".`,
		Example: `  fairlead status
  fairlead status web game --watch
  fairlead status --json | jq -r '.forwards[] | select(.state == "failed") | .name'`,
		ValidArgsFunction: completeForwards(g, false),
		RunE: func(cmd *cobra.Command, names []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			show := func(w io.Writer) error {
				list, err := c.Status(cmd.Context(), names...)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(w, struct {
						Forwards []api.Forward `json:"forwards"`
						Problems []string      `json:"problems"`
					}{list, problems(cmd.Context(), c)})
				}
				if err := printStatus(w, list, names); err != nil || len(names) > 0 {
					return err
				}
				return printProblems(cmd.Context(), c, w)
			}
			if watch {
				return repeat(cmd.Context(), cmd.OutOrStdout(), show)
			}
			return show(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second")
	return cmd
}

// printStatus shows each target of a forward, too, when forwards are named: of many forwards that would be too much.
func printStatus(w io.Writer, list []api.Forward, names []string) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "there are no forwards; `fairlead add` adds one, or `fairlead apply` a file of them")
		return err
	}
	g := newGrid("NAME", "STATE", "LISTEN", "TO", "CARRIED", "OPEN", "TOTAL", "REFUSED", "IN", "OUT", "WHY")
	for _, f := range list {
		carried := f.Carried
		if carried == "" {
			carried = "-"
		}
		c := f.Connections
		g.row(f.Name, f.State, f.Listen, strings.Join(f.To, ", "), carried, strconv.Itoa(c.Open), strconv.FormatUint(c.Total, 10),
			strconv.FormatUint(c.Refused, 10), humanBytes(f.Bytes.In), humanBytes(f.Bytes.Out), plain(f.Why))
		if f.Detail != "" {
			g.note(plain(f.Detail))
		}
		if f.Published != nil {
			notePublished(g, *f.Published)
		}
		if len(names) > 0 {
			noteTargets(g, f.Targets)
		}
		if f.Expires != nil {
			g.note("expires " + f.Expires.Local().Format("2006-01-02 15:04:05"))
		}
	}
	return g.print(w)
}

// problems is what is wrong that is no forward's fault. A daemon of before does not know.
func problems(ctx context.Context, c *api.Client) []string {
	list, err := c.Problems(ctx)
	if err != nil || list == nil {
		return []string{} // what was asked for is shown all the same
	}
	return list
}

// printProblems says what is wrong that is no forward's fault.
func printProblems(ctx context.Context, c *api.Client, w io.Writer) error {
	for _, p := range problems(ctx, c) {
		if _, err := fmt.Fprintln(w, "problem: "+plain(p)); err != nil {
			return err
		}
	}
	return nil
}

// notePublished puts lines for what gateways upstream have done, and what is wrong.
func notePublished(g *grid, p api.Published) {
	for _, line := range publishedLines(p) {
		g.note("published: " + line)
	}
}

// noteTargets puts a line for each target under a forward.
func noteTargets(g *grid, targets []api.Target) {
	for _, t := range targets {
		line := fmt.Sprintf("target %s: %s, %d open", plain(t.Target), t.State, t.Open)
		if t.Since != nil {
			line += ", since " + t.Since.Local().Format(time.DateTime)
		}
		if t.Why != "" {
			line += ": " + plain(t.Why)
		}
		g.note(line)
	}
}

// repeat shows something every second until ctx ends, on a terminal in place of what was there before.
func repeat(ctx context.Context, w io.Writer, show func(io.Writer) error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	live := isTerminal(w)
	for {
		var page bytes.Buffer
		if live {
			page.WriteString("\x1b[H\x1b[J") // ECMA-48: cursor home, erase to the end of the screen
		}
		err := show(&page)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(page.Bytes()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
