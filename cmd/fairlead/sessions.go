package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

func newSessions(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sessions [NAME] [--json]",
		Short: "List live sessions, of the kernel and the relay alike",
		Long:  `List the connections and UDP flows that pass now, of all forwards or of one. "fairlead kill" ends one by its ID.`,
		Example: `  fairlead sessions
  fairlead sessions web --json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeForwards(g, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			list, err := c.Sessions(cmd.Context(), name)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Sessions []api.Session `json:"sessions"`
				}{list})
			}
			return printSessions(cmd.OutOrStdout(), list, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printSessions(w io.Writer, list []api.Session, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "there are no sessions")
		return err
	}
	g := newGrid("ID", "FORWARD", "NETWORK", "CLIENT", "TARGET", "CARRIED", "AGE", "IN", "OUT")
	for _, s := range list {
		g.row(s.ID, s.Forward, s.Network, plain(s.Client), plain(s.Target), s.Carried, humanAge(s.Since, now),
			humanBytes(s.Bytes.In), humanBytes(s.Bytes.Out))
	}
	return g.print(w)
}
