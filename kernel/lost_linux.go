package kernel

import (
	"maps"
)

// Lost reports whether the kernel does not have what the last Apply asked for: because that was refused, or because
// somebody else removed or emptied the table since ("nft flush ruleset"). The next Apply puts it right. While nobody
// changes nftables at all, asking costs one small message.
func (c *Carrier) Lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed {
		return true
	}
	if !c.known || c.handle == 0 {
		return false
	}
	intact := true
	err := c.withSocket(func(s *nlSocket) error {
		now, err := generation(s)
		if err != nil || now == c.ledger.since(c.generation) {
			return err
		}
		if intact, err = c.intact(s); err == nil && intact {
			c.generation = now
		}
		return err
	})
	if err != nil {
		c.log.Warn("whether the table is intact cannot be told", "table", c.table, "error", err)
		return false
	}
	if !intact {
		c.known = false
	}
	return !intact
}

// intact compares the table with what the carrier left: that it is the same one, its rules, and its sets. Elements are
// only compared where they are few, for somebody else may change nftables all day.
func (c *Carrier) intact(s *nlSocket) (bool, error) {
	const few = 2000
	handle, _, err := getTable(s, c.table)
	if err != nil || handle != c.handle {
		return false, err
	}
	rules, err := countRulesOf(s, c.table)
	if err != nil {
		return false, err
	}
	wanted, elements := 0, 0
	for _, chain := range chains(sortedSets(maps.Keys(c.elements))) {
		wanted += len(chain.rules)
	}
	sets, err := setNames(s, c.table)
	if err != nil || rules != wanted || len(sets) != len(c.elements)+1 {
		return false, err
	}
	for _, n := range c.elements {
		elements += n
	}
	if elements > few {
		return true, nil
	}
	for id, n := range c.elements {
		list, err := elementsOf(s, c.table, id.name())
		if err != nil || len(list) != n {
			return false, err
		}
	}
	return true, nil
}
