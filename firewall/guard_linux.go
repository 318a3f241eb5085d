package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// refresh reads the rules again where anybody has changed them, and forgets what was found out from others.
func (g *Guard) refresh(ctx context.Context, host Host) error {
	if host.Indexes == nil {
		host.Indexes = indexes()
	}
	if !host.Equal(g.host) {
		g.host, g.findings, g.list = host, nil, nil
	}
	return g.withReader(func(r *reader) error {
		now, err := r.generation(ctx)
		if err != nil {
			return err
		}
		legacy := g.readLegacy(ctx, now != g.generation)
		if now == g.generation && !legacy {
			return nil
		}
		d, now, err := r.snapshot(ctx)
		if err != nil {
			return err
		}
		d.Legacy = g.legacy
		rules, err := d.Parse()
		if err != nil {
			return err
		}
		if digest := d.digest(); digest != g.digest || g.rules == nil {
			g.digest, g.findings = digest, nil
		}
		g.rules, g.generation, g.list = rules, now, nil
		return nil
	})
}

// withReader runs fn with a connection to the kernel.
func (g *Guard) withReader(fn func(*reader) error) error {
	r, err := openReader()
	if err == nil {
		err = errors.Join(fn(r), r.close())
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (%w)", ErrNotAllowed, err)
	}
	return err
}

// indexes are the numbers of this host's interfaces. Rules that ask for a number that is not known match perhaps.
func indexes() map[string]int {
	out := map[string]int{}
	list, err := net.Interfaces()
	if err != nil {
		return out
	}
	for _, i := range list {
		out[i.Name] = i.Index
	}
	return out
}

// ensure has the chains of others accept marked packets at spots and nowhere else, and the packets of blocked marked. It
// reports whether it changed anything.
func (g *Guard) ensure(ctx context.Context, spots []spot, blocked []*forward.Forward) (changed bool, err error) {
	edits := g.rules.edits(spots)
	if len(spots) == 0 && len(edits) == 0 && g.rules.marks == 0 {
		g.marked = nil
		return false, nil
	}
	err = g.withReader(func(r *reader) error {
		if len(spots) > 0 {
			if err := g.mark(ctx, r, newOpening(blocked, g.host)); err != nil {
				return err
			}
		}
		if len(edits) == 0 && (len(spots) > 0 || g.rules.marks == 0) {
			return nil
		}
		changed = true
		now, err := r.generation(ctx)
		if err != nil {
			return err
		}
		// Handles are those of the rules that were read; a change by somebody else since then has to be looked at first.
		if now != g.generation {
			return errAgain
		}
		b := newBatch(now)
		for _, e := range edits {
			b.edit(e)
		}
		if len(spots) == 0 && g.rules.marks != 0 {
			b.deleteMarkTable()
			g.marked = nil
		}
		if err := r.commit(ctx, b); err != nil {
			return err
		}
		for _, e := range edits {
			if e.insert != nil {
				g.log.Info("another firewall accepts the sessions of forwards from here on", keyChain, e.chain.String())
			} else {
				g.log.Info("the rule for the sessions of forwards is gone from another firewall", keyChain, e.chain.String())
			}
		}
		return nil
	})
	if isStale(err) || isAbsent(err) {
		err = errAgain
	}
	return changed, err
}

// mark makes the table of marks have what want says. What was there by another process is not known, and made anew.
func (g *Guard) mark(ctx context.Context, r *reader, want opening) error {
	if g.marked == nil || g.marked.handle != g.rules.marks {
		b := newBatch(0)
		if g.rules.marks != 0 {
			b.deleteMarkTable()
		}
		b.addMarkTable(want.sets())
		if err := r.commit(ctx, b); err != nil {
			return err
		}
		handle, err := r.tableHandle(ctx)
		if err != nil {
			return err
		}
		g.marked = &marks{handle: handle, has: opening{}}
		for id := range want {
			g.marked.has[id] = map[session]bool{}
		}
		g.rules.marks = handle
		if g.generation, err = r.generation(ctx); err != nil {
			return err
		}
	}
	touched, err := g.fill(ctx, r, want)
	if touched && err == nil {
		g.generation, err = r.generation(ctx)
	}
	if err != nil {
		g.marked = nil // how far it came is not known
	}
	return err
}

// fill changes sets and elements to what want says. Sets that are empty stay: they go with the table.
func (g *Guard) fill(ctx context.Context, r *reader, want opening) (touched bool, err error) {
	has := g.marked.has
	var fresh []setID
	for _, id := range want.sets() {
		if has[id] == nil {
			fresh = append(fresh, id)
		}
	}
	if len(fresh) > 0 {
		b := newBatch(0)
		b.addMarkSets(fresh)
		if err := r.commit(ctx, b); err != nil {
			return true, err
		}
		touched = true
		for _, id := range fresh {
			has[id] = map[session]bool{}
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(has), setID.compare) {
		for _, step := range []struct {
			kind uint16
			list []session
		}{{unix.NFT_MSG_DELSETELEM, missing(has[id], want[id])}, {unix.NFT_MSG_NEWSETELEM, missing(want[id], has[id])}} {
			for list := step.list; len(list) > 0; touched = true {
				b := newBatch(0)
				list = b.change(step.kind, id, list)
				if err := r.commit(ctx, b); err != nil {
					return true, err
				}
			}
		}
		has[id] = maps.Clone(want[id])
		if has[id] == nil {
			has[id] = map[session]bool{}
		}
	}
	return touched, nil
}

// missing is what all has and some has not.
func missing(all, some map[session]bool) (out []session) {
	for s := range all {
		if !some[s] {
			out = append(out, s)
		}
	}
	return out
}

// Clear takes everything away that Fairlead has in other programs' chains, and the table of marks, whoever put them there.
func (g *Guard) Clear(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	const tries = 4
	for range tries {
		g.generation = 0
		if err := g.refresh(ctx, g.host); err != nil {
			return err
		}
		changed, err := g.ensure(ctx, nil, nil)
		if err == nil && !changed {
			return nil
		}
		if err != nil && !errors.Is(err, errAgain) {
			return err
		}
	}
	return errChanging
}
