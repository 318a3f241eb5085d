package firewall

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzDump reads what a kernel might list, and follows packets through it.
func FuzzDump(f *testing.F) {
	for _, name := range []string{"plain", "libvirt"} {
		d := dumped(f, name)
		f.Add(d.Tables[0].Attrs, d.Chains[0].Attrs, d.Rules[0].Attrs, []byte{}, []byte{}, byte(d.Tables[0].Family))
		if len(d.Sets) > 0 {
			f.Add(d.Tables[0].Attrs, d.Chains[0].Attrs, d.Rules[3].Attrs, d.Sets[0].Attrs, d.Elements[0].Attrs, byte(d.Tables[0].Family))
		}
	}
	f.Fuzz(func(t *testing.T, table, chain, rule, set, element []byte, family byte) {
		object := func(b []byte) []Object { return []Object{{Family: family, Attrs: b}} }
		d := &Dump{Tables: object(table), Chains: object(chain), Rules: object(rule), Sets: object(set), Elements: object(element)}
		d.digest()
		rs, err := d.Parse()
		if err != nil {
			return
		}
		walk(t, rs)
	})
}

// FuzzExpressions reads one expression after the other as a rule of a chain that drops.
func FuzzExpressions(f *testing.F) {
	for _, name := range []string{"ufw", "plain", "firewalld"} {
		for _, o := range dumped(f, name).Rules[:12] {
			f.Add(attrs(o.Attrs)[4])
		}
	}
	f.Fuzz(func(t *testing.T, expressions []byte) {
		rs := newRuleset()
		table := rs.table(tableID{family: familyInet, name: "t"})
		table.sets["s"] = &set{keyLen: 4, interval: true}
		c := &chain{id: chainID{table.id, "c"}, base: true, hook: Input, kind: "filter", policy: verdictDrop}
		var a attrMap
		a[4] = expressions
		c.rules = append(c.rules, parseRule(a, table))
		rs.addChain(c)
		rs.finish()
		walk(t, rs)
	})
}

// FuzzSave reads what iptables-save might write.
func FuzzSave(f *testing.F) {
	for _, name := range []string{"docker20.save", "libvirt.save"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), false)
	}
	f.Add("*filter\n:INPUT DROP\n-A INPUT ! -s 1.2.3.4/255.0.0.0 -m mark ! --mark 1/2 -g x\n", false)
	f.Fuzz(func(t *testing.T, text string, v6 bool) {
		rs := newRuleset()
		if err := parseSave(rs, text, v6, true); err != nil {
			return
		}
		rs.finish()
		walk(t, rs)
	})
}

// walk follows the packets of some forwards through rs, and wants every obstacle to say what it is.
func walk(t *testing.T, rs *Ruleset) {
	t.Helper()
	for _, spec := range []string{"a 80 192.168.1.10:80", "b tcp+udp/8080 192.168.1.10:80 relay", "c tcp/[fd00:1::10]:443 [fd00:1::10]:443"} {
		g := fwd(t, spec)
		for _, d := range rs.drops(g, testHost, 0) {
			for _, s := range rs.spots(d) {
				rs.edits([]spot{s})
			}
		}
		if o := rs.Look(g, testHost); o != nil && (o.Owner == "" || o.Chain == "" || o.Why == "") {
			t.Errorf("%s: %+v", spec, o)
		}
	}
}
