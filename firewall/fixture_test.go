package firewall

import (
	"compress/gzip"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// rulesets are those of testdata. NAME.save and NAME.save6 are in the language of iptables-save, NAME.nft in that of nft;
// NAME.dump.gz is what the kernel lists when they are loaded. ufw and firewalld are as the programs of Debian 12 write them.
var rulesets = []string{"ufw", "firewalld", "docker", "docker20", "libvirt", "libvirtnft", "fw4", "plain"}

// dumped is a recorded ruleset.
func dumped(t testing.TB, name string) *Dump {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".dump.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	d := new(Dump)
	if err := json.NewDecoder(z).Decode(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func recorded(t testing.TB, name string) *Ruleset {
	t.Helper()
	rs, err := dumped(t, name).Parse()
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// saved is a ruleset of iptables read from its text, nil where there is none.
func saved(t testing.TB, name string) *Ruleset {
	t.Helper()
	rs := newRuleset()
	found := false
	for suffix, v6 := range map[string]bool{".save": false, ".save6": true} {
		text, err := os.ReadFile(filepath.Join("testdata", name+suffix))
		if err != nil {
			continue
		}
		found = true
		if err := parseSave(rs, string(text), v6, true); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		return nil
	}
	rs.finish()
	return rs
}

// testHost is a gateway with two networks of virtual machines and one of containers.
var testHost = Host{
	Addrs: []Addr{
		{netip.MustParsePrefix("203.0.113.1/24"), "wan"}, {netip.MustParsePrefix("2001:db8:1::1/64"), "wan"},
		{netip.MustParsePrefix("192.168.1.1/24"), "lan"}, {netip.MustParsePrefix("fd00:1::1/64"), "lan"},
		{netip.MustParsePrefix("192.168.122.1/24"), "virbr0"}, {netip.MustParsePrefix("192.168.123.1/24"), "virbr1"},
		{netip.MustParsePrefix("172.17.0.1/16"), "docker0"},
	},
	Default4: "wan", Default6: "wan",
	Indexes: map[string]int{"lo": 1, "wan": 3, "lan": 5, "virbr0": 7, "virbr1": 9, "docker0": 11},
}

// fwd makes a forward from "name listen to key=value…"; with "relay" the relay carries it.
func fwd(t testing.TB, spec string) *forward.Forward {
	t.Helper()
	words := strings.Fields(spec)
	f := &forward.Forward{Name: words[0], Carry: forward.CarryKernel}
	var err error
	if f.Listen, err = forward.ParseListen(words[1]); err != nil {
		t.Fatal(err)
	}
	for s := range strings.SplitSeq(words[2], ",") {
		target, err := forward.ParseTarget(s)
		if err != nil {
			t.Fatal(err)
		}
		f.To = append(f.To, target)
	}
	for _, w := range words[3:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "from":
			for s := range strings.SplitSeq(value, ",") {
				f.From = append(f.From, netip.MustParsePrefix(s))
			}
		case "interface":
			f.Interface = value
		case "relay":
			f.Carry = forward.CarryRelay
		}
	}
	return f
}
