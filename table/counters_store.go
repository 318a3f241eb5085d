package table

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/fairlead-net/fairlead/store"
)

// storedTally is a tally in the store: by leg, its base and its last.
type storedTally map[string][2]totals

// load reads what was saved. Only the counters of the kernel have lived on meanwhile.
func (c *counters) load(s store.Store, log *slog.Logger) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := s.Each(bucketCounters, func(name string, data []byte) error {
		var in storedTally
		if err := json.Unmarshal(data, &in); err != nil {
			log.Warn("stored counters cannot be read; they start again from 0", keyForward, name, keyErr, err)
			return nil
		}
		t := new(tally)
		for l, legName := range legNames {
			if v, ok := in[legName]; ok {
				m := meter{leg: leg(l), base: v[0], last: v[1]}
				if m.leg != legKernel {
					m.fold()
				}
				t.meters = append(t.meters, m)
			}
		}
		if c.tallies[name] != nil {
			c.tallies[name] = t
		} else {
			c.stored[name] = t
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the stored counters cannot be read: %w", err)
	}
	return nil
}

// save writes what has changed since the last save.
func (c *counters) save(s store.Store) error {
	c.mu.Lock()
	dirty, gone := c.dirty, c.gone
	c.dirty, c.gone = map[string]bool{}, map[string]bool{}
	values := make(map[string][]byte, len(dirty))
	for name := range dirty {
		out := storedTally{}
		for _, m := range c.tallies[name].meters {
			out[legNames[m.leg]] = [2]totals{m.base, m.last}
		}
		values[name], _ = json.Marshal(out) // maps of numbers always can be
	}
	c.mu.Unlock()
	if len(dirty)+len(gone) == 0 {
		return nil
	}
	err := s.Update(func(tx store.Tx) error {
		for name := range gone {
			if err := tx.Delete(bucketCounters, name); err != nil {
				return err
			}
		}
		for name, v := range values {
			if err := tx.Put(bucketCounters, name, v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil { // next time
		c.mu.Lock()
		defer c.mu.Unlock()
		for name := range dirty {
			if c.tallies[name] != nil {
				c.dirty[name] = true
			}
		}
		for name := range gone {
			if c.tallies[name] == nil {
				c.gone[name] = true
			}
		}
	}
	return err
}
