package kernel

import (
	"errors"
	"iter"
	"log/slog"
	"maps"
	"os"

	"github.com/fairlead-net/fairlead/forward"
)

// Stats is what the kernel has counted for each forward that it carries. Total is sessions translated; bytes are whole IP
// packets of translated sessions, headers included, each way. Open is sessions that conntrack still knows, closing ones
// included. Where the kernel cannot be read just now, the last reading stands.
func (c *Carrier) Stats() map[string]forward.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]forward.Stats)
	if c.handle == 0 {
		return out
	}
	if err := c.withSocket(func(s *nlSocket) error { return c.read(s, maps.Keys(c.elements)) }); err != nil {
		c.log.Warn("counters cannot be read", "table", c.table, "error", err)
	}
	open := map[string]int{}
	err := c.eachSession(func(s session, f *forward.Forward) {
		if !s.related() { // what a session negotiates is a part of it
			open[f.Name]++
		}
	})
	if err != nil {
		c.log.Warn("sessions cannot be read", "table", c.table, "error", err)
	}
	notes := helperNotes(c.carried.All())
	for f := range c.carried.All() {
		if f.Carry == forward.CarryKernel {
			s := forward.Stats{Open: open[f.Name], Note: notes[f.Helper]}
			if r := c.counted[f.Name]; r != nil {
				s.Total, s.BytesIn, s.BytesOut = r[countsSessions].packets, r[countsIn].bytes, r[countsOut].bytes
			}
			out[f.Name] = s
		}
	}
	return out
}

// read takes a new reading of every counter in sets, which are all those in the table that have any.
func (c *Carrier) read(s *nlSocket, sets iter.Seq[setID]) error {
	const tries = 4 // another program's change of its own tables interrupts us, too
	err := errDumpInterrupted
	for try := 0; try < tries && errors.Is(err, errDumpInterrupted); try++ {
		err = c.readOnce(s, sets)
	}
	return err
}

func (c *Carrier) readOnce(s *nlSocket, sets iter.Seq[setID]) error {
	now := make(map[string]*reading, len(c.counted))
	for id := range sets {
		if !id.counts() {
			continue
		}
		err := eachCount(s, c.table, id.name(), func(key, owner []byte, n counter) {
			class := id.class(key)
			r := now[string(owner)]
			if r == nil {
				r = new(reading)
				now[string(owner)] = r
			}
			r[class] = r[class].plus(n)
		})
		if err != nil {
			return err
		}
	}
	c.counted = now
	return nil
}

// countersOf adds up what elements have counted, by class.
func (c *Carrier) countersOf(s *nlSocket, elements []element) (map[counterClass]counter, error) {
	sums := map[counterClass]counter{}
	for _, e := range elements {
		if !e.set.counts() {
			continue
		}
		f, err := lookUp(s, c.table, e)
		if err != nil {
			return nil, err
		}
		if f.counted != (counter{}) {
			sums[e.class()] = sums[e.class()].plus(f.counted)
		}
	}
	return sums, nil
}

// restoreCounters lets the elements of a table that is made anew start from the last reading, so that totals do not go
// back when somebody flushed the ruleset.
func (c *Carrier) restoreCounters(add []element) {
	type key struct {
		owner string
		class counterClass
	}
	done := map[key]bool{}
	for i, e := range add {
		r, ok := c.counted[e.owner]
		k := key{e.owner, e.class()}
		if !ok || k.class == countsNothing || done[k] {
			continue
		}
		done[k] = true
		add[i].counted = r[k.class]
	}
}

// enableAccounting lets conntrack count bytes and remember when each session began. It is a courtesy to "sessions": the
// totals of forwards do not need it.
func enableAccounting(log *slog.Logger) {
	for _, name := range []string{"nf_conntrack_acct", "nf_conntrack_timestamp"} {
		path := "/proc/sys/net/netfilter/" + name
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 && b[0] == '1' {
			continue
		}
		if err := os.WriteFile(path, []byte("1\n"), 0); err != nil {
			log.Info("bytes and ages of single kernel sessions will be missing", "sysctl", name, "error", err)
		}
	}
}
