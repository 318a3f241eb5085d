package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRemove(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME...",
		Short:             "Remove forwards that were added",
		Long:              `Remove forwards that "fairlead add" has added. Their sessions end. Forwards of the file are taken out of the file.`,
		Example:           `  fairlead rm web`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeForwards(g, false),
		RunE: func(cmd *cobra.Command, names []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			return eachOf(names, func(name string) error {
				if err := c.Delete(cmd.Context(), name); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), name, "removed")
				return nil
			})
		},
	}
}
