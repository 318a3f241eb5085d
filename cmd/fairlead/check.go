package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/firewall"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/table"
)

// planned is one forward as `fairlead check --json` shows it.
type planned struct {
	Name    string   `json:"name"`
	Listen  string   `json:"listen"`
	To      []string `json:"to"`
	Carried string   `json:"carried"` // "" when it is off or cannot be carried here
	Why     string   `json:"why"`
	Note    string   `json:"note,omitempty"`
	Error   string   `json:"error,omitempty"` // why it cannot be carried here

	Firewall *blocked `json:"firewall,omitempty"` // another program's firewall that would drop what it lets in

	carry forward.Carry
}

// blocked is what `fairlead check --json` says of another firewall.
type blocked struct {
	Owner  firewall.Owner `json:"owner"`
	Chain  string         `json:"chain"`
	Why    string         `json:"why"`
	Remedy []string       `json:"remedy"` // command lines, in order
	Hint   string         `json:"hint,omitempty"`
}

// checked is what `fairlead check --json` prints.
type checked struct {
	Forwards []planned       `json:"forwards"`
	Gateway  *plannedGateway `json:"gateway,omitempty"`
	Errors   config.Errors   `json:"errors"`
}

func newCheck() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [-c FILE] [--json]",
		Short: "Validate a file and show how each forward would be carried",
		Long: `Read a file as the daemon would and show what would carry each forward on this machine, as this user, and why. Nothing is
changed. Of [gateway] it says what this host would do for its networks, which of the interfaces and of the addresses of snat
are not there, and what helpers open. Another
program's firewall that would drop what a forward lets in is named, with what to run so that it passes. Every mistake is
named with file, line and column. The exit code is 1 with a mistake, and where something cannot be done here.`,
		Example: `  fairlead check
  fairlead check -c fairlead.toml
  fairlead check -c fairlead.toml --json`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			var out checked
			if err != nil && !(asJSON && errors.As(err, &out.Errors)) {
				return err
			}
			bad := 0
			facts := asGateway(look(), cfg != nil && cfg.Settings.Gateway != nil)
			out.Forwards, bad = planAll(cfg, facts)
			if cfg != nil {
				out.Gateway = planGateway(cfg.Settings, facts)
				if err := lookForFirewalls(cmd.Context(), cfg, out.Forwards, facts); err != nil {
					fmt.Fprintf(cmd.ErrOrStderr(), "note: %v\n", err)
				}
			}
			if asJSON {
				if out.Errors == nil {
					out.Errors = config.Errors{}
				}
				if err := printJSON(cmd.OutOrStdout(), out); err != nil {
					return err
				}
			} else if err := out.print(cmd.OutOrStdout()); err != nil {
				return err
			}
			switch {
			case len(out.Errors) > 0:
				return errSaid
			case bad > 0:
				return fmt.Errorf("%s: %d of %d forwards cannot be carried here", file, bad, len(out.Forwards))
			case out.Gateway != nil && out.Gateway.Error != "":
				return fmt.Errorf("%s: this host cannot be made the gateway: %s", file, out.Gateway.Error)
			}
			return nil
		},
	}
	registerFile(cmd, &file, "the file to check")
	cmd.Flags().Lookup("config").DefValue = systemFile
	file = systemFile
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func planAll(cfg *config.Config, facts kernel.Facts) (plans []planned, bad int) {
	plans = []planned{}
	if cfg == nil {
		return plans, 0
	}
	for _, f := range cfg.Forwards {
		p := planned{Name: f.Name, Listen: f.Listen.String()}
		for _, t := range f.To {
			p.To = append(p.To, t.String())
		}
		if f.Disabled {
			p.Why = "enabled = false"
		} else if d := table.Plan(f, facts); d.Err != nil {
			p.Error = d.Err.Error()
			bad++
		} else {
			p.Why, p.Note, p.carry = d.Why, d.Note, d.Carry
			if d.Carry != forward.CarryAuto {
				p.Carried = d.Carry.String()
			}
		}
		plans = append(plans, p)
	}
	return plans, bad
}

// lookForFirewalls says of each plan which other firewall is in its way. The error is why that cannot be told.
func lookForFirewalls(ctx context.Context, cfg *config.Config, plans []planned, facts kernel.Facts) error {
	ctx, cancel := context.WithTimeout(ctx, clearTime)
	defer cancel()
	var list []*forward.Forward
	for i, f := range cfg.Forwards { // a plan for each
		if plans[i].carry == forward.CarryAuto {
			continue
		}
		as := *f
		as.Carry = plans[i].carry
		list = append(list, &as)
	}
	if len(list) == 0 {
		return nil
	}
	found, err := firewall.New(firewall.Options{}).Check(ctx, list, firewallHost(facts), cfg.Settings.Coexist == config.CoexistAuto)
	if errors.Is(err, firewall.ErrUnsupported) {
		return nil
	}
	for i, p := range plans {
		if o, ok := found[p.Name]; ok {
			plans[i].Firewall = &blocked{o.Owner, o.Chain, o.Why, o.Remedy, o.Hint}
			plans[i].Note = strings.Join(slices.DeleteFunc([]string{o.String(), p.Note}, func(s string) bool { return s == "" }), "; ")
		}
	}
	return err
}

// print says what the gateway is to be, and then what is to become of each forward.
func (c checked) print(w io.Writer) error {
	if c.Gateway != nil {
		if err := c.Gateway.print(w); err != nil {
			return err
		}
	}
	return printPlans(w, c.Forwards)
}

func printPlans(w io.Writer, plans []planned) error {
	if len(plans) == 0 {
		_, err := fmt.Fprintln(w, "the file has no forwards")
		return err
	}
	g := newGrid("NAME", "LISTEN", "TO", "CARRIED", "WHY")
	for _, p := range plans {
		carried := p.Carried
		switch {
		case p.Error != "":
			carried = "no"
		case carried == "":
			carried = "off"
		}
		g.row(p.Name, p.Listen, strings.Join(p.To, ", "), carried, p.Why)
		for _, note := range []string{p.Error, p.Note} {
			if note != "" {
				g.note(note)
			}
		}
	}
	return g.print(w)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
