package kernel

import (
	"bytes"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A change is the difference between what the kernel has and what it shall have.
type change struct {
	at uint32 // the generation that it is made for; 0: the table was looked at, or is made

	want           forward.List
	removed, added []*forward.Forward // by pointer; a forward that is to be different is in both

	dropTable bool // the table there is of another layout, or no longer needed
	fresh     bool // the table is made
	rules     bool // the sets are not the same: the rules are written anew
	linger    bool // what becomes empty stays for the next lease, until something else has the rules written anew
	del, add  []element
	counts    map[setID]int // elements of each set afterwards
	sets      []setID       // with elements afterwards, in order

	setsNew                       []setID
	setsGone                      []string
	chainsThere, helpersThere     []string
	interfaces                    []string // afterwards
	interfacesNew, interfacesGone []string

	goneTargets  map[netip.AddrPort]bool // where forwards led that only the kernel's table still tells of
	gonePinholes map[netip.AddrPort]bool // those of them that led to where they listened
}

// touches reports whether there is anything to do in the kernel.
func (ch *change) touches() bool {
	return ch.dropTable || ch.fresh || ch.rules || len(ch.del)+len(ch.add)+len(ch.interfacesNew)+len(ch.interfacesGone) > 0
}

// difference finds what has to change for want: from memory while that is known to be true, else from the kernel. Whether it is true
// need not be asked where there is something to change and nobody else is known to have changed anything: the kernel refuses the
// change (ERESTART) should somebody have.
func (c *Carrier) difference(s *nlSocket, want forward.List) (*change, error) {
	if c.known && c.handle != 0 {
		ch, wrong := c.differenceFromMemory(s, want)
		if wrong == nil && ch.touches() {
			if ch.at = c.ledger.since(c.generation); ch.at != 0 {
				return ch, nil
			}
		}
		if there, err := c.isThere(s); there || err != nil {
			return ch, errors.Join(err, wrong)
		}
	}
	return c.differenceFromKernel(s, want)
}

// isThere reports whether the table is still the one that the carrier has made or found, with a look where somebody else has changed
// anything in nftables. What he did in it Lost finds.
func (c *Carrier) isThere(s *nlSocket) (there bool, err error) {
	there, c.generation, err = isThere(s, c.table, c.handle, c.ledger.since(c.generation))
	if err == nil && !there {
		c.log.Warn("the table was removed by another program; it is made anew", "table", c.table)
	}
	return there, err
}

// differenceFromMemory compiles what is not in both lists; what is in both costs nothing.
func (c *Carrier) differenceFromMemory(s *nlSocket, want forward.List) (*change, error) {
	ch := &change{want: want, counts: c.elements}
	ch.removed, ch.added = c.carried.Differ(want)
	ch.linger = onlyLeases(ch.removed)
	if want.Len() == 0 && !ch.linger {
		ch.dropTable = true
		return ch, nil
	}
	ch.setInterfaces(&c.links, c.interfaces)
	if len(ch.removed)+len(ch.added) == 0 {
		return ch, nil
	}
	ch.del, ch.add = make([]element, 0, usualElements*len(ch.removed)), make([]element, 0, usualElements*len(ch.added))
	removed, added := ch.removed, ch.added // both are sorted by name
	for len(removed)+len(added) > 0 {
		order := 0
		switch {
		case len(added) == 0:
			order = -1
		case len(removed) == 0:
			order = 1
		default:
			order = strings.Compare(removed[0].Name, added[0].Name)
		}
		wasDel, wasAdd := len(ch.del), len(ch.add)
		if order <= 0 {
			compileForward(removed[0], func(e element) { ch.del = append(ch.del, e) })
			removed = removed[1:]
		}
		if order >= 0 {
			compileForward(added[0], func(e element) { ch.add = append(ch.add, e) })
			added = added[1:]
		}
		if order == 0 && len(ch.add) > wasAdd {
			old, now, err := c.carryOver(s, ch.del[wasDel:], ch.add[wasAdd:])
			if err != nil {
				return nil, err
			}
			ch.del, ch.add = append(ch.del[:wasDel], old...), append(ch.add[:wasAdd], now...)
		}
	}
	return ch, ch.setStructure(s, c.table, c.elements)
}

// usualElements is how many elements a forward of one port has.
const usualElements = 4

// onlyLeases reports whether the kernel carries nothing of list but leases, which come and go: to make and unmake sets and rules for
// each would take longer than all the rest.
func onlyLeases(list []*forward.Forward) bool {
	return !slices.ContainsFunc(list, func(f *forward.Forward) bool { return f.Carry == forward.CarryKernel && !f.Origin.IsLease() })
}

// carryOver leaves the elements alone that a changed forward had and keeps, and lets the counters of those that go start
// those that come: a change of a target does not set a forward's totals back.
func (c *Carrier) carryOver(s *nlSocket, old, now []element) (del, add []element, err error) {
	id := func(e element) string { return e.set.name() + identity(e.key, e.keyEnd, e.data, e.owner) }
	had, has := map[string]bool{}, map[string]bool{}
	for _, e := range old {
		had[id(e)] = true
	}
	for _, e := range now {
		has[id(e)] = true
	}
	del = slices.DeleteFunc(slices.Clone(old), func(e element) bool { return has[id(e)] })
	add = slices.DeleteFunc(slices.Clone(now), func(e element) bool { return had[id(e)] })
	counted, err := c.countersOf(s, del)
	if err != nil {
		return nil, nil, err
	}
	for class, sum := range counted {
		of := func(e element) bool { return e.class() == class }
		if i := slices.IndexFunc(add, of); i >= 0 {
			add[i].counted = sum
			continue
		}
		// Nothing comes that counts this: one that stays takes it over.
		i := slices.IndexFunc(now, of)
		if i < 0 {
			continue
		}
		kept, err := lookUp(s, c.table, now[i])
		if err != nil {
			return nil, nil, err
		}
		del = append(del, now[i])
		add = append(add, now[i])
		add[len(add)-1].counted = sum.plus(kept.counted)
	}
	return del, add, nil
}

// differenceFromKernel reads the table and compares it with what want compiles to, element by element.
func (c *Carrier) differenceFromKernel(s *nlSocket, want forward.List) (*change, error) {
	c.known = false
	ch := &change{want: want, added: want.Slice()}
	handle, comment, err := getTable(s, c.table)
	if err != nil {
		return nil, err
	}
	rs, _ := Compile(c.table, ch.added, nil) // what cannot be carried is not in want: Apply has looked
	if handle != 0 && comment == layout && want.Len() > 0 {
		return ch, c.compareTable(s, ch, rs)
	}
	if handle != 0 && !strings.HasPrefix(comment, layoutPrefix) {
		return nil, errNotOurs(c.table, comment)
	}
	if handle != 0 {
		ch.dropTable = true
		if err := ch.rememberTargets(s, c.table); err != nil {
			return nil, err
		}
	}
	if want.Len() == 0 {
		return ch, nil
	}
	return ch, c.compose(s, ch, rs)
}

// compose has the table made from nothing.
func (c *Carrier) compose(s *nlSocket, ch *change, rs *Ruleset) error {
	ch.fresh = true
	for _, id := range rs.sets {
		ch.add = append(ch.add, rs.elements[id]...)
	}
	c.restoreCounters(ch.add)
	ch.setInterfaces(&c.links, nil)
	return ch.setStructure(s, c.table, map[setID]int{})
}

// enlarge is ch by way of a table that is made anew, because a set of the one there is cannot take what shall be added.
func (c *Carrier) enlarge(s *nlSocket, ch *change) (*change, error) {
	there, err := setNames(s, c.table)
	if err != nil {
		return nil, err
	}
	rs, _ := Compile(c.table, ch.want.Slice(), nil) // as in differenceFromKernel
	had := slices.DeleteFunc(slices.Clone(rs.sets), func(id setID) bool { return !slices.Contains(there, id.name()) })
	if err := c.read(s, slices.Values(had)); err != nil {
		return nil, err
	}
	larger := &change{want: ch.want, removed: ch.removed, added: ch.added, goneTargets: ch.goneTargets, gonePinholes: ch.gonePinholes, dropTable: true}
	return larger, c.compose(s, larger, rs)
}

func (c *Carrier) compareTable(s *nlSocket, ch *change, rs *Ruleset) error {
	there, err := setNames(s, c.table)
	if err != nil {
		return err
	}
	counts := map[setID]int{}
	for _, id := range rs.sets {
		if !slices.Contains(there, id.name()) {
			ch.add = append(ch.add, rs.elements[id]...)
			continue
		}
		has, err := elementsOf(s, c.table, id.name())
		if err != nil {
			return err
		}
		counts[id] = len(has)
		ch.compareSet(id, has, rs.elements[id])
	}
	interfaces, err := elementsOf(s, c.table, sameInterfaces)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range interfaces {
		names = append(names, interfaceName(f.key))
	}
	ch.setInterfaces(&c.links, names)
	if err := ch.setStructure(s, c.table, counts); err != nil {
		return err
	}
	// Sets that nothing here knows are of forwards that are gone.
	ch.setsGone = slices.DeleteFunc(there, func(name string) bool {
		return name == sameInterfaces || slices.ContainsFunc(rs.sets, func(id setID) bool { return id.name() == name })
	})
	if len(ch.setsGone)+len(ch.del) > 0 {
		if err := ch.rememberTargets(s, c.table); err != nil {
			return err
		}
	}
	ch.rules = true
	return ch.readStructure(s, c.table)
}

func (ch *change) compareSet(id setID, has []found, wanted []element) {
	there := make(map[string]found, len(has))
	for _, f := range has {
		there[identity(f.key, f.keyEnd, f.data, f.owner)] = f
	}
	for _, e := range wanted {
		key := identity(id.trim(id.key(), e.key), e.keyEnd, id.trim(id.data(), e.data), e.owner)
		if _, ok := there[key]; ok {
			delete(there, key)
			continue
		}
		ch.add = append(ch.add, e)
	}
	for _, f := range there {
		ch.del = append(ch.del, element{set: id, key: f.key, keyEnd: f.keyEnd, data: f.data, owner: f.owner})
	}
}

// rememberTargets reads from the table where its forwards lead, so that the sessions of those that go can be ended.
func (ch *change) rememberTargets(s *nlSocket, table string) error {
	ch.goneTargets, ch.gonePinholes = map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
	sets, err := setNames(s, table)
	if err != nil {
		return err
	}
	for _, name := range sets {
		list, err := elementsOf(s, table, name)
		if err != nil {
			return err
		}
		for _, f := range list {
			if t, ok := targetOf(f.data); ok {
				ch.goneTargets[t] = true
				if t.Addr().IsValid() && bytes.Contains(f.key, t.Addr().AsSlice()) {
					ch.gonePinholes[t] = true
				}
			}
		}
	}
	return nil
}

// setStructure finds which sets come and go, given how many elements each has now.
func (ch *change) setStructure(s *nlSocket, table string, now map[setID]int) error {
	ch.counts = make(map[setID]int, len(now))
	for id, n := range now {
		ch.counts[id] = n
	}
	for _, e := range ch.del {
		ch.counts[e.set]--
	}
	for _, e := range ch.add {
		ch.counts[e.set]++
	}
	ch.setsNew, ch.setsGone = arrange(ch.counts, now, ch.linger && !ch.fresh)
	ch.sets = sortedSets(maps.Keys(ch.counts))
	ch.del = slices.DeleteFunc(ch.del, func(e element) bool { return !has(ch.counts, e.set) }) // they go with their set
	if ch.rules = ch.fresh || len(ch.setsNew)+len(ch.setsGone) > 0; !ch.rules || ch.fresh {
		return nil
	}
	return ch.readStructure(s, table)
}

// arrange finds which sets come, in order, and the names of those that go, and takes the latter out of counts: how many elements each
// will have. now is how many each has that there is. With linger empty ones stay as long as nothing else comes or goes.
func arrange(counts, now map[setID]int, linger bool) (fresh []setID, gone []string) {
	var empty []setID
	for id, n := range counts {
		switch {
		case n > 0 && !has(now, id):
			fresh = append(fresh, id)
		case n == 0:
			empty = append(empty, id)
		}
	}
	if linger && len(fresh) == 0 {
		return nil, nil
	}
	for _, id := range empty {
		delete(counts, id)
		if has(now, id) {
			gone = append(gone, id.name())
		}
	}
	slices.SortFunc(fresh, setID.compare)
	return fresh, gone
}

func has(counts map[setID]int, id setID) bool {
	_, there := counts[id]
	return there
}

// readStructure reads what writeStructure has to know of the table that is there.
func (ch *change) readStructure(s *nlSocket, table string) (err error) {
	if ch.chainsThere, err = chainNames(s, table); err != nil {
		return err
	}
	ch.helpersThere, err = helperNames(s, table)
	return err
}

// setInterfaces compares the interfaces of this host with those in the table.
func (ch *change) setInterfaces(host *links, there []string) {
	var err error
	if ch.interfaces, err = host.list(); err != nil {
		ch.interfaces = there // the next Apply looks again
	}
	for _, name := range ch.interfaces {
		if !slices.Contains(there, name) {
			ch.interfacesNew = append(ch.interfacesNew, name)
		}
	}
	for _, name := range there {
		if !slices.Contains(ch.interfaces, name) {
			ch.interfacesGone = append(ch.interfacesGone, name)
		}
	}
}
