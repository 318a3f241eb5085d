package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

func newAgentsTokens(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "tokens [--json]",
		Short: "List tokens that nobody has used yet, and make them worth nothing",
		Long: `List the tokens that can still be used: the name that the agent gets, where the token says one, and until when. The tokens themselves were
shown when they were made, and are kept nowhere; an ID is no secret.

"fairlead agents tokens rm ID" makes one worth nothing, which may have come into wrong hands.`,
		Example: `  fairlead agents tokens
  fairlead agents tokens rm 3f8a01c2d4e5
  fairlead agents tokens --json | jq -r .tokens[].id`,
		Args:              noSuchSubcommand,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			list, err := c.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Tokens []api.TokenInfo `json:"tokens"`
				}{list})
			}
			return printTokens(cmd.OutOrStdout(), list, time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(newAgentsTokensRemove(g))
	return cmd
}

func printTokens(w io.Writer, list []api.TokenInfo, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no token can be used; `fairlead agents token` makes one")
		return err
	}
	grid := newGrid("ID", "NAME", "MADE", "EXPIRES")
	for _, t := range list {
		made, expires := "-", "-"
		if t.Made != nil {
			made = humanAge(t.Made, now)
		}
		if t.Expires != nil {
			expires = t.Expires.Local().Format(time.DateTime)
		}
		grid.row(plain(t.ID), plain(cmp.Or(t.Name, "-")), made, expires)
	}
	return grid.print(w)
}

func newAgentsTokensRemove(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "rm ID...",
		Short:   "Make tokens worth nothing",
		Long:    "Make tokens worth nothing that nobody has used. Who has used one is an agent; `fairlead agents revoke` is for those.",
		Example: "  fairlead agents tokens rm 3f8a01c2d4e5",
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return completeFrom(g, cmd, func(ctx context.Context, c *api.Client) (ids []string, err error) {
				list, err := c.Tokens(ctx)
				for _, t := range list {
					if !slices.Contains(args, t.ID) {
						ids = append(ids, cobra.CompletionWithDesc(t.ID, cmp.Or(t.Name, "for anybody")))
					}
				}
				return ids, err
			})
		},
		RunE: func(cmd *cobra.Command, ids []string) error {
			return eachAgent(g, cmd, ids, "is worth nothing now", (*api.Client).DeleteToken)
		},
	}
}
