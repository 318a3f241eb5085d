package table

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead-net/fairlead/forward"
)

func TestSplice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching("[a-e]{1,2}")
		model := map[string]*entry{}
		var list []*entry
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			edits := map[string]*entry{}
			for _, n := range rapid.SliceOf(name).Draw(t, "names") {
				edits[n] = nil
				if delete(model, n); rapid.Bool().Draw(t, "put") {
					edits[n] = &entry{f: &forward.Forward{Name: n}}
					model[n] = edits[n]
				}
			}
			before := slices.Clone(list)
			next := splice(list, edits)
			if !slices.Equal(list, before) {
				t.Fatal("the old list was changed")
			}
			list = next
			want := slices.SortedFunc(maps.Values(model), func(e, g *entry) int { return strings.Compare(e.f.Name, g.f.Name) })
			if !slices.Equal(list, want) {
				t.Fatalf("got %d entries, want %d", len(list), len(want))
			}
		}
	})
}
