package firewall

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

var update = flag.Bool("update", false, "record testdata/*.dump.gz anew, from the rulesets as text beside them")

// labHost is a host with the interfaces of testHost, in a namespace.
func labHost(t testing.TB) *netlab.Node {
	t.Helper()
	n := netlab.New(t).Node("host")
	for _, name := range []string{"wan", "lan", "virbr0", "virbr1", "docker0"} {
		n.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", name+"-peer")
		n.Run(t, "ip", "link", "set", name, "up")
	}
	return n
}

// loadText puts a ruleset of testdata into the kernel.
func loadText(t testing.TB, n *netlab.Node, name string) {
	t.Helper()
	loaded := false
	for suffix, args := range map[string][]string{
		".nft": {"nft", "-f", "-"}, ".save": {"iptables-nft-restore"}, ".save6": {"ip6tables-nft-restore"},
	} {
		text, err := os.ReadFile(filepath.Join("testdata", name+suffix))
		if err == nil {
			n.Feed(t, string(text), args[0], args[1:]...)
			loaded = true
		}
	}
	if !loaded {
		t.Fatalf("testdata has no ruleset %q", name)
	}
}

func readDump(t testing.TB, n *netlab.Node) *Dump {
	t.Helper()
	var d *Dump
	err := n.Do(func() error {
		r, err := openReader()
		if err != nil {
			return err
		}
		defer r.close()
		d, _, err = r.snapshot(context.Background())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRecord writes down what the kernel lists for each ruleset, with -update; the other tests read that on any system.
func TestRecord(t *testing.T) {
	if !*update {
		return
	}
	for _, name := range rulesets {
		n := labHost(t)
		loadText(t, n, name)
		d := readDump(t, n)
		f, err := os.Create(filepath.Join("testdata", name+".dump.gz"))
		if err != nil {
			t.Fatal(err)
		}
		z := gzip.NewWriter(f)
		if err := json.NewEncoder(z).Encode(d); err != nil {
			t.Fatal(err)
		}
		z.Close()
		f.Close()
		t.Log(name, len(d.Rules), "rules", strings.TrimSpace(n.Run(t, "sh", "-c", "nft list ruleset | wc -l")))
	}
}
