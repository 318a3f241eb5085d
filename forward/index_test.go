package forward_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// claiming is a forward that differs in what it claims only: "listen [from=…] [except=…] [if=…]".
func claiming(t testing.TB, name, s string) *forward.Forward {
	t.Helper()
	words := strings.Fields(s)
	f := newForward(t, name, words[0], "192.168.1.10")
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "from":
			f.From = prefixes(strings.Split(value, ",")...)
		case "except":
			f.Except = prefixes(strings.Split(value, ",")...)
		case "if":
			f.Interface = value
		default:
			t.Fatalf("%q", word)
		}
	}
	return f
}

func packet(network forward.Networks, client, addr string, port uint16, iface string) forward.Packet {
	return forward.Packet{Network: network, Client: netip.MustParseAddr(client), Addr: netip.MustParseAddr(addr), Local: true, Port: port, Interface: iface}
}

// TestCandidates holds the whole order of precedence: each forward takes the packet from the next.
func TestCandidates(t *testing.T) {
	all := []string{
		"80 from=10.1.1.1/32 except=10.1.1.1/32", // falls through
		"192.0.2.1:80 from=10.1.0.0/16 if=eth0",
		"192.0.2.1:80 from=10.1.0.0/16",
		"192.0.2.1:70-90 from=10.1.0.0/16 if=eth0",
		"80 from=10.1.0.0/16 if=eth0",
		"70-90 from=10.1.0.0/16",
		"192.0.2.1:80 from=10.0.0.0/8",
		"192.0.2.1:80 if=eth0",
		"192.0.2.1:80",
		"192.0.2.1:70-90",
		"80 if=eth0",
		"0.0.0.0:80",
		"70-90 if=eth0",
		"70-90",
		"192.0.2.1:* from=10.1.0.0/16 if=eth0",
		"192.0.2.1:* from=10.1.0.0/16",
		"* from=10.0.0.0/8",
		"192.0.2.1:*",
		"* if=eth0",
		"*",
		// Never this packet:
		"udp/80", "[::]:80", "81", "91-95 from=10.1.0.0/16", "80 from=10.2.0.0/16", "80 from=2001:db8::/32", "192.0.2.2:80", "80 if=eth1",
	}
	want := all[1:20]
	var x forward.Index
	r := rand.New(rand.NewPCG(1, 1))
	for _, i := range r.Perm(len(all)) {
		if err := x.Add(claiming(t, all[i], all[i])); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for f := range x.Candidates(packet(forward.TCP, "10.1.1.1", "192.0.2.1", 80, "eth0")) {
		got = append(got, f.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, test := range []struct {
		p    forward.Packet
		want string
	}{
		{packet(forward.TCP, "::ffff:10.1.1.1", "::ffff:192.0.2.1", 80, "eth0"), all[1]},
		{packet(forward.TCP, "10.1.1.1", "192.0.2.1", 80, ""), all[1]}, // the interface is not known
		{packet(forward.TCP, "10.1.1.1", "192.0.2.1", 80, "eth9"), "192.0.2.1:80 from=10.1.0.0/16"},
		{packet(forward.UDP, "10.1.1.1", "192.0.2.1", 80, "eth0"), "udp/80"},
		{packet(forward.TCP, "198.51.100.1", "192.0.2.9", 80, "eth9"), "0.0.0.0:80"},
		{packet(forward.TCP, "2001:db8::1", "2001:db8::2", 80, "eth9"), "80 from=2001:db8::/32"},
		{packet(forward.TCP, "fe80::1%eth0", "fe80::2", 80, "eth9"), "[::]:80"},
		{packet(forward.UDP, "10.1.1.1", "192.0.2.1", 81, "eth0"), ""},
	} {
		got := ""
		if f := x.Match(test.p); f != nil {
			got = f.Name
		}
		if got != test.want {
			t.Errorf("%+v: %q, want %q", test.p, got, test.want)
		}
	}
	// What passes through is taken only by those who name its address.
	through := packet(forward.TCP, "198.51.100.1", "203.0.113.1", 80, "eth0")
	through.Local = false
	if f := x.Match(through); f != nil {
		t.Errorf("traffic that passes through was taken by %s", f.Name)
	}
}

func TestTies(t *testing.T) {
	for _, test := range []struct {
		a, b string
		tie  string // in the error's words; "" is none
	}{
		{"80", "80", "tcp port 80"},
		{"80", "0.0.0.0:80", "tcp port 80"},
		{"80", "tcp+udp/79,80", "tcp port 80"},
		{"udp/53", "tcp+udp/53", "udp port 53"},
		{"8000-8010", "8010-8020", "tcp port 8010-8020"},
		{"8000-8010", "7000-9000", "tcp port 7000-9000"},
		{"*", "*", "tcp port *"},
		{"80 from=10.0.0.0/8", "80 from=10.0.0.0/8,192.168.0.0/16", "tcp port 80"},
		{"80 if=eth0", "80 if=eth0 except=10.0.0.0/8", "tcp port 80"},
		{"[::]:80", "80", "tcp port 80"},

		{"80", "80-90", ""},
		{"80", "*", ""},
		{"80", "80 from=10.0.0.0/8", ""},
		{"80 from=10.0.0.0/8", "80 from=10.0.0.0/9", ""},
		{"80", "80 if=eth0", ""},
		{"80 if=eth0", "80 if=eth1", ""},
		{"80", "192.0.2.1:80", ""},
		{"[::]:80", "0.0.0.0:80", ""},
		{"80", "udp/80", ""},
		{"8000-8010", "8011-8020", ""},
		{"unix:/a", "unix:/a", ""}, // not the index's: no packet comes to a unix socket
	} {
		for _, swap := range []bool{false, true} {
			a, b := claiming(t, "a", test.a), claiming(t, "b", test.b)
			if swap {
				a, b = b, a
			}
			var x forward.Index
			if err := x.Add(a); err != nil {
				t.Fatal(err)
			}
			err := x.Add(b)
			var tie *forward.TieError
			if errors.As(err, &tie) != (test.tie != "") {
				t.Errorf("%s and %s: %v", test.a, test.b, err)
			}
			if tie == nil {
				continue
			}
			if tie.Name != b.Name || tie.Other != a.Name || !swap && !strings.HasSuffix(err.Error(), ": "+test.tie) {
				t.Errorf("%s and %s: %v, want %s", test.a, test.b, err, test.tie)
			}
		}
	}
}

// slowIndex is Index without any cleverness: all claims of all forwards, looked at one by one.
type slowIndex []*forward.Forward

func (x slowIndex) candidates(p forward.Packet) []string {
	type match struct {
		forward.Shape
		name string
	}
	var found []match
	for _, f := range x {
		for c := range f.Claims {
			port := c.Ports == forward.PortAll || c.Range.Contains(p.Port)
			if c.Network == p.Network && c.From.Contains(p.Client) && (c.ByAddr && c.Addr == p.Addr || !c.ByAddr && p.Local) &&
				(!c.ByInput || c.Interface == p.Interface) && port && f.Admits(p.Client) {
				found = append(found, match{c.Shape, f.Name})
			}
		}
	}
	slices.SortFunc(found, func(a, b match) int { return a.Shape.Compare(b.Shape) })
	var names []string
	for _, m := range found {
		names = append(names, m.name)
	}
	return names
}

func (x slowIndex) ties(f *forward.Forward) bool {
	for _, other := range x {
		for a := range f.Claims {
			for b := range other.Claims {
				overlap := a.Range.First <= b.Range.Last && b.Range.First <= a.Range.Last
				if a.Shape == b.Shape && a.Network == b.Network && a.From == b.From && a.Addr == b.Addr && a.Interface == b.Interface && overlap {
					return true
				}
			}
		}
	}
	return false
}

func randomClaim(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	return pick("", "", "udp/", "tcp+udp/") + pick("", "", "0.0.0.0:", "[::]:", "192.0.2.1:", "192.0.2.2:", "[2001:db8::1]:") +
		pick("1", "2", "3", "1-2", "2-4", "5-6", "*", "1,3-4") +
		pick("", "", " from=10.0.0.0/8", " from=10.1.0.0/16,10.0.0.0/8", " from=10.1.1.1/32,2001:db8::/32", " from=0.0.0.0/0") +
		pick("", "", "", " except=10.1.0.0/16", " except=2001:db8::1/128") + pick("", "", " if=a", " if=b")
}

// TestIndexAgainstTheSlowWay adds and removes forwards at random; the index and the model must agree on every tie and on
// every packet, and after all is removed the index must be as new.
func TestIndexAgainstTheSlowWay(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		var x forward.Index
		var slow slowIndex
		for step := range 80 {
			if len(slow) > 0 && r.IntN(4) == 0 {
				i := r.IntN(len(slow))
				x.Remove(slow[i])
				slow = slices.Delete(slow, i, i+1)
			} else {
				claim := randomClaim(r)
				f := claiming(t, fmt.Sprintf("%d: %s", step, claim), claim)
				err := x.Add(f)
				if (err != nil) != slow.ties(f) {
					t.Fatalf("seed %d: adding %s: %v", seed, f.Name, err)
				}
				if err == nil {
					slow = append(slow, f)
				}
			}
			p := randomPacket(r)
			var got []string
			for f := range x.Candidates(p) {
				got = append(got, f.Name)
			}
			if want := slow.candidates(p); !slices.Equal(got, want) {
				t.Fatalf("seed %d, %+v:\n%s\nwant:\n%s", seed, p, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		for _, f := range slow {
			x.Remove(f)
		}
		for range 20 {
			if f := x.Match(randomPacket(r)); f != nil {
				t.Fatalf("seed %d: %s is still there", seed, f.Name)
			}
		}
		for i, f := range slow { // in another order than before
			if err := x.Add(slow[len(slow)-1-i]); err != nil {
				t.Fatalf("seed %d: %s left something behind: %v", seed, f.Name, err)
			}
		}
	}
}

func randomPacket(r *rand.Rand) forward.Packet {
	pairs := [][2]string{
		{"10.1.1.1", "192.0.2.1"}, {"10.1.2.2", "192.0.2.2"}, {"10.9.9.9", "192.0.2.1"}, {"198.51.100.1", "192.0.2.9"},
		{"2001:db8::1", "2001:db8::1"}, {"2001:db8::2", "2001:db8::9"}, {"fe80::1", "2001:db8::1"},
	}
	pair := pairs[r.IntN(len(pairs))]
	p := packet([]forward.Networks{forward.TCP, forward.UDP}[r.IntN(2)], pair[0], pair[1], uint16(1+r.IntN(7)), []string{"a", "b", "c"}[r.IntN(3)])
	p.Local = r.IntN(5) > 0
	return p
}

func BenchmarkMatch(b *testing.B) {
	var x forward.Index
	for i := range 60000 {
		f := claiming(b, fmt.Sprintf("f%d", i), fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255))
		if err := x.Add(f); err != nil {
			b.Fatal(err)
		}
	}
	p := packet(forward.TCP, "198.51.100.1", "10.0.100.100", 80, "eth0")
	b.ReportAllocs()
	for b.Loop() {
		if x.Match(p) == nil {
			b.Fatal("no match")
		}
	}
}

// TestAddOfClaimTwice has a forward that asks for the same thing twice refused, and nothing of it remain.
func TestAddOfClaimTwice(t *testing.T) {
	twice := claiming(t, "a", "80")
	twice.From = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.0.0.0/8")}
	var x forward.Index
	if err := x.Add(twice); err == nil {
		t.Error("taken")
	}
	once := claiming(t, "b", "80")
	once.From = twice.From[:2]
	if err := x.Add(once); err != nil {
		t.Error(err)
	}
	x.Remove(once)
	if err := x.Add(once); err != nil {
		t.Error(err)
	}
}
