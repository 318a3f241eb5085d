package forward

import (
	"iter"
	"maps"
	"slices"
	"sort"
)

// A List is forwards sorted by name, one of each name. It is a value that is never changed: Edit returns another one, which shares with
// this one all that is the same in both. So a change costs what it changes and not what is there, whoever was given a list may
// hold on to it, and Differ passes over what both have. The zero List is empty.
type List struct {
	runs []*run // none is empty
	n    int
}

// A run is forwards that stand next to each other. Lists share them.
type run []*Forward

// runLength is the most that a run has: an edit copies one of them and the pointers to all, which of 20,000 forwards is a few KiB together.
const runLength = 64

// ListOf is the list of sorted, which is sorted by name and is not kept.
func ListOf(sorted ...*Forward) List {
	return List{appendRuns(make([]*run, 0, (len(sorted)+runLength-1)/runLength), sorted), len(sorted)}
}

// appendRuns cuts sorted into as few runs as can be, of nearly the same length, and copies it.
func appendRuns(runs []*run, sorted []*Forward) []*run {
	for left := (len(sorted) + runLength - 1) / runLength; left > 0; left-- {
		n := (len(sorted) + left - 1) / left
		r := run(slices.Clone(sorted[:n]))
		runs, sorted = append(runs, &r), sorted[n:]
	}
	return runs
}

// Len is how many forwards there are.
func (l List) Len() int { return l.n }

// All yields the forwards in order.
func (l List) All() iter.Seq[*Forward] {
	return func(yield func(*Forward) bool) {
		for _, r := range l.runs {
			for _, f := range *r {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// Slice is the forwards in a slice of their own.
func (l List) Slice() []*Forward {
	return slices.AppendSeq(make([]*Forward, 0, l.n), l.All())
}

// Get is the forward of this name, or nil.
func (l List) Get(name string) *Forward {
	if i := l.runOf(name); i < len(l.runs) {
		r := *l.runs[i]
		if at, found := r.find(name); found {
			return r[at]
		}
	}
	return nil
}

// runOf is the run that a name belongs into: the first one that does not end before it. len(l.runs): they all do.
func (l List) runOf(name string) int {
	return sort.Search(len(l.runs), func(i int) bool { r := *l.runs[i]; return name <= r[len(r)-1].Name })
}

func (r run) find(name string) (at int, found bool) {
	at = sort.Search(len(r), func(i int) bool { return name <= r[i].Name })
	return at, at < len(r) && r[at].Name == name
}

// Same reports whether both lists are known to be the same without a look at what they have: one is the other, or an Edit of it
// without edits.
func (l List) Same(m List) bool {
	return len(l.runs) == len(m.runs) && (len(l.runs) == 0 || &l.runs[0] == &m.runs[0])
}

// Edit is l with each forward of edits in the place of what has its name, and, for nil, without that.
func (l List) Edit(edits map[string]*Forward) List {
	if len(edits) == 0 {
		return l
	}
	names := slices.Sorted(maps.Keys(edits))
	out := List{runs: make([]*run, 0, len(l.runs)+len(edits)/runLength+1), n: l.n}
	kept := 0 // runs of l that are in out, or have been replaced there
	for len(names) > 0 {
		i := min(l.runOf(names[0]), max(len(l.runs)-1, 0)) // what comes after all goes into the last
		out.runs = append(out.runs, l.runs[kept:i]...)
		var old run
		mine := names
		if kept = i; i < len(l.runs) {
			old, kept = *l.runs[i], i+1
		}
		if kept < len(l.runs) { // there are others, so that not all names need be for this one
			last := old[len(old)-1].Name
			mine = names[:sort.Search(len(names), func(j int) bool { return names[j] > last })]
		}
		names = names[len(mine):]
		edited := old.edit(mine, edits)
		out.n += len(edited) - len(old)
		out.add(edited)
	}
	out.runs = append(out.runs, l.runs[kept:]...)
	return out
}

// edit is r with those of edits that have names, which are sorted.
func (r run) edit(names []string, edits map[string]*Forward) run {
	out := make(run, 0, len(r)+len(names))
	for _, name := range names {
		at, found := r.find(name)
		out = append(out, r[:at]...)
		if r = r[at:]; found {
			r = r[1:]
		}
		if f := edits[name]; f != nil {
			out = append(out, f)
		}
	}
	return append(out, r...)
}

// add appends an edited run: in pieces where it has become too long, and as one with that before it where both are short.
func (l *List) add(edited run) {
	if len(edited) == 0 {
		return
	}
	if last := len(l.runs) - 1; last >= 0 && len(*l.runs[last])+len(edited) <= runLength/2 {
		edited = append(slices.Clip(*l.runs[last]), edited...)
		l.runs = l.runs[:last]
	}
	if len(edited) <= runLength {
		l.runs = append(l.runs, &edited)
		return
	}
	l.runs = appendRuns(l.runs, edited)
}

// Differ returns what is only in l and what is only in now. A forward that asks for the same is the same; what both lists share is not
// looked at.
func (l List) Differ(now List) (removed, added []*Forward) {
	before, after := cursor{runs: l.runs}, cursor{runs: now.runs}
	for {
		for before.at == 0 && after.at == 0 && len(before.runs) > 0 && len(after.runs) > 0 && before.runs[0] == after.runs[0] {
			before.runs, after.runs = before.runs[1:], after.runs[1:]
		}
		f, g := before.forward(), after.forward()
		switch {
		case f == nil && g == nil:
			return removed, added
		case f == g: // most are
			before.next()
			after.next()
		case g == nil || f != nil && f.Name < g.Name:
			removed = append(removed, f)
			before.next()
		case f == nil || g.Name < f.Name:
			added = append(added, g)
			after.next()
		default:
			if !f.Equal(g) {
				removed, added = append(removed, f), append(added, g)
			}
			before.next()
			after.next()
		}
	}
}

// A cursor is a place in a list.
type cursor struct {
	runs []*run // what is left
	at   int    // in the first of them
}

// forward is what stands there; nil: it is the end.
func (c *cursor) forward() *Forward {
	if len(c.runs) == 0 {
		return nil
	}
	return (*c.runs[0])[c.at]
}

func (c *cursor) next() {
	if c.at++; c.at == len(*c.runs[0]) {
		c.runs, c.at = c.runs[1:], 0
	}
}
