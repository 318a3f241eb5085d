package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a completion script for a shell",
		Long:  `Print a script that makes a shell complete commands, flags, and the names of forwards as the running daemon has them.`,
		Example: `  source <(fairlead completion bash)
  fairlead completion bash > /etc/bash_completion.d/fairlead
  fairlead completion zsh > "${fpath[1]}/_fairlead"
  fairlead completion fish > ~/.config/fish/completions/fairlead.fish
  fairlead completion powershell | Out-String | Invoke-Expression`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(out)
			}
		},
	}
}

// askTime is how long a shell waits for the daemon while somebody presses Tab.
const askTime = time.Second

// completeFrom completes with what the daemon answers, and with nothing when it does not.
func completeFrom(g *globals, cmd *cobra.Command, ask func(context.Context, *api.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	c, err := g.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), askTime)
	defer cancel()
	words, err := ask(ctx, c)
	if err != nil {
		words = nil
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeForwards completes names of forwards that do not stand on the line yet.
func completeForwards(g *globals, one bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if one && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeFrom(g, cmd, func(ctx context.Context, c *api.Client) (names []string, err error) {
			list, err := c.Status(ctx)
			for _, f := range list {
				if !slices.Contains(args, f.Name) {
					names = append(names, cobra.CompletionWithDesc(f.Name, arrow(f.Listen, f.To)))
				}
			}
			return names, err
		})
	}
}
