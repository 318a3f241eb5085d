package table

import (
	"maps"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// lists are what each carrier is to have. They are kept from cycle to cycle: one forward more among many costs no look at the
// others.
type lists struct {
	kernel  forward.List // what the kernel carries, and what only holds its place there (disabled: while it is shut)
	alone   forward.List // of kernel, what may have companions
	relay   forward.List
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
	l.kernel, l.alone, l.relay = l.kernel.Edit(l.kernelEdits), l.alone.Edit(l.aloneEdits), l.relay.Edit(l.relayEdits)
	l.kernelEdits, l.aloneEdits, l.relayEdits = nil, nil, nil
}

// splice returns a copy of old, which is sorted by name, with each entry of edits in the place of what has its name, or, for
// nil, without that. With no edits it returns old itself. It copies in runs.
func splice(old []*entry, edits map[string]*entry) []*entry {
	if len(edits) == 0 {
		return old
	}
	out := make([]*entry, 0, len(old)+len(edits))
	for _, n := range slices.Sorted(maps.Keys(edits)) {
		at, found := slices.BinarySearchFunc(old, n, func(e *entry, n string) int { return strings.Compare(e.f.Name, n) })
		out = append(out, old[:at]...)
		if old = old[at:]; found {
			old = old[1:]
		}
		if e := edits[n]; e != nil {
			out = append(out, e)
		}
	}
	return append(out, old...)
}
