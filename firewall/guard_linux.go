package firewall

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// refresh reads the rules again where anybody has changed them, and forgets what was found out from others.
func (g *Guard) refresh(ctx context.Context, host Host) error {
	if host.Indexes == nil {
		host.Indexes = indexes(host)
	}
	if !host.Equal(g.host) {
		g.host, g.findings, g.list, g.last = host, nil, nil, nil
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
			g.digest, g.findings, g.list = digest, nil, nil
		}
		g.rules, g.generation = rules, now
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
		return ErrNotAllowed
	}
	return err
}

// indexes are the numbers of the interfaces that h names: others come and go, as those of containers. Rules that ask for a
// number that is not known match perhaps.
func indexes(h Host) map[string]int {
	out := map[string]int{}
	list, err := net.Interfaces()
	if err != nil {
		return out
	}
	for _, i := range list {
		named := i.Name == h.Default4 || i.Name == h.Default6
		if named || slices.ContainsFunc(h.Addrs, func(a Addr) bool { return a.Interface == i.Name }) {
			out[i.Name] = i.Index
		}
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
			if err := g.mark(ctx, r, blocked); err != nil {
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

// mark makes the table of marks have the sessions of want. What another process has put there is not known, and made anew.
func (g *Guard) mark(ctx context.Context, r *reader, want []*forward.Forward) (err error) {
	m, touched := g.marked, false
	g.marked = nil // how far it comes is not known before the end
	if m == nil || m.handle != g.rules.marks {
		b := newBatch(0)
		if g.rules.marks != 0 {
			b.deleteMarkTable()
		}
		b.addMarkTable()
		if err := r.commit(ctx, b); err != nil {
			return err
		}
		m, touched = &marks{forwards: map[*forward.Forward]bool{}, sets: map[setID]bool{}, local: opening{}}, true
		if m.handle, err = r.tableHandle(ctx); err != nil {
			return err
		}
		g.rules.marks = m.handle
	}
	filled, err := m.fill(ctx, r, want, g.host)
	if err != nil {
		return err
	}
	if touched || filled {
		if g.generation, err = r.generation(ctx); err != nil {
			return err
		}
	}
	g.marked = m
	return nil
}

// fill changes sets and elements by what forwards came and went. Sets that are empty stay: they go with the table.
func (m *marks) fill(ctx context.Context, r *reader, want []*forward.Forward, host Host) (touched bool, err error) {
	now := make(map[*forward.Forward]bool, len(want))
	var came, went []*forward.Forward
	for _, f := range want {
		if now[f] = true; !m.forwards[f] {
			came = append(came, f)
		}
	}
	for f := range m.forwards {
		if !now[f] {
			went = append(went, f)
		}
	}
	plus, minus := openingOf(came), openingOf(went)
	add, remove := plus.minus(minus), minus.minus(plus)
	b := newBatch(0)
	var fresh []setID
	for _, id := range add.sets() {
		if !m.sets[id] {
			fresh = append(fresh, id)
			m.sets[id] = true
			if id.asksLocal() && !m.sets[id.local()] {
				fresh = append([]setID{id.local()}, fresh...)
				m.sets[id.local()] = true
			}
		}
	}
	b.addMarkSets(fresh)
	if err := r.commit(ctx, b); err != nil {
		return true, err
	}
	local := locals(slices.Collect(maps.Keys(m.sets)), host)
	for _, step := range []struct {
		kind uint16
		what opening
	}{
		{unix.NFT_MSG_DELSETELEM, m.local.minus(local)}, {unix.NFT_MSG_NEWSETELEM, local.minus(m.local)},
		{unix.NFT_MSG_DELSETELEM, remove}, {unix.NFT_MSG_NEWSETELEM, add},
	} {
		for _, id := range step.what.sets() {
			for list := slices.Collect(maps.Keys(step.what[id])); len(list) > 0; touched = true {
				b := newBatch(0)
				list = b.change(step.kind, id, list)
				if err := r.commit(ctx, b); err != nil {
					return true, err
				}
			}
		}
	}
	m.forwards, m.local = now, local
	return touched || len(fresh) > 0, nil
}

// Clear takes everything away that Fairlead has in other programs' chains, and the table of marks, whoever put them there.
func (g *Guard) Clear(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	const tries = 4
	for range tries {
		g.generation, g.last = 0, nil
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
