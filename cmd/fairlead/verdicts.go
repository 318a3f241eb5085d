package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

func newLeasesVerdicts(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verdicts [--json]",
		Short: "List what was approved and denied, and is remembered",
		Long: `List whom leases were approved or denied: a device by its hardware address (its IP address, where that was not known), for
all that it asks for or for one of its ports. That holds over restarts until "fairlead leases forget".`,
		Example: `  fairlead leases verdicts
  fairlead leases verdicts --json | jq -r '.verdicts[] | select(.verdict == "denied") | .device'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			list, err := c.Verdicts(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Verdicts []api.Verdict `json:"verdicts"`
				}{list})
			}
			return printVerdicts(cmd.OutOrStdout(), list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newLeasesForget(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "forget NAME|DEVICE[/tcp/PORT|/udp/PORT]... [--json]",
		Short: "Forget what was approved or denied",
		Long: `Forget what was decided of a lease by its name, of a device by its hardware or IP address with all its ports, or of one port of
it. Leases that there are stay as they are; what the device asks for next is decided anew.`,
		Example: `  fairlead leases forget 02:00:5e:10:00:01
  fairlead leases forget 02:00:5e:10:00:01/udp/3074`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return completeFrom(g, cmd, func(ctx context.Context, c *api.Client) (words []string, err error) {
				list, err := c.Verdicts(ctx)
				for _, v := range list {
					words = append(words, cobra.CompletionWithDesc(subjectOf(v), v.Verdict))
				}
				return words, err
			})
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			all := []api.Verdict{}
			err = eachOf(args, func(which string) error {
				gone, err := c.Forget(cmd.Context(), which)
				all = append(all, gone...)
				if err != nil || asJSON {
					return err
				}
				for _, v := range gone {
					fmt.Fprintf(cmd.OutOrStdout(), "%s was %s; forgotten\n", plain(subjectOf(v)), v.Verdict)
				}
				return nil
			})
			if !asJSON {
				return err
			}
			if failed := printJSON(cmd.OutOrStdout(), struct {
				Verdicts []api.Verdict `json:"verdicts"`
			}{all}); err == nil {
				err = failed
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: what was remembered")
	return cmd
}

// subjectOf is a verdict's device and port as `fairlead leases forget` takes them.
func subjectOf(v api.Verdict) string {
	if v.Network == "" {
		return v.Device
	}
	return v.Device + "/" + v.Network + "/" + strconv.Itoa(v.Port)
}

func printVerdicts(w io.Writer, list []api.Verdict) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing was approved or denied")
		return err
	}
	g := newGrid("DEVICE", "VERDICT", "SINCE", "HOST")
	for _, v := range list {
		g.row(plain(subjectOf(v)), v.Verdict, v.Since.Local().Format(time.DateTime), plain(v.Hostname))
	}
	return g.print(w)
}
