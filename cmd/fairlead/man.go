package main

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	markdown := ""
	cmd := &cobra.Command{
		Use:   "man [DIR]",
		Short: "Print the manual page, or write all pages to a directory",
		Long:  `Print the manual page of fairlead, for man(1) to show. With a directory, write one page there for each command.`,
		Example: `  fairlead man | man -l -
  fairlead man /usr/local/share/man/man1`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true // the pages are the same whenever they are made
			if markdown != "" {
				return writeReference(root, markdown)
			}
			header := &doc.GenManHeader{Section: "1", Source: "Fairlead " + version(), Manual: "Fairlead Manual", Date: builtFrom()}
			if len(args) == 0 {
				return doc.GenMan(root, header, cmd.OutOrStdout())
			}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("writing manual pages: %w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&markdown, "markdown", "", "write the pages of docs/reference to this directory")
	_ = cmd.Flags().MarkHidden("markdown") // make docs uses it; it fails only for a flag that is not there
	return cmd
}

// builtFrom is the time of the commit that this program was built from, or nil when the build does not say.
func builtFrom() *time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return &t
			}
		}
	}
	return nil
}
