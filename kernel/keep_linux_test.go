package kernel_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// routing is all that a Keep could touch on a host.
func routing(t *testing.T, n *netlab.Node) string {
	t.Helper()
	var out strings.Builder
	for _, family := range []string{"-4", "-6"} {
		out.WriteString(n.Run(t, "ip", family, "rule"))
		out.WriteString(n.Run(t, "ip", family, "route", "show", "table", "all"))
	}
	out.WriteString(n.Run(t, "nft", "list", "ruleset"))
	return out.String()
}

// strangers sets up what looks much like a Keep's and is somebody else's.
func strangers(t *testing.T, n *netlab.Node) {
	t.Helper()
	for _, line := range []string{
		"rule add pref 640 fwmark 0x80/0x80 lookup 99", "rule add pref 641 fwmark 0x100/0x100 lookup 64081",
		"route add local default dev lo table 99", "route add unreachable 198.51.100.0/24 table 64080",
	} {
		n.Run(t, "ip", strings.Fields(line)...)
	}
	n.Nft(t, "table inet fairlead_keeper { chain c { type filter hook prerouting priority -150; }; }")
}

func on(t *testing.T, n *netlab.Node, what string, fn func() error) {
	t.Helper()
	if err := n.Do(fn); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestKeepComesAndGoes has two processes share what they need, and compares the host before and after.
func TestKeepComesAndGoes(t *testing.T) {
	host := netlab.New(t).Node("host")
	strangers(t, host)
	before := routing(t, host)
	daemon, other := kernel.NewKeep(kernel.Options{}), kernel.NewKeep(kernel.Options{Table: kernel.ForegroundTable()})
	on(t, host, "release of nothing", daemon.Release)
	on(t, host, "acquire", daemon.Acquire)
	one := routing(t, host)
	for _, line := range []string{
		"640:	from all fwmark 0x80/0x80 iif lo goto 642 proto 250", "641:	from all fwmark 0x80/0x80 lookup 64080 proto 250",
		"local default dev lo table 64080 proto 250", "table inet fairlead_keep {",
		"socket transparent 1 socket wildcard 0 meta mark set meta mark | 0x00000080",
	} {
		if !strings.Contains(one, line) {
			t.Errorf("%q is missing:\n%s", line, one)
		}
	}
	on(t, host, "acquire again", daemon.Acquire)
	if got := routing(t, host); got != one {
		t.Errorf("the second time made a difference:\n%s\nafter\n%s", got, one)
	}
	on(t, host, "acquire by another", other.Acquire)
	on(t, host, "release by the first", daemon.Release)
	if got := routing(t, host); !strings.Contains(got, "lookup 64080") || strings.Contains(got, "table inet fairlead_keep {") {
		t.Errorf("one of two is left with\n%s", got)
	}
	on(t, host, "release by the last", other.Release)
	if got := routing(t, host); got != before {
		t.Errorf("left behind:\n%s\nbefore\n%s", got, before)
	}
}

// TestKeepIsPutRight takes parts away.
func TestKeepIsPutRight(t *testing.T) {
	host := netlab.New(t).Node("host")
	before := routing(t, host)
	k := kernel.NewKeep(kernel.Options{})
	on(t, host, "acquire", k.Acquire)
	whole := routing(t, host)
	for _, damage := range []string{
		"nft flush ruleset", "nft flush chain inet fairlead_keep prerouting", "ip rule del pref 641", "ip -6 rule del pref 640",
		"ip rule del pref 642", "ip route flush table 64080", "ip -6 route flush table 64080",
	} {
		words := strings.Fields(damage)
		host.Run(t, words[0], words[1:]...)
		on(t, host, "acquire after "+damage, k.Acquire)
		if got := routing(t, host); got != whole {
			t.Errorf("after %q:\n%s\ninstead of\n%s", damage, got, whole)
		}
	}
	on(t, host, "release", k.Release)
	if got := routing(t, host); got != before {
		t.Errorf("left behind:\n%s", got)
	}
}

// TestKeepOfTheDead has processes end without a word. Closing gives back what the kernel takes back from the dead.
func TestKeepOfTheDead(t *testing.T) {
	host := netlab.New(t).Node("host")
	before := routing(t, host)
	clean := func() error { _, err := kernel.CleanStale(slog.New(slog.DiscardHandler)); return err }

	daemon, killed := kernel.NewKeep(kernel.Options{}), kernel.NewKeep(kernel.Options{Table: kernel.ForegroundTable()})
	on(t, host, "acquire", killed.Acquire)
	on(t, host, "end", killed.Close)
	on(t, host, "acquire by the daemon", daemon.Acquire)
	on(t, host, "clean", clean)
	if got := routing(t, host); strings.Contains(got, "fairlead_fg_") || !strings.Contains(got, "lookup 64080") {
		t.Errorf("with a daemon alive:\n%s", got)
	}
	on(t, host, "end of the daemon", daemon.Close)
	on(t, host, "clean", clean)
	next := kernel.NewKeep(kernel.Options{})
	on(t, host, "release by the next daemon", next.Release)
	if got := routing(t, host); got != before {
		t.Errorf("left behind:\n%s", got)
	}

	on(t, host, "acquire", killed.Acquire)
	on(t, host, "end", killed.Close)
	host.Run(t, "nft", "flush", "ruleset")
	on(t, host, "clean", clean)
	if got := routing(t, host); got != before {
		t.Errorf("no table told of it:\n%s", got)
	}
}
