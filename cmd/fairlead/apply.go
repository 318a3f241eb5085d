package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
)

func newApply(g *globals) *cobra.Command {
	var file string
	var confirm time.Duration
	cmd := &cobra.Command{
		Use:   "apply [-c FILE] [--confirm TIME]",
		Short: "Move the running daemon to a file",
		Long: `Move the running daemon to what the file says. Forwards that stay as they are lose no session. A file with a mistake changes
nothing.

With --confirm the daemon goes back by itself unless "fairlead confirm" comes in time, so that a change that locks you out
does not last. Until then nothing else can be applied. A daemon that dies before starts with what held before.`,
		Example: `  fairlead apply
  fairlead apply -c fairlead.toml --confirm 60s
  fairlead confirm`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			seconds := math.Ceil(confirm.Seconds())
			if cmd.Flags().Changed("confirm") && (confirm <= 0 || confirm > 24*time.Hour) {
				return usagef("write it like --confirm 60s", "--confirm: %s is not between 1s and 24h", confirm)
			}
			c, err := g.client()
			if err != nil {
				return err
			}
			return apply(cmd, c, file, int(seconds))
		},
	}
	registerFile(cmd, &file, "the file to apply (default the one that the daemon was started with)")
	cmd.Flags().DurationVar(&confirm, "confirm", 0, "go back after this time unless confirmed, such as 60s")
	return cmd
}

func apply(cmd *cobra.Command, c *api.Client, file string, confirm int) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	v, err := c.Version(ctx)
	if err != nil {
		return err
	}
	if file == "" {
		if file = v.File; file == "" {
			file = systemFile
		}
	}
	text, err := readFile(file)
	if err != nil {
		return err
	}
	applied, err := c.Apply(ctx, api.ApplyRequest{File: file, Text: text, Confirm: confirm})
	if err != nil {
		return err
	}
	also := ""
	if applied.Settings {
		also = "; other settings changed"
	}
	fmt.Fprintf(out, "%d added, %d changed, %d removed, %d kept%s\n",
		len(applied.Added), len(applied.Changed), len(applied.Removed), applied.Kept, also)
	if applied.Until != nil {
		fmt.Fprintf(out, "`fairlead confirm` keeps it; without that it is taken back at %s\n", applied.Until.Local().Format("15:04:05"))
	}
	noteOtherFile(cmd.ErrOrStderr(), file, v.File)
	return warnFailed(ctx, c, cmd.ErrOrStderr(), append(applied.Added, applied.Changed...))
}

// noteOtherFile says when what was applied is not what the daemon reads when it starts again.
func noteOtherFile(w io.Writer, applied, daemons string) {
	path, err := filepath.Abs(applied)
	if err == nil && daemons != "" && path != daemons {
		fmt.Fprintf(w, "note: the daemon reads %s when it starts again\n", daemons)
	}
}

// warnFailed names those of the forwards that were touched which do not work. Applying them was still done.
func warnFailed(ctx context.Context, c *api.Client, w io.Writer, names []string) error {
	if len(names) == 0 {
		return nil
	}
	touched := make(map[string]bool, len(names))
	for _, name := range names {
		touched[name] = true
	}
	all, err := c.Status(ctx)
	if err != nil {
		return err
	}
	failed := 0
	for _, f := range all {
		if !touched[f.Name] || f.State != "failed" {
			continue
		}
		if failed++; failed <= 10 {
			fmt.Fprintf(w, "warning: %s fails now: %s\n", f.Name, plain(f.Detail))
		}
	}
	if failed > 10 {
		fmt.Fprintf(w, "warning: and %d more; `fairlead status` shows them\n", failed-10)
	}
	return nil
}

// readFile reads the text of a configuration, up to the size that one may have.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(f, config.MaxSize+1)); err == nil && len(text) <= config.MaxSize {
			return string(text), nil
		}
	}
	if _, said := config.Load(path); said != nil { // it has the words for what is wrong with a file
		return "", said
	}
	return "", err
}
