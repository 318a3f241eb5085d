package forward

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestListModel has lists edited and compared with plain slices, the long ones too, whose runs split and come together again.
func TestListModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]int{5, 100, 2000}).Draw(t, "names")
		name := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("f%d", rapid.IntRange(0, most).Draw(t, "n")) })
		model := map[string]*Forward{}
		for _, n := range rapid.SliceOfN(name, 0, most).Draw(t, "first") {
			model[n] = &Forward{Name: n}
		}
		list := ListOf(sortedForwards(model)...)
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			edits := map[string]*Forward{}
			if rapid.IntRange(0, 5).Draw(t, "all") == 0 { // nearly all goes
				for n := range model {
					edits[n] = nil
				}
			}
			for _, n := range rapid.SliceOfN(name, 0, 1+most/2).Draw(t, "edited") {
				switch rapid.IntRange(0, 3).Draw(t, "edit") {
				case 0:
					edits[n] = nil
				case 1:
					edits[n] = model[n]
				case 2:
					edits[n] = &Forward{Name: n} // asks for the same
				default:
					edits[n] = &Forward{Name: n, Disabled: model[n] == nil || !model[n].Disabled}
				}
			}
			checkEdit(t, list, model, edits)
			list = list.Edit(edits)
		}
	})
}

// checkEdit compares what an edit of list makes with what it makes of model, which it changes.
func checkEdit(t interface {
	Helper()
	Fatalf(string, ...any)
}, list List, model, edits map[string]*Forward) {
	t.Helper()
	old := sortedForwards(model)
	var removed, added []*Forward
	for _, n := range slices.Sorted(maps.Keys(edits)) {
		was, is := model[n], edits[n]
		if was != nil && is != nil && was.Equal(is) {
			model[n] = is
			continue
		}
		if delete(model, n); was != nil {
			removed = append(removed, was)
		}
		if is != nil {
			added = append(added, is)
			model[n] = is
		}
	}
	now, next := sortedForwards(model), list.Edit(edits)
	if !slices.Equal(list.Slice(), old) {
		t.Fatalf("the list was changed by an edit")
	}
	if !slices.Equal(next.Slice(), now) || next.Len() != len(now) {
		t.Fatalf("%d forwards, and Len %d; want %d", len(next.Slice()), next.Len(), len(now))
	}
	for n := range edits {
		if next.Get(n) != model[n] || list.Get(n) != find(old, n) {
			t.Fatalf("Get(%q) finds another one", n)
		}
	}
	for _, other := range []List{next, ListOf(now...)} { // runs at other places, too
		gone, came := list.Differ(other)
		if !slices.Equal(gone, removed) || !slices.Equal(came, added) {
			t.Fatalf("differ: %d removed and %d added, want %d and %d", len(gone), len(came), len(removed), len(added))
		}
	}
	if next.Same(list) != (len(edits) == 0 || len(old)+len(now) == 0) {
		t.Fatalf("Same is %v after %d edits", next.Same(list), len(edits))
	}
	for i, r := range next.runs {
		if len(*r) == 0 || len(*r) > runLength {
			t.Fatalf("run %d of %d has %d forwards", i, len(next.runs), len(*r))
		}
	}
}

func sortedForwards(m map[string]*Forward) []*Forward {
	return slices.SortedFunc(maps.Values(m), func(f, g *Forward) int { return strings.Compare(f.Name, g.Name) })
}

func find(list []*Forward, name string) *Forward {
	if i := slices.IndexFunc(list, func(f *Forward) bool { return f.Name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

// TestListShares holds what the type is for: an edit leaves the runs alone that it does not touch, and few are left of many.
func TestListShares(t *testing.T) {
	model := map[string]*Forward{}
	for i := range 20_000 {
		n := fmt.Sprintf("f%05d", i)
		model[n] = &Forward{Name: n}
	}
	list := ListOf(sortedForwards(model)...)
	next := list.Edit(map[string]*Forward{"f10000": nil, "f10000a": {Name: "f10000a"}})
	shared := map[*run]bool{}
	for _, r := range list.runs {
		shared[r] = true
	}
	others := 0
	for _, r := range next.runs {
		if !shared[r] {
			others++
		}
	}
	if others > 2 {
		t.Errorf("%d runs of %d are not shared after an edit at one place", others, len(next.runs))
	}
	for n := range model { // one by one, in no order
		if list = list.Edit(map[string]*Forward{n: nil}); list.Len() == 200 {
			break
		}
	}
	if len(list.runs) > 100 {
		t.Errorf("%d forwards are in %d runs", list.Len(), len(list.runs))
	}
}

func BenchmarkListEdit20000(b *testing.B) {
	model := map[string]*Forward{}
	for i := range 20_000 {
		n := fmt.Sprintf("f%05d", i)
		model[n] = &Forward{Name: n}
	}
	list := ListOf(sortedForwards(model)...)
	for _, edits := range []int{1, 64} {
		b.Run(fmt.Sprint(edits), func(b *testing.B) {
			b.ReportAllocs()
			add, drop := map[string]*Forward{}, map[string]*Forward{}
			for i := range edits {
				n := fmt.Sprintf("f%05da", i*20_000/edits)
				add[n], drop[n] = &Forward{Name: n}, nil
			}
			for b.Loop() {
				with := list.Edit(add)
				if _, added := list.Differ(with); len(added) != edits {
					b.Fatal(len(added))
				}
				list = with.Edit(drop)
			}
		})
	}
}
