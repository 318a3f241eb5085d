package main

import (
	"cmp"
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

// limitFlags are the flags that say what an agent may.
type limitFlags struct {
	limits                config.Limits
	hosts, targets, reach []string
	expires               string
}

func (l *limitFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.limits.Ports, "ports", "", `where it may listen, such as 80,443,8000-8999, or "none" (default what [hub] says)`)
	flags.StringSliceVar(&l.hosts, "hosts", nil, "host names that it may serve, such as blog.example.com or *.home.example.com (default none)")
	flags.StringSliceVar(&l.targets, "targets", nil, "destinations that the hub dials for it, such as 10.0.0.5:5432 (default none)")
	flags.StringSliceVar(&l.reach, "reach", nil, "other agents that it reaches through the hub, or * (default none)")
	flags.StringVar(&l.limits.Bandwidth, "bandwidth", "", `bytes or bits a second, each way, such as 10Mbit, or "none" for no limit (default none)`)
	flags.IntVar(&l.limits.MaxSessions, "max-sessions", 0, "connections and flows open at once; 0 is the hub's default")
	flags.IntVar(&l.limits.MaxForwards, "max-forwards", 0, "forwards at once; 0 is the hub's default")
	flags.StringVar(&l.expires, "expires", "", `when the agent may not come any more: after a time such as 720h, at one such as 2027-01-31T18:00:00Z, or "never" (default never)`)
}

// read is what was typed, held to what can be.
func (l *limitFlags) read(name string, now time.Time) (config.Limits, error) {
	limits := l.limits
	limits.Hosts, limits.Targets, limits.Reach = l.hosts, l.targets, l.reach
	if limits.Bandwidth == "none" {
		limits.Bandwidth = ""
	}
	if l.expires != "never" {
		var err error
		if limits.Expires, err = resolveExpiry(l.expires, now); err != nil {
			return limits, err
		}
	}
	if _, err := limits.Agent(name); err != nil {
		return limits, &usageError{err: err, hint: config.HintLimits(err)}
	}
	return limits, nil
}

// undone are the keys whose flags say that there is no limit.
func (l *limitFlags) undone(cmd *cobra.Command) (keys []string) {
	for key, undone := range map[string]bool{
		"bandwidth": l.limits.Bandwidth == "none", "expires": l.expires == "never", "max_sessions": l.limits.MaxSessions == 0, "max_forwards": l.limits.MaxForwards == 0,
	} {
		if undone && cmd.Flags().Changed(strings.ReplaceAll(key, "_", "-")) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func newAgentsLimit(g *globals) *cobra.Command {
	var l limitFlags
	var reset []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "limit NAME [flags]",
		Short: "Change what an agent may, at once",
		Long: `Change what an agent may, and show it. Flags that are left out change nothing; without any the agent's limits are shown. What was said by its
token is replaced; what [agents.NAME] says in the hub's file comes before both.

What the agent may not have any more ends at once: its listeners at other ports are closed, with what passes there, and connections
that the hub or another agent had dialled for it end. Numbers count for what comes next: what is open stays.`,
		Example: `  fairlead agents limit home
  fairlead agents limit home --ports 80,443,8000-8010 --max-forwards 20
  fairlead agents limit home --targets none --reach none
  fairlead agents limit build --expires 720h --bandwidth 50Mbit
  fairlead agents limit build --expires never --reset ports
  fairlead agents limit home --json | jq .agent.limits`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeAgents(g, func(api.Agent) bool { return true }),
		RunE: func(cmd *cobra.Command, args []string) error {
			limits, err := l.read("", time.Now())
			if err != nil {
				return err
			}
			reset = append(reset, l.undone(cmd)...)
			for i, key := range reset {
				reset[i] = strings.ReplaceAll(key, "-", "_")
				if !slices.Contains(config.LimitKeys(), reset[i]) {
					return usagef("limits are "+strings.Join(config.LimitKeys(), ", "), "--reset: there is no limit %q", key)
				}
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			changed := api.LimitsChanged{Overruled: []string{}}
			if !onlyShows(cmd) {
				changed, err = c.Limit(cmd.Context(), args[0], api.LimitsChange{Limits: limits, Reset: reset})
			} else {
				changed.Agent, err = findAgent(cmd, c, args[0])
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), changed)
			}
			if err := printLimits(cmd.OutOrStdout(), changed.Agent.Limits); err != nil {
				return err
			}
			for _, key := range changed.Overruled {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: [agents.%s] in the hub's file says %s, and that counts\n", plain(args[0]), plain(key))
			}
			return nil
		},
	}
	l.register(cmd)
	cmd.Flags().StringSliceVar(&reset, "reset", nil, "limits that are to be as for an agent of whom nothing is said, such as ports,expires")
	fixed(cmd, "reset", config.LimitKeys()...)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// onlyShows reports whether no flag was typed that says what an agent may.
func onlyShows(cmd *cobra.Command) bool {
	for _, key := range append(config.LimitKeys(), "reset") {
		if cmd.Flags().Changed(strings.ReplaceAll(key, "_", "-")) {
			return false
		}
	}
	return true
}

func findAgent(cmd *cobra.Command, c *api.Client, name string) (api.Agent, error) {
	list, err := c.Agents(cmd.Context())
	if err != nil {
		return api.Agent{}, err
	}
	i := slices.IndexFunc(list, func(a api.Agent) bool { return a.Name == name })
	if i < 0 {
		return api.Agent{}, api.ErrNoAgent(name)
	}
	return list[i], nil
}

// printLimits shows what an agent may, all taken together.
func printLimits(w io.Writer, l config.Limits) error {
	names := func(list []string) string { return plain(cmp.Or(strings.Join(list, ", "), "none")) }
	for _, line := range [][2]string{
		{"ports", plain(l.Ports)}, {"hosts", names(l.Hosts)}, {"targets", names(l.Targets)}, {"reach", names(l.Reach)},
		{"bandwidth", cmp.Or(plain(l.Bandwidth), "no limit")}, {"max_sessions", strconv.Itoa(l.MaxSessions)}, {"max_forwards", strconv.Itoa(l.MaxForwards)},
		{"expires", cmp.Or(plain(l.Expires), "never")},
	} {
		if _, err := fmt.Fprintf(w, "%-13s %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}
