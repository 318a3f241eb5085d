package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
)

func newAgents(g *globals) *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "agents [--json] [--watch]",
		Short: "List the agents of this hub, and manage them",
		Long: `List the agents that are enrolled at this hub: whether each is there, since when, over which transport and from where, how long a
packet takes there and back, what has passed, its version, and what this host listens for it. An agent in the state "waiting" is
away, and its open connections wait for it to come back.

"fairlead agents token" prints the command that enrols another machine.`,
		Example: `  fairlead agents
  fairlead agents --json | jq -r '.agents[] | select(.state != "up") | .name'
  fairlead agents token --name home --ports 80,443
  fairlead agents limit home --ports 8000-8010 --expires 720h
  fairlead agents kick home`,
		Args:              noSuchSubcommand,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			show := func(w io.Writer) error {
				list, err := c.Agents(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(w, struct {
						Agents []api.Agent `json:"agents"`
					}{list})
				}
				return printAgents(w, list, time.Now())
			}
			if watch {
				return repeat(cmd.Context(), cmd.OutOrStdout(), show)
			}
			return show(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second")
	cmd.AddCommand(newAgentsToken(g), newAgentsTokens(g), newAgentsLimit(g), newAgentsKick(g), newAgentsRevoke(g), newAgentsRename(g))
	return cmd
}

func printAgents(w io.Writer, list []api.Agent, now time.Time) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "no agent is enrolled; `fairlead agents token` prints the command that enrols one")
		return err
	}
	g := newGrid("NAME", "STATE", "SINCE", "TRANSPORT", "ADDRESS", "RTT", "SESSIONS", "IN", "OUT", "VERSION")
	for _, a := range list {
		since := "-"
		if a.Since != nil {
			since = humanAge(a.Since, now)
		}
		g.row(plain(a.Name), a.State, since, cmp.Or(a.Transport, "-"), cmp.Or(a.Address, "-"), humanRTT(a.RTT), strconv.Itoa(a.Sessions),
			humanBytes(a.Bytes.In), humanBytes(a.Bytes.Out), cmp.Or(plain(a.Version), "-"))
		if a.Detail != "" {
			g.note(plain(a.Detail))
		}
		if len(a.Forwards) > 0 {
			listens := make([]string, len(a.Forwards))
			for i, f := range a.Forwards {
				listens[i] = f.Listen
			}
			g.note("listens at " + strings.Join(listens, ", "))
		}
		if a.Expires != nil {
			g.note("expires " + a.Expires.Local().Format(time.DateTime))
		}
	}
	return g.print(w)
}

func humanRTT(ms *float64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 10:
		return fmt.Sprintf("%.1fms", *ms)
	}
	return fmt.Sprintf("%.0fms", *ms)
}

func newAgentsToken(g *globals) *cobra.Command {
	var l limitFlags
	var name, valid string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "token [--name NAME] [flags]",
		Short: "Print the command that enrols another machine, once",
		Long: `Make a token and print the command to run on the machine that is to become an agent of this hub: "fairlead join HOST:PORT TOKEN".
A token enrols one machine, and is good for an hour. What the machine may do then is what the flags say, and what [agents.NAME] says in the
hub's file comes before that. "fairlead agents limit" changes it later.`,
		Example: `  fairlead agents token
  fairlead agents token --name home --ports 80,443
  fairlead agents token --name build --ports none --reach office --expires 720h
  fairlead agents token --json | jq -r .token`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limits, err := l.read(name, time.Now())
			if err != nil {
				return err
			}
			request := api.TokenRequest{Name: name, Limits: limits}
			if valid != "" {
				d, err := time.ParseDuration(valid)
				if err != nil || d < time.Second {
					return usagef("write it like 10m or 24h", "--valid: %q is no time of a second or more", valid)
				}
				request.Valid = int(d / time.Second)
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			t, err := c.Token(cmd.Context(), request)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), t)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), joinLine(t))
			if err == nil && t.Expires != nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "run this on the other machine, once, before %s\n", t.Expires.Local().Format(time.DateTime))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what the agent is called here (default what \"fairlead join\" asks for, or the other machine's own name)")
	cmd.Flags().StringVar(&valid, "valid", "", "how long the token can be used, such as 10m (default 1h)")
	l.register(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// joinLine is the command that enrols a machine. It is the one place where a token is printed.
func joinLine(t api.Token) string {
	return "fairlead join " + plain(t.Hub) + " " + plain(string(t.Token))
}

func newAgentsKick(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "kick NAME...",
		Short: "End what passes through agents now",
		Long: `End the session of an agent, with all connections that pass through it. It may come again, and does at once; "fairlead agents
revoke" is for good.`,
		Example:           "  fairlead agents kick home",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeAgents(g, func(a api.Agent) bool { return a.State == "up" || a.State == "waiting" }),
		RunE: func(cmd *cobra.Command, names []string) error {
			return eachAgent(g, cmd, names, "kicked", (*api.Client).Kick)
		},
	}
}

func newAgentsRevoke(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke NAME...",
		Short: "Forget agents: they may not come any more",
		Long: `End the session of an agent, with all connections that pass through it, and forget its key. It comes again only after it was enrolled
again, by "fairlead join" with another token.`,
		Example:           "  fairlead agents revoke home",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeAgents(g, func(api.Agent) bool { return true }),
		RunE: func(cmd *cobra.Command, names []string) error {
			return eachAgent(g, cmd, names, "revoked", (*api.Client).Revoke)
		},
	}
}

func newAgentsRename(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "rename NAME NEW",
		Short: "Give an agent another name",
		Long: `Give an agent another name. Forwards that speak of it by the old one wait until some agent has that; what it listens for itself, and
its key, stay.`,
		Example:           "  fairlead agents rename home house",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeAgents(g, func(api.Agent) bool { return true }),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := config.CheckAgentName(args[1]); err != nil {
				return &usageError{err: err, hint: config.Help("")}
			}
			return eachAgent(g, cmd, args[:1], "is now "+args[1], func(c *api.Client, ctx context.Context, name string) error {
				return c.Rename(ctx, name, args[1])
			})
		},
	}
}

func eachAgent(g *globals, cmd *cobra.Command, names []string, what string, do func(*api.Client, context.Context, string) error) error {
	c, err := g.client()
	if err != nil {
		return err
	}
	return eachOf(names, func(name string) error {
		if err := do(c, cmd.Context(), name); err != nil {
			return err
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), plain(name), what)
		return err
	})
}

// completeAgents completes names of agents that do not stand on the line yet.
func completeAgents(g *globals, wanted func(api.Agent) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return completeFrom(g, cmd, func(ctx context.Context, c *api.Client) (names []string, err error) {
			list, err := c.Agents(ctx)
			for _, a := range list {
				if wanted(a) && !slices.Contains(args, a.Name) {
					names = append(names, cobra.CompletionWithDesc(a.Name, a.State))
				}
			}
			return names, err
		})
	}
}
