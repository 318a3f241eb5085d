package grant

import (
	"sync"
	"time"
)

const (
	// settleAfter is how long nothing has to be granted until the store says that it has all. The table writes leases half a
	// second behind.
	settleAfter = 3 * time.Second
	// clockPause is how often it is looked whether the wall clock was set, which the stored epoch goes by.
	clockPause = time.Minute
	clockLimit = time.Second
)

// A safety has the store say whether it has every lease that was granted: only who ends a program while it has not takes leases
// with it that clients believe in, and only then the epoch has to begin anew (RFC 6887, section 8.5). So the first grant after
// a while waits for one write, and all that come with it and after it for none.
//
//	clean ──(a grant begins: written first)──► not clean ──(nothing granted for a while, leases stored: written)──► clean
type safety struct {
	kick chan struct{} // capacity 1: something was granted

	mu     sync.Mutex
	clean  bool      // is what the store says
	wrote  time.Time // when it was told
	busy   int       // grants that are under way
	grants uint64    // that have begun
	ended  bool      // what the store says now is the last word
}

// begin is called before anything is granted, what it returns afterwards. A store that fails keeps nobody from getting a mapping.
func (s *safety) begin(d *Desk) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy++
	s.grants++
	if s.clean && !s.ended {
		if err := s.writeLocked(d, false); err != nil {
			d.Log.Warn("should the program be killed now, clients are not told to ask again", keyErr, err)
		}
	}
	return func() {
		s.mu.Lock()
		s.busy--
		s.mu.Unlock()
		s.nudge()
	}
}

func (s *safety) nudge() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// open has the store say what holds as soon as leases are granted: what there is was stored, and somebody may be waiting for more.
func (s *safety) open(d *Desk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(d, s.busy == 0)
}

// rewrite has the store say how old the mappings are now, and of the leases what it said.
func (s *safety) rewrite(d *Desk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(d, s.clean)
}

func (s *safety) writeLocked(d *Desk, clean bool) error {
	err := d.saveEpoch(clean)
	if err == nil {
		s.clean, s.wrote = clean, time.Now()
	}
	return err
}

// end has the store say that it has all, for good.
func (s *safety) end(d *Desk) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return s.writeLocked(d, true)
}

// settle has the store say that it has all, where it has, and returns when to look again.
func (d *Desk) settle() time.Duration {
	s := &d.safety
	s.mu.Lock()
	clean, before, busy := s.clean, s.grants, s.busy
	set := clean && clockSet(s.wrote, time.Now())
	s.mu.Unlock()
	switch {
	case clean && !set:
		return clockPause
	case busy > 0:
		return settleAfter
	}
	if err := d.Table.SaveLeases(); err != nil {
		return settleAfter // the table says so
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grants != before || s.busy > 0 {
		return settleAfter
	}
	if err := s.writeLocked(d, true); err != nil {
		d.Log.Warn("a crash would have clients ask for all their mappings again", keyErr, err)
		return settleAfter
	}
	d.Log.Debug("all leases are stored")
	return clockPause
}

// clockSet reports whether the wall clock was set since, which a clock that cannot be set tells.
func clockSet(since, now time.Time) bool {
	by := now.Round(0).Sub(since.Round(0)) - now.Sub(since)
	return by.Abs() > clockLimit
}
