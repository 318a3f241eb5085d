package main

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/table"
)

func newRender() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "render",
		Short:   "Print rules instead of applying them",
		Example: `  fairlead render nft -c fairlead.toml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("`fairlead render nft` prints nftables rules", "say what to render")
			}
			return usagef("`fairlead render nft` prints nftables rules", "there is no way to render %q", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRenderNFT())
	return cmd
}

func newRenderNFT() *cobra.Command {
	file := systemFile
	cmd := &cobra.Command{
		Use:   "nft [-c FILE]",
		Short: "Print the nftables rules of a file",
		Long: `Print what the kernel carrier would put into nftables for a file, in the language of nft(8). Nothing is changed, and no
right is needed: it is planned as if by root on this machine. Forwards that the relay carries have no rule; they are named
on stderr.`,
		Example: `  fairlead render nft -c fairlead.toml
  fairlead render nft -c fairlead.toml | nft -c -f -`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			return renderNFT(cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	registerFile(cmd, &file, "the file to render")
	cmd.Flags().Lookup("config").DefValue = systemFile
	file = systemFile
	return cmd
}

func renderNFT(cfg *config.Config, stdout, stderr io.Writer) error {
	facts := look()
	facts.Unusable = ""
	facts = asGateway(facts, cfg.Settings.Gateway != nil)
	var want []*forward.Forward
	bad := 0
	for _, f := range cfg.Forwards {
		if f.Disabled {
			continue
		}
		d := table.Plan(f, facts)
		switch {
		case d.Err != nil:
			bad++
			fmt.Fprintf(stderr, "warning: %s cannot be carried here: %v\n", f.Name, d.Err)
			continue
		case d.Carry == forward.CarryRelay:
			fmt.Fprintf(stderr, "note: %s is for the relay: %s\n", f.Name, d.Why)
		}
		planned := *f
		planned.Carry = d.Carry
		want = append(want, &planned)
	}
	rules, failed := kernel.Compile(kernel.DefaultTable, want, interfaceNames())
	for _, f := range want {
		if err := failed[f.Name]; err != nil {
			bad++
			fmt.Fprintf(stderr, "warning: %s cannot be carried by the kernel: %v\n", f.Name, err)
		}
	}
	if err := rules.WriteNFT(stdout); err != nil {
		return err
	}
	if s := cfg.Settings; s.Gateway != nil {
		slices.SortFunc(want, func(a, b *forward.Forward) int { return strings.Compare(a.Name, b.Name) })
		gateway := kernel.CompileGateway(kernel.DefaultGatewayTable, s.Gateway, alsoOpen(s), want)
		if err := gateway.WriteNFT(stdout); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d forwards are not among the rules", bad, len(cfg.Forwards))
	}
	return nil
}

// interfaceNames is the interfaces of this host; the rules name them to know a packet that goes back where it came from.
func interfaceNames() []string {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return names
}
