package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfirm(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "confirm",
		Short: "Keep what was applied with --confirm",
		Long:  `Keep what "fairlead apply --confirm" has applied; without it in time, the daemon goes back.`,
		Example: `  fairlead apply --confirm 60s
  fairlead confirm`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			if err := c.Confirm(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "confirmed")
			return nil
		},
	}
}
