package firewall

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// The older kernel interface of iptables has no netlink messages and says nothing of changes: the program that speaks it is
// asked, where such tables are in use at all, and not often.
const (
	legacyEvery   = time.Minute
	legacyTimeout = 5 * time.Second
)

// readLegacy reads legacy tables where there are any, when nftables changed or it is time, and reports whether they differ
// from what was known.
func (g *Guard) readLegacy(ctx context.Context, now bool) bool {
	if !now && time.Since(g.legacyRead) < legacyEvery {
		return false
	}
	g.legacyRead = time.Now()
	var list []Saved
	for _, family := range []struct {
		names, program string
		v6             bool
	}{{"/proc/thread-self/net/ip_tables_names", "iptables-legacy-save", false}, {"/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save", true}} {
		names, err := os.ReadFile(family.names)
		if err != nil || len(bytes.TrimSpace(names)) == 0 {
			continue
		}
		text, err := runLegacy(ctx, family.program)
		if err != nil {
			g.log.Debug("legacy tables of iptables cannot be read", keyErr, err)
			continue
		}
		list = append(list, Saved{family.v6, text})
	}
	changed := !slices.Equal(list, g.legacy)
	g.legacy = list
	return changed
}

// runLegacy runs a program that lists tables; its counters and dates are left out.
func runLegacy(ctx context.Context, program string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, legacyTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, ":") {
			line, _, _ = strings.Cut(line, " [")
			line = strings.TrimRight(line, "\n") + "\n"
		}
		if !strings.HasPrefix(line, "#") {
			text.WriteString(line)
		}
	}
	return text.String(), nil
}
