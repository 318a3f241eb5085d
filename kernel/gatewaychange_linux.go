package kernel

import (
	"errors"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// A gatewayChange is the difference between what the kernel has for the gateway and what it shall have.
type gatewayChange struct {
	at        uint32 // the generation that it is made for; 0: the table was looked at, or is made
	dropTable bool   // the one there is of another layout, or no longer needed
	fresh     bool   // the table is made
	rules     bool   // they are written anew
	del, add  []element
	counts    map[setID]int // elements of each set afterwards, learned ones left out
	wanted    []chain

	setsNew               []setID
	setsGone, chainsThere []string
	helpers               []helperObject
	helpersThere          []string
}

func (ch *gatewayChange) touches() bool {
	return ch.dropTable || ch.fresh || ch.rules || len(ch.del)+len(ch.add) > 0
}

func keysOf(m map[setID]int) func(func(setID) bool) { return maps.Keys(m) }

// difference finds what has to change: from memory while that is known to be true and only forwards are others, else from
// the kernel. plan is nil where this host is to be nobody's gateway. Whether what is known is true is asked as the carrier does.
func (g *Gateway) difference(s *nlSocket, plan *gatewayPlan, forwards forward.List) (*gatewayChange, error) {
	if g.known && plan != nil && g.plan != nil && g.plan.equal(plan) {
		ch, wrong := g.differenceFromMemory(s, forwards)
		if wrong == nil && ch.touches() {
			if ch.at = g.ledger.since(g.generation); ch.at != 0 {
				return ch, nil
			}
		}
		if there, err := g.isThere(s); there || err != nil {
			return ch, errors.Join(err, wrong)
		}
	}
	g.known = false
	return g.differenceFromKernel(s, plan, forwards)
}

// isThere is the carrier's, for the gateway.
func (g *Gateway) isThere(s *nlSocket) (there bool, err error) {
	there, g.generation, err = isThere(s, g.table, g.handle, g.ledger.since(g.generation))
	if err == nil && !there {
		g.log.Warn("the table was removed by another program; it is made anew", "table", g.table)
	}
	return there, err
}

// differenceFromMemory compares what was wanted at each place that a changed forward touches with what is wanted now. A
// lease that is renewed touches a few and changes none.
func (g *Gateway) differenceFromMemory(s *nlSocket, forwards forward.List) (*gatewayChange, error) {
	removed, added := g.forwards.Differ(forwards)
	before := map[elementID]*element{}
	touch := func(e element) {
		id := idOf(e)
		if _, known := before[id]; known {
			return
		}
		before[id] = nil
		if was, there := g.wishes.of(id); there {
			before[id] = &was
		}
	}
	for _, f := range removed {
		g.plan.compile(f, func(e element) { touch(e); g.wishes.remove(e) })
	}
	for _, f := range added {
		g.plan.compile(f, func(e element) { touch(e); g.wishes.add(e) })
	}
	ch := &gatewayChange{}
	for id, was := range before {
		now, there := g.wishes.of(id)
		if was != nil && there && was.owner == now.owner && string(was.data) == string(now.data) {
			continue
		}
		if was != nil {
			ch.del = append(ch.del, *was)
		}
		if there {
			ch.add = append(ch.add, now)
		}
	}
	if ch.arrange(g.plan, g.counts); !ch.rules {
		return ch, nil
	}
	var err error
	if ch.chainsThere, err = chainNames(s, g.table); err == nil {
		ch.helpersThere, err = helperNames(s, g.table)
	}
	return ch, err
}

// differenceFromKernel reads the table and compares it with what is wanted, element by element.
func (g *Gateway) differenceFromKernel(s *nlSocket, plan *gatewayPlan, forwards forward.List) (*gatewayChange, error) {
	handle, comment, err := getTable(s, g.table)
	if err != nil {
		return nil, err
	}
	ours, current := gatewayComment(comment)
	if handle != 0 && !ours {
		return nil, errNotOurs(g.table, comment)
	}
	g.handle, g.wishes = handle, wishes{}
	ch := &gatewayChange{dropTable: handle != 0 && (plan == nil || !current)}
	if plan == nil {
		return ch, nil
	}
	var there []string
	if ch.fresh = handle == 0 || ch.dropTable; !ch.fresh {
		if there, err = setNames(s, g.table); err != nil {
			return nil, err
		}
		if ch.chainsThere, err = chainNames(s, g.table); err != nil {
			return nil, err
		}
		if ch.helpersThere, err = helperNames(s, g.table); err != nil {
			return nil, err
		}
	}
	now := map[setID]int{}
	for id, wanted := range g.wishes.fill(plan, forwards.All()) {
		if !slices.Contains(there, id.name()) {
			ch.add = append(ch.add, wanted...)
			continue
		}
		has, err := elementsOf(s, g.table, id.name())
		if err != nil {
			return nil, err
		}
		owners := make(map[string]string, len(has))
		for _, f := range has {
			owners[string(f.key)+string(f.keyEnd)] = f.owner
		}
		for i, e := range wanted {
			wanted[i] = g.wishes.prefer(idOf(e), owners[string(id.trim(id.key(), e.key))+string(e.keyEnd)])
		}
		var one change
		one.compareSet(id, has, wanted)
		ch.add, ch.del = append(ch.add, one.add...), append(ch.del, one.del...)
		now[id] = len(has)
	}
	ch.arrange(plan, now)
	ch.rules = true
	sets := plan.sets(keysOf(ch.counts))
	ch.wanted, ch.helpers = plan.chains(sets), plan.helpers()
	ch.setsNew = slices.DeleteFunc(sets, func(id setID) bool { return slices.Contains(there, id.name()) })
	ch.setsGone = slices.DeleteFunc(there, func(name string) bool {
		return slices.ContainsFunc(plan.sets(keysOf(ch.counts)), func(id setID) bool { return id.name() == name })
	})
	return ch, nil
}

// arrange finds which sets come and go, given how many elements each has now.
func (ch *gatewayChange) arrange(plan *gatewayPlan, now map[setID]int) {
	ch.counts = maps.Clone(now)
	for _, e := range ch.del {
		ch.counts[e.set]--
	}
	for _, e := range ch.add {
		ch.counts[e.set]++
	}
	ch.setsNew, ch.setsGone = arrange(ch.counts, now, true)
	ch.del = slices.DeleteFunc(ch.del, func(e element) bool { return !has(ch.counts, e.set) }) // they go with their set
	if ch.rules = len(ch.setsNew)+len(ch.setsGone) > 0; ch.rules {
		ch.wanted, ch.helpers = plan.chains(plan.sets(keysOf(ch.counts))), plan.helpers()
	}
}

// batch is the transaction. Sets whose size has no end are made without one: a table that is made anew for a larger set would
// forget what it has learned.
func (ch *gatewayChange) batch(table string) *batch {
	b := newBatchAt(table, ch.at)
	if ch.dropTable {
		b.deleteTable()
	}
	if ch.fresh {
		b.addTableCalled(gatewayLayout)
	}
	if ch.rules {
		sizes := maps.Clone(ch.counts)
		maps.DeleteFunc(sizes, func(id setID, _ int) bool { return id.role < roleOutbound })
		b.writeStructure(structure{counts: sizes, wanted: ch.wanted, fresh: ch.fresh, setsGone: ch.setsGone, chainsThere: ch.chainsThere, setsNew: ch.setsNew,
			helpers: ch.helpers, helpersThere: ch.helpersThere, helperUser: func(helperObject) string { return "" }})
	}
	eachSet(ch.del, func(id setID, list []element) { b.changeElements(unix.NFT_MSG_DELSETELEM, id, list, chunk) })
	eachSet(ch.add, func(id setID, list []element) { b.changeElements(unix.NFT_MSG_NEWSETELEM, id, list, chunk) })
	return b
}
