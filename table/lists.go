package table

import (
	"maps"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// lists are what each carrier is to have, sorted by name. They are kept from cycle to cycle, and changed by copying: one
// forward more among many costs a copy of pointers and no look at the others, and a carrier may hold on to what it was
// given.
type lists struct {
	kernel  []*forward.Forward // what the kernel carries, and what only holds its place there (disabled: while it is shut)
	alone   []*forward.Forward // of kernel, what may have companions
	relay   []*forward.Forward
	carried int // of kernel, what it carries

	kernelEdits, aloneEdits, relayEdits map[string]*forward.Forward // by name; nil takes out
}

// swap puts now where before was; either may be nil.
func (l *lists) swap(before, now *forward.Forward) {
	if before != nil {
		l.edit(before, nil, -1)
	}
	if now != nil {
		l.edit(now, now, 1)
	}
}

func (l *lists) edit(f, now *forward.Forward, n int) {
	if l.kernelEdits == nil {
		l.kernelEdits, l.aloneEdits, l.relayEdits = map[string]*forward.Forward{}, map[string]*forward.Forward{}, map[string]*forward.Forward{}
	}
	if f.Carry == forward.CarryKernel {
		l.carried += n
		l.kernelEdits[f.Name] = now
		if mayHaveCompanions(f) {
			l.aloneEdits[f.Name] = now
		}
		return
	}
	if !f.Disabled {
		l.relayEdits[f.Name] = now
	}
	if f.ListensAt() == forward.Host && !f.Listen.IsUnix() { // a unix socket takes no traffic from anybody
		l.kernelEdits[f.Name] = now
	}
}

// done carries the edits out.
func (l *lists) done() {
	l.kernel = splice(l.kernel, l.kernelEdits, nameOf)
	l.alone = splice(l.alone, l.aloneEdits, nameOf)
	l.relay = splice(l.relay, l.relayEdits, nameOf)
	l.kernelEdits, l.aloneEdits, l.relayEdits = nil, nil, nil
}

func nameOf(f *forward.Forward) string { return f.Name }

// splice returns a copy of old, which is sorted by name, with each item of edits in the place of what has its name, or, for
// nil, without that. With no edits it returns old itself. It copies in runs.
func splice[T any](old []*T, edits map[string]*T, name func(*T) string) []*T {
	if len(edits) == 0 {
		return old
	}
	out := make([]*T, 0, len(old)+len(edits))
	for _, n := range slices.Sorted(maps.Keys(edits)) {
		at, found := slices.BinarySearchFunc(old, n, func(item *T, n string) int { return strings.Compare(name(item), n) })
		out = append(out, old[:at]...)
		if old = old[at:]; found {
			old = old[1:]
		}
		if item := edits[n]; item != nil {
			out = append(out, item)
		}
	}
	return append(out, old...)
}
