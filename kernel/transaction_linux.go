package kernel

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// transaction writes change as one batch: what goes, what comes, and the rules again where the sets are not the same.
func (c *Carrier) transaction(ch *change, size int) *batch {
	b := newBatchAt(c.table, ch.at)
	if ch.dropTable {
		b.deleteTable()
	}
	if ch.dropTable && !ch.fresh {
		return b
	}
	if ch.fresh {
		b.addTable()
		b.addInterfaceSet()
	}
	if ch.rules {
		b.writeStructure(structure{wanted: chains(ch.sets), fresh: ch.fresh, setsGone: ch.setsGone, chainsThere: ch.chainsThere,
			setsNew: ch.setsNew, counts: ch.counts, helpers: helperObjects(ch.sets), helpersThere: ch.helpersThere,
			helperUser: func(o helperObject) string { return o.user(ch.want.All()) }})
	}
	for _, name := range ch.interfacesGone {
		b.changeInterface(unix.NFT_MSG_DELSETELEM, name)
	}
	for _, name := range ch.interfacesNew {
		b.changeInterface(unix.NFT_MSG_NEWSETELEM, name)
	}
	eachSet(ch.del, func(id setID, list []element) { b.changeElements(unix.NFT_MSG_DELSETELEM, id, list, size) })
	eachSet(ch.add, func(id setID, list []element) { b.changeElements(unix.NFT_MSG_NEWSETELEM, id, list, size) })
	return b
}

// A structure is the sets and chains of a table, and what goes of those there.
type structure struct {
	wanted      []chain
	fresh       bool // there is nothing yet
	setsNew     []setID
	counts      map[setID]int // how many elements they will have; 0 is not known
	setsGone    []string
	chainsThere []string

	helpers      []helperObject
	helpersThere []string
	helperUser   func(helperObject) string // the forward whose fault it is when the kernel has none
}

// writeStructure declares new sets and chains, writes every rule anew, and removes the sets and chains that no rule names.
func (b *batch) writeStructure(ch structure) {
	if !ch.fresh {
		b.flushRules()
	}
	for _, name := range ch.setsGone {
		b.deleteSet(name)
	}
	keep := map[string]bool{}
	for _, c := range ch.wanted {
		keep[c.name] = true
	}
	for _, name := range ch.chainsThere {
		if !keep[name] {
			b.deleteChain(name)
		}
	}
	for _, name := range ch.helpersThere {
		if !slices.ContainsFunc(ch.helpers, func(o helperObject) bool { return o.name() == name }) {
			b.deleteHelper(name)
		}
	}
	for _, o := range ch.helpers {
		if !slices.Contains(ch.helpersThere, o.name()) {
			b.addHelper(o, ch.helperUser(o))
		}
	}
	for _, id := range ch.setsNew {
		b.addSet(id, ch.counts[id])
	}
	for _, c := range ch.wanted {
		b.addChain(c)
	}
	for _, c := range ch.wanted {
		b.addRules(c)
	}
}

// eachSet calls yield for the elements of one set after the other, in the order of the sets. Elements of one set that stand
// together already are not copied.
func eachSet(list []element, yield func(setID, []element)) {
	sizes, by := map[setID]int{}, map[setID][]element{}
	for i, n := 0, 0; i < len(list); i += n {
		for n = 1; i+n < len(list) && list[i+n].set == list[i].set; n++ {
		}
		sizes[list[i].set] += n
	}
	for len(list) > 0 {
		id, n := list[0].set, 1
		for n < len(list) && list[n].set == id {
			n++
		}
		switch size := sizes[id]; {
		case size == n:
			by[id] = list[:n]
		case by[id] == nil:
			by[id] = append(make([]element, 0, size), list[:n]...)
		default:
			by[id] = append(by[id], list[:n]...)
		}
		list = list[n:]
	}
	for _, id := range sortedSets(maps.Keys(by)) {
		yield(id, by[id])
	}
}
