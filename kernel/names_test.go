package kernel

import (
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// TestNamesHoldOnePlace compiles forwards that share ports by name: no two elements of a set have one key.
func TestNamesHoldOnePlace(t *testing.T) {
	hosts := func(names ...string) func(*forward.Forward) {
		return func(f *forward.Forward) { f.Hosts, f.Carry = names, forward.CarryRelay }
	}
	relay := func(f *forward.Forward) { f.Carry = forward.CarryRelay }
	list := []*forward.Forward{
		mustForward(t, "a", "80,443", "10.0.0.1:80", hosts("a.example", "www.a.example")),
		mustForward(t, "all", "*", "10.0.0.9"),
		mustForward(t, "b", "443", "10.0.0.2:443", hosts("b.example")),
		mustForward(t, "c", "192.0.2.1:443", "10.0.0.3:443", hosts("c.example")),
		mustForward(t, "rest", "80", "10.0.0.4:80", relay),
	}
	rs, bad := Compile("t", list, nil)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	seen := map[elementID]string{}
	holds := map[string]int{}
	for _, elements := range rs.elements {
		for _, e := range elements {
			if other, there := seen[idOf(e)]; there {
				t.Errorf("%s and %s have the same key in %s", other, e.owner, e.set.name())
			}
			seen[idOf(e)] = e.owner
			if e.set.role == roleHold {
				name, _, _ := strings.Cut(strings.TrimPrefix(e.owner, "/"), "-")
				holds[name]++
			}
		}
	}
	// 443 of both families, 443 of one address, and 80 of both families, which is held for who calls no name.
	if holds["names"] != 3 || holds["rest"] != 2 {
		t.Errorf("held: %v", holds)
	}
	k := new(nameKeepers)
	first := k.fold(forward.ListOf(list...))
	second := k.fold(forward.ListOf(list...))
	if removed, added := first.Differ(second); len(removed)+len(added) > 0 {
		t.Errorf("the same list is another: %v, %v", removed, added)
	}
	third := k.fold(forward.ListOf(list[:3]...))
	removed, added := second.Differ(third)
	if len(removed) != 2 || len(added) != 2 { // of c's address, and rest, for which keepers come
		t.Errorf("%d go and %d come", len(removed), len(added))
	}
}
