package kernel

import (
	"maps"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A Ruleset is everything that Fairlead would have in the kernel for a list of forwards: data, not yet applied.
type Ruleset struct {
	table      string
	sets       []setID // in the order of their rules
	elements   map[setID][]element
	interfaces []string
}

// Compile makes the ruleset of table for want. Forwards whose Carry is CarryRelay only hold their place. It is pure: the
// same forwards and interfaces give the same ruleset. What the kernel cannot carry comes back as an error per name and is
// left out.
func Compile(table string, want []*forward.Forward, interfaces []string) (*Ruleset, map[string]error) {
	rs := &Ruleset{table: table, elements: map[setID][]element{}, interfaces: interfaces}
	bad := map[string]error{}
	sorted := slices.SortedFunc(slices.Values(want), func(f, g *forward.Forward) int { return strings.Compare(f.Name, g.Name) })
	for f := range new(nameKeepers).fold(forward.ListOf(sorted...)).All() {
		if err := checkCarriable(f); err != nil {
			bad[f.Name] = err
			continue
		}
		compileForward(f, func(e element) { rs.elements[e.set] = append(rs.elements[e.set], e) })
	}
	rs.sets = sortedSets(maps.Keys(rs.elements))
	return rs, bad
}

func sortedSets(ids func(func(setID) bool)) []setID { return slices.SortedFunc(ids, setID.compare) }
