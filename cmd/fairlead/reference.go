package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/fairlead-net/fairlead/config"
)

// writeReference writes the reference for a reader of the repository: a page for each command, one for fairlead.toml, and
// an index of them.
func writeReference(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("writing the reference: %w", err)
	}
	if err := doc.GenMarkdownTree(root, dir); err != nil {
		return fmt.Errorf("writing the reference: %w", err)
	}
	var index strings.Builder
	index.WriteString("# Reference\n\nMade from the code by `make docs`.\n\n| page | |\n| --- | --- |\n")
	index.WriteString("| [fairlead.toml](fairlead.toml.md) | Every key of the configuration file |\n")
	index.WriteString("| [fairlead](fairlead.md) | " + root.Short + " |\n")
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			fmt.Fprintf(&index, "| [%s](%s.md) | %s |\n", cmd.CommandPath(), strings.ReplaceAll(cmd.CommandPath(), " ", "_"), cmd.Short)
		}
	}
	file := "# fairlead.toml\n\nEvery key, explained by an example that is a valid file itself.\n\n```toml\n" + string(config.Reference()) + "```\n"
	for name, text := range map[string]string{"README.md": index.String(), "fairlead.toml.md": file} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the reference: %w", err)
		}
	}
	return nil
}
