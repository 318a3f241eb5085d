package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/portmap/publish"
)

func newGateway(g *globals) *cobra.Command {
	var asJSON bool
	var server string
	cmd := &cobra.Command{
		Use:   "gateway [flags]",
		Short: "Show the gateways of this network and what they can do",
		Long: `Look for the gateways that this host is behind: which protocols for mapping ports they speak, which addresses they have
outside, what they have mapped for whom, and whether there is a further gateway, or the provider's, behind them. It takes no
daemon and no root, and changes nothing.

It asks nobody outside, so what it says of NAT is what gateways say of themselves. With --stun it asks that STUN server as well, by
RFC 5780: for whom a port of this host is which port outside, who is let in there, whether hosts of this network reach each other by
it, and whether it agrees with what gateways say. Only a server with two addresses can tell it all. It takes ten seconds at most.`,
		Example: `  fairlead gateway
  fairlead gateway --stun stun.example.com
  fairlead gateway --json | jq -r '.gateways[] | [.address, .external] | @tsv'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := g.logger(cmd.ErrOrStderr(), slog.LevelError)
			if err != nil {
				return err
			}
			var to stunServer
			if cmd.Flags().Changed("stun") {
				if to, err = parseSTUN(server); err != nil {
					return err
				}
			}
			r, seen, err := lookAtGateways(cmd.Context(), publish.Options{Secret: publishSecret(), Log: log}, to)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), reportOf(r, seen))
			}
			return printReport(cmd.OutOrStdout(), r, seen)
		},
	}
	cmd.Flags().StringVar(&server, "stun", "", "ask the STUN server `HOST[:PORT]` how the NAT behaves (default nobody)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// lookAtGateways looks at the gateways and, at the same time, asks the STUN server, where there is one.
func lookAtGateways(ctx context.Context, o publish.Options, to stunServer) (r publish.Report, seen []stunReport, err error) {
	var asking sync.WaitGroup
	if to.host != "" {
		asking.Go(func() { seen = askSTUN(ctx, to) })
	}
	r, err = publish.Look(ctx, o)
	asking.Wait()
	for _, s := range seen {
		if s.Public.IsValid() {
			r.Seen(s.Local.Addr(), s.Public.Addr())
		}
	}
	return r, seen, err
}

// natWords explain the kinds of NAT.
var natWords = map[publish.NAT]string{
	publish.NATNone:    "none: this host has a public address itself",
	publish.NATSingle:  "one gateway translates, and has a public address",
	publish.NATDouble:  "double: a gateway translates that is behind another one",
	publish.NATCGNAT:   "CGNAT: the provider translates as well, and shares its address among customers",
	publish.NATUnknown: "unknown: no gateway says which address it has",
}

func printReport(w io.Writer, r publish.Report, seen []stunReport) error {
	grid := newGrid("GATEWAY", "BY", "THIS HOST", "PROTOCOLS", "EXTERNAL", "MAPPINGS")
	for _, g := range r.Gateways {
		var speaks []string
		for _, p := range g.Protocols {
			word := string(p.Protocol)
			if p.Service != "" {
				word += " (" + plain(p.Service) + ")"
			}
			speaks = append(speaks, word)
		}
		mappings := "-"
		if g.Listed {
			mappings = fmt.Sprint(len(g.Mappings))
		}
		grid.row(g.Addr.String(), g.Interface, g.Local.String(), orDash(strings.Join(speaks, ", ")), orDash(addrText(g.External)), mappings)
		if g.Name != "" {
			grid.note("calls itself " + plain(g.Name))
		}
		if !g.Default {
			grid.note("no default route leads to it; it says of itself that it is a gateway")
		}
		if g.Level > 0 {
			grid.note("behind the one above; this host is seen as " + g.Local.String() + " there")
		}
		for _, p := range g.Protocols {
			if p.Err != nil {
				grid.note("it does not say its address by " + plain(p.Err.Error()))
			}
		}
		for _, m := range g.Mappings {
			grid.note(mappingLine(m))
		}
	}
	if len(r.Gateways) > 0 {
		if err := grid.print(w); err != nil {
			return err
		}
		fmt.Fprintln(w, "NAT: "+natWords[r.NAT])
	}
	for _, s := range seen {
		s.print(w)
	}
	if p := r.Problem; p != nil {
		fmt.Fprintln(w, "problem: "+plain(p.Text))
		if p.Hint != "" {
			fmt.Fprintln(w, "hint: "+p.Hint)
		}
	}
	return nil
}

// mappingLine is `tcp/8080 -> 192.168.1.20:8080, 58m0s left: "Transmission"`.
func mappingLine(m publish.MappingReport) string {
	line := fmt.Sprintf("%s/%d -> %s", m.Network, m.External, plain(m.Internal))
	if !m.Enabled {
		line += ", off"
	}
	if m.Lease > 0 {
		line += fmt.Sprintf(", %v left", m.Lease)
	}
	if m.Describe != "" {
		line += fmt.Sprintf(": %q", m.Describe)
	}
	return line
}

// addrText is "" for no address.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// A gatewayAnswer is what `fairlead gateway --json` prints.
type gatewayAnswer struct {
	Gateways []gatewayEntry `json:"gateways"`
	NAT      string         `json:"nat"`     // "none", "single", "double", "cgnat" or "unknown", for IPv4
	Kind     string         `json:"kind"`    // of the problem, as in `fairlead open --json`
	Problem  string         `json:"problem"` // in words, or ""
	Hint     string         `json:"hint"`    // what may help, or ""
	STUN     []stunEntry    `json:"stun"`    // one for each family that was asked; none without --stun
}

type gatewayEntry struct {
	Address   string           `json:"address"`
	Interface string           `json:"interface"`
	Local     string           `json:"local"` // this host, as the gateway sees it
	Level     int              `json:"level"` // how many gateways are before it
	Default   bool             `json:"default"`
	Name      string           `json:"name"`
	External  string           `json:"external"` // "": it does not say
	Reach     string           `json:"reach"`    // of external: "public", "private", "cgnat", "local", "reserved"; "" where there is none
	Next      string           `json:"next"`     // the router behind it, where that shows itself
	Protocols []gatewaySpeaks  `json:"protocols"`
	Listed    bool             `json:"listed"` // the mappings could be read
	Mappings  []gatewayMapping `json:"mappings"`
}

type gatewaySpeaks struct {
	Protocol string `json:"protocol"`
	Service  string `json:"service"`
	External string `json:"external"`
	Error    string `json:"error"`
}

type gatewayMapping struct {
	Network  string `json:"network"`
	External int    `json:"external"`
	Internal string `json:"internal"`
	Enabled  bool   `json:"enabled"`
	Lease    int    `json:"lease"` // seconds left; 0: for ever, or not known
	Describe string `json:"description"`
}

func reportOf(r publish.Report, seen []stunReport) gatewayAnswer {
	out := gatewayAnswer{Gateways: []gatewayEntry{}, NAT: string(r.NAT), STUN: []stunEntry{}}
	for _, s := range seen {
		out.STUN = append(out.STUN, s.entry())
	}
	if p := r.Problem; p != nil {
		out.Kind, out.Problem, out.Hint = p.Kind.String(), p.Text, p.Hint
	}
	for _, g := range r.Gateways {
		e := gatewayEntry{
			Address: g.Addr.String(), Interface: g.Interface, Local: g.Local.String(), Level: g.Level, Default: g.Default, Name: g.Name,
			External: addrText(g.External), Next: addrText(g.Hop), Protocols: []gatewaySpeaks{}, Listed: g.Listed, Mappings: []gatewayMapping{},
		}
		if g.External.IsValid() {
			e.Reach = publish.ReachOf(g.External).String()
		}
		for _, p := range g.Protocols {
			s := gatewaySpeaks{Protocol: string(p.Protocol), Service: p.Service, External: addrText(p.External)}
			if p.Err != nil {
				s.Error = p.Err.Error()
			}
			e.Protocols = append(e.Protocols, s)
		}
		for _, m := range g.Mappings {
			e.Mappings = append(e.Mappings, gatewayMapping{m.Network.String(), int(m.External), m.Internal, m.Enabled, int(m.Lease / time.Second), m.Describe})
		}
		out.Gateways = append(out.Gateways, e)
	}
	return out
}
