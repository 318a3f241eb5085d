package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

func newKill(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "kill ID...",
		Short: "End sessions",
		Long:  `End single sessions by the ID that "fairlead sessions" shows. The forward stays, and the client may come again.`,
		Example: `  fairlead sessions web
  fairlead kill r17`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return completeFrom(g, cmd, func(ctx context.Context, c *api.Client) (ids []string, err error) {
				list, err := c.Sessions(ctx, "")
				for _, s := range list {
					ids = append(ids, cobra.CompletionWithDesc(s.ID, s.Forward+" "+s.Client))
				}
				return ids, err
			})
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			return eachOf(ids, func(id string) error {
				if err := c.Kill(cmd.Context(), id); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), id, "ended")
				return nil
			})
		},
	}
}

// eachOf does something for each of several arguments; one that fails does not stop the rest.
func eachOf(args []string, do func(string) error) error {
	var errs []error
	for _, arg := range args {
		if err := do(arg); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
