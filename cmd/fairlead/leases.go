package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
)

func newLeases(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "leases [--json]",
		Short: "List the ports that programs of the LAN have asked for",
		Long: `List the leases: forwards that programs of the LAN have asked the port-mapping server for, by UPnP, NAT-PMP or PCP. They are
among the forwards of "fairlead status", too, and "fairlead rm" removes one until its client asks again. "fairlead leases deny"
removes it for good, "fairlead leases verdicts" lists what was approved and denied. With --json what is wrong with the gateway
and its servers is there, too, as "problems".`,
		Example: `  fairlead leases
  fairlead leases --json
  fairlead leases approve lease-192.168.1.20-udp-3074
  fairlead leases deny 02:00:5e:10:00:01`,
		Args:              noSuchSubcommand,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			list, err := c.Leases(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Leases   []api.Lease `json:"leases"`
					Problems []string    `json:"problems"`
				}{list, problems(cmd.Context(), c)})
			}
			if err := printLeases(cmd.OutOrStdout(), list); err != nil {
				return err
			}
			return printProblems(cmd.Context(), c, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(newLeasesApprove(g), newLeasesDeny(g), newLeasesVerdicts(g), newLeasesForget(g))
	return cmd
}

func newLeasesApprove(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "approve NAME|DEVICE...",
		Short: "Let in what waits to be approved",
		Long: `Approve a lease by its name, or all that a device has and will ask for, by its hardware or IP address. That is remembered over
restarts, and asked of nobody again, until "fairlead leases forget". It matters where the file says "ask = true"; what was denied
before it allows everywhere. A device may be approved before it asks; by an IP address of which nothing is known yet it is
the address that is approved, whoever has it then.`,
		Example: `  fairlead leases approve lease-192.168.1.20-udp-3074
  fairlead leases approve 02:00:5e:10:00:01`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeLeases(g, func(l api.Lease) bool { return l.State == "asking" }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return judgeLeases(g, cmd, args, "approved", (*api.Client).Approve)
		},
	}
}

func newLeasesDeny(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "deny NAME|DEVICE...",
		Short: "End leases, and refuse them from now on",
		Long: `End a lease by its name, or all that a device has, by its hardware or IP address, and refuse it from now on, over restarts too.
"fairlead leases approve" and "fairlead leases forget" take that back.`,
		Example: `  fairlead leases deny lease-192.168.1.20-tcp-22
  fairlead leases deny 192.168.1.20`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeLeases(g, func(api.Lease) bool { return true }),
		RunE: func(cmd *cobra.Command, args []string) error {
			return judgeLeases(g, cmd, args, "denied", (*api.Client).Deny)
		},
	}
}

func judgeLeases(g *globals, cmd *cobra.Command, args []string, verdict string, do func(*api.Client, context.Context, string) (api.Judged, error)) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	return eachOf(args, func(which string) error {
		judged, err := do(c, cmd.Context(), which)
		if err != nil {
			return err
		}
		if judged.Unknown {
			fmt.Fprintf(cmd.ErrOrStderr(), "note: nothing is known of %s here: whoever has that address when it asks is %s\n", plain(which), verdict)
		}
		fmt.Fprintln(cmd.OutOrStdout(), plain(which), verdict)
		for _, name := range judged.Leases {
			if name != which {
				fmt.Fprintln(cmd.OutOrStdout(), "  "+name)
			}
		}
		return nil
	})
}

// completeLeases completes names of leases and the devices that have them.
func completeLeases(g *globals, wanted func(api.Lease) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return completeFrom(g, cmd, func(ctx context.Context, c *api.Client) (words []string, err error) {
			list, err := c.Leases(ctx)
			known := map[string]bool{}
			for _, l := range list {
				if !wanted(l) {
					continue
				}
				words = append(words, cobra.CompletionWithDesc(l.Name, plain(l.Description)))
				if device := cmp.Or(l.MAC, l.Client); !known[device] {
					known[device] = true
					words = append(words, cobra.CompletionWithDesc(device, plain(cmp.Or(l.Hostname, l.Client))))
				}
			}
			return words, err
		})
	}
}

// noSuchSubcommand is for a command that works without a subcommand and has some.
func noSuchSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef("`"+cmd.CommandPath()+" --help` lists what there is", "%q is no part of `%s`", args[0], cmd.CommandPath())
}

func printLeases(w io.Writer, list []api.Lease) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "there are no leases")
		return err
	}
	g := newGrid("NAME", "STATE", "EXTERNAL", "INTERNAL", "CLIENT", "BY", "LEFT", "SESSIONS", "IN", "OUT")
	for _, l := range list {
		g.row(l.Name, l.State, l.Network+"/"+l.External, l.Internal, plain(cmp.Or(l.Hostname, l.Client)), l.Protocol, humanLeft(l.Remaining),
			fmt.Sprint(l.Connections.Total), humanBytes(l.Bytes.In), humanBytes(l.Bytes.Out))
		var about []string
		for _, text := range []string{l.Description, l.MAC, strings.Join(l.From, ", ")} {
			if text != "" {
				about = append(about, plain(text))
			}
		}
		if len(about) > 0 {
			g.note(strings.Join(about, "; "))
		}
		if l.State != "up" && l.Detail != "" {
			g.note(plain(l.Detail))
		}
	}
	return g.print(w)
}

// humanLeft is how long something still lasts.
func humanLeft(seconds *int) string {
	if seconds == nil {
		return "for ever"
	}
	then := time.Unix(0, 0)
	return humanAge(&then, then.Add(time.Duration(*seconds)*time.Second))
}
