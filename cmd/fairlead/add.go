package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/forward"
)

func newAdd(g *globals) *cobra.Command {
	var s specFlags
	cmd := &cobra.Command{
		Use:   "add NAME LISTEN TO... [flags]",
		Short: "Add a forward to the running daemon",
		Long: `Add a forward to the running daemon, or change one that was added before. The daemon keeps it across restarts until
"fairlead rm" takes it out; forwards of the file are changed in the file.

LISTEN and TO are written as in "fairlead forward".`,
		Example: `  fairlead add web 80 192.168.1.10:8080
  fairlead add rdp-anna 3389 192.168.1.21:3389 --from 198.51.100.0/24
  fairlead add demo 8080 :3000 --expires 2h
  fairlead add db 127.0.0.1:5432 db.internal:5432 --via bastion`,
		Args:              cobra.MinimumNArgs(3),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, spec, err := s.forward(args[0], forward.OriginAPI, args[1], args[2:], time.Now())
			if err != nil {
				return err
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			f, err := c.Put(cmd.Context(), args[0], spec)
			if err != nil {
				return err
			}
			line := f.Name + ": " + arrow(f.Listen, f.To)
			switch f.State {
			case "failed":
				return advise(fmt.Errorf("%s was added, but fails now: %s", line, plain(f.Detail)),
					"it is tried again until it works; `fairlead rm "+f.Name+"` takes it out")
			case "up":
				line += "  " + carriedBy(f.Carried, f.Why)
			default:
				line += "  " + f.State
			}
			if f.Detail != "" {
				line += " (" + plain(f.Detail) + ")"
			}
			fmt.Fprintln(cmd.OutOrStdout(), line)
			return nil
		},
	}
	s.register(cmd, "declared in the daemon's file")
	return cmd
}
