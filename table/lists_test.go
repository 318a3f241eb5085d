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
		model := map[string]*forward.Forward{}
		var list []*forward.Forward
		for range rapid.IntRange(1, 5).Draw(t, "rounds") {
			edits := map[string]*forward.Forward{}
			for _, n := range rapid.SliceOf(name).Draw(t, "names") {
				edits[n] = nil
				if delete(model, n); rapid.Bool().Draw(t, "put") {
					edits[n] = &forward.Forward{Name: n}
					model[n] = edits[n]
				}
			}
			before := slices.Clone(list)
			next := splice(list, edits, nameOf)
			if !slices.Equal(list, before) {
				t.Fatal("the old list was changed")
			}
			list = next
			want := slices.SortedFunc(maps.Values(model), func(f, g *forward.Forward) int { return strings.Compare(f.Name, g.Name) })
			if !slices.Equal(list, want) {
				t.Fatalf("got %s, want %s", names(list), names(want))
			}
		}
	})
}
