package table

import (
	"strings"
	"sync"

	"github.com/fairlead-net/fairlead/forward"
)

// counters turns what carriers count, which starts again with each of them and each of their lives, into totals that never
// go backwards while a forward exists. For each forward and leg it keeps what was counted in earlier lives (base) and the
// last reading of this one (last); the total is their sum. A reading below the last one is of a new life.
type counters struct {
	reading sync.Mutex // held from reading a carrier to entering it, and before a leg ends: readings come in in order

	mu      sync.Mutex // may be taken while holding Table.mu; never the other way round
	tallies map[string]*tally
	stored  map[string]*tally // read from the store, not asked for yet
	dirty   map[string]bool   // to be written
	gone    map[string]bool   // to be deleted
	n       uint64            // readings so far
}

// A tally is what one forward has counted, by leg. Legs that never counted anything are left out.
type tally struct{ meters []meter }

// A leg is who counts.
type leg uint8

const (
	legKernel leg = iota
	legRelay
	legLo4 // the relay, in the companion on 127.0.0.1
	legLo6 // the relay, in the companion on ::1
	legs
)

// legNames are how legs are written in the store.
var legNames = [legs]string{"kernel", "relay", "lo4", "lo6"}

type meter struct {
	leg        leg
	base, last totals
	open       int                   // as of reading
	note       string                // as of reading
	failing    string                // as of reading
	waiting    string                // as of reading
	targets    []forward.TargetStats // as of reading
	reading    uint64                // when it was last read
}

// totals are what only grows: sessions, refused clients, bytes in, bytes out.
type totals [4]uint64

func totalsOf(s forward.Stats) totals { return totals{s.Total, s.Refused, s.BytesIn, s.BytesOut} }

// A meterKey names one leg of one forward.
type meterKey struct {
	name string
	leg  leg
}

func newCounters() *counters {
	return &counters{
		tallies: map[string]*tally{}, stored: map[string]*tally{}, dirty: map[string]bool{}, gone: map[string]bool{},
	}
}

// keep makes name counted, from where it was when the daemon last ran.
func (c *counters) keep(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tallies[name] != nil {
		return
	}
	t := c.stored[name]
	if t == nil {
		t = new(tally)
	}
	c.tallies[name] = t
	delete(c.stored, name)
	delete(c.gone, name)
}

// drop forgets name.
func (c *counters) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tallies, name)
	delete(c.dirty, name)
	c.gone[name] = true
}

// prune forgets what is in the store for forwards that are not in the table.
func (c *counters) prune() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.stored {
		c.gone[name] = true
	}
	c.stored = map[string]*tally{}
}

// read asks both carriers.
func (c *counters) read(kernel, relay Carrier) {
	c.reading.Lock()
	defer c.reading.Unlock()
	fromKernel, fromRelay := kernel.Stats(), relay.Stats()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	for name, s := range fromKernel {
		c.enter(meterKey{name, legKernel}, s)
	}
	for name, s := range fromRelay {
		c.enter(relayKey(name), s)
	}
}

func (c *counters) enter(k meterKey, s forward.Stats) {
	t := c.tallies[k.name]
	if t == nil { // deleted meanwhile
		return
	}
	raw := totalsOf(s)
	m := t.meter(k.leg)
	if m == nil {
		if raw == (totals{}) && s.Open == 0 && s.Note == "" && s.Failing == "" && s.Waiting == "" && s.Targets == nil {
			return
		}
		t.meters = append(t.meters, meter{leg: k.leg})
		m = &t.meters[len(t.meters)-1]
	}
	m.open, m.note, m.failing, m.waiting, m.reading = s.Open, s.Note, s.Failing, s.Waiting, c.n
	if m.targets = nil; k.leg == legRelay { // a companion has but a part of the sessions
		m.targets = s.Targets
	}
	if m.last == raw {
		return
	}
	for i := range raw {
		if raw[i] < m.last[i] {
			m.base[i] += m.last[i]
		}
	}
	m.last = raw
	c.dirty[k.name] = true
}

func (t *tally) meter(l leg) *meter {
	for i := range t.meters {
		if t.meters[i].leg == l {
			return &t.meters[i]
		}
	}
	return nil
}

// end closes a life of these legs: their carrier has let go of the forward and will count from 0 when it comes back.
func (c *counters) end(keys []meterKey) {
	c.reading.Lock()
	defer c.reading.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		t := c.tallies[k.name]
		if t == nil {
			continue
		}
		if m := t.meter(k.leg); m != nil {
			m.fold()
			c.dirty[k.name] = true
		}
	}
}

func (m *meter) fold() {
	for i := range m.base {
		m.base[i] += m.last[i]
	}
	m.last, m.open, m.note, m.failing, m.waiting, m.targets = totals{}, 0, "", "", "", nil
}

// of is the sum over the legs of name, as of the last reading.
func (c *counters) of(name string) forward.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum forward.Stats
	t := c.tallies[name]
	if t == nil {
		return sum
	}
	for _, m := range t.meters {
		s := forward.Stats{
			Total: m.base[0] + m.last[0], Refused: m.base[1] + m.last[1], BytesIn: m.base[2] + m.last[2], BytesOut: m.base[3] + m.last[3],
		}
		if m.reading == c.n {
			s.Open, s.Note, s.Failing, s.Waiting, s.Targets = m.open, m.note, m.failing, m.waiting, m.targets
		}
		sum = sum.Add(s)
	}
	return sum
}

// relayKey is whose counter the relay's is: that of a companion belongs to the forward it accompanies.
func relayKey(name string) meterKey {
	main, suffix, _ := strings.Cut(name, "/")
	switch "/" + suffix {
	case suffixLo4:
		return meterKey{main, legLo4}
	case suffixLo6:
		return meterKey{main, legLo6}
	}
	return meterKey{main, legRelay}
}
