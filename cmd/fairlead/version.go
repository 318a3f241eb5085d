package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Print the version of this program, and of the daemon if one runs",
		Long:              `Print the version of this program, and of the daemon if one runs: after an upgrade they differ until it is started anew.`,
		Example:           "  fairlead version\n  fairlead version --json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if asJSON {
				return json.NewEncoder(out).Encode(program{Version: version(), Handover: handoverFormat()})
			}
			fmt.Fprintf(out, "fairlead %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			c, err := g.client()
			if err != nil {
				return nil // there is no daemon to ask
			}
			if v, err := c.Version(cmd.Context()); err == nil {
				fmt.Fprintf(out, "daemon %s (process %d)\n", v.Version, v.PID)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what this program is, as JSON")
	return cmd
}

// stamped is what git describe said when make or a package built this; the linker sets it.
var stamped string

// version is what the build says it was made from.
func version() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
