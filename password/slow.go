package password

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// How sources are slowed. The first wrong password costs firstDelay, and each one more twice as much.
const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 10 * time.Second
	forgetting = 5 * time.Minute // after the last one
	maxSources = 4096
	maxUsers   = 8  // of one source
	maxUser    = 64 // bytes of a name that are looked at
)

// sourceOf is who an address stands for: an IPv6 host has a network of addresses to call from, a /64 as a rule. The zero
// address is everybody who has none, such as those who call a unix socket.
func sourceOf(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64) // no error: it is IPv6
		return p.Addr()
	}
	return addr
}

// slowness is who has guessed wrong, and how often. The zero value is nobody.
//
// A source may be many people, behind one address or on this host. Who was right from there before has only his own wrong
// guesses to wait for; who was not, those of all. Being right takes one's own guesses back and no others', so that nobody
// makes up for guesses by an account of his own.
type slowness struct {
	mu      sync.Mutex
	sources map[netip.Addr]*source
}

type source struct {
	guesses
	users map[string]*user
}

type user struct {
	guesses
	trusted bool // was right from this source
}

type guesses struct {
	wrong int
	last  time.Time
}

// due is how long to wait for the next guess.
func (g guesses) due(now time.Time) time.Duration {
	if g.wrong == 0 {
		return 0
	}
	delay := maxDelay
	if shift := g.wrong - 1; shift < 10 {
		delay = min(delay, firstDelay<<shift)
	}
	return max(0, g.last.Add(delay).Sub(now))
}

func (g *guesses) add(now time.Time) { g.wrong, g.last = g.wrong+1, now }

// wait waits until a user of a source may guess. When several waited, each has to look again: see Checker.Check.
func (s *slowness) wait(ctx context.Context, from netip.Addr, name string) error {
	for {
		due := s.due(from, name)
		if due <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(due)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (s *slowness) due(from netip.Addr, name string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	src, now := s.find(from), time.Now()
	if src == nil {
		return 0
	}
	if u := src.users[short(name)]; u != nil && u.trusted {
		return u.due(now)
	}
	return src.due(now)
}

// find is a source that has guessed wrong and is not forgotten. The caller holds the lock.
func (s *slowness) find(from netip.Addr) *source {
	src := s.sources[from]
	if src != nil && time.Since(src.last) > forgetting {
		delete(s.sources, from)
		return nil
	}
	return src
}

func (s *slowness) wrong(from netip.Addr, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src, now := s.find(from), time.Now()
	if src == nil {
		s.makeRoom()
		src = &source{users: map[string]*user{}}
		s.sources[from] = src
	}
	src.add(now)
	if u := src.user(name); u != nil {
		u.add(now)
	}
}

func (s *slowness) right(from netip.Addr, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.find(from)
	if src == nil {
		return
	}
	if u := src.user(name); u != nil {
		src.wrong -= u.wrong
		u.wrong, u.trusted = 0, true
	}
}

// user is what is known of a user of a source, or nil when there is no room for one more. Those who were right keep theirs.
func (s *source) user(name string) *user {
	name = short(name)
	if u := s.users[name]; u != nil {
		return u
	}
	if len(s.users) >= maxUsers {
		for other, u := range s.users {
			if !u.trusted {
				delete(s.users, other) // what the source has guessed in all stays
				break
			}
		}
		if len(s.users) >= maxUsers {
			return nil
		}
	}
	u := &user{}
	s.users[name] = u
	return u
}

// makeRoom keeps the table bounded: what is forgotten goes, or else who has guessed least recently. The caller holds the lock.
func (s *slowness) makeRoom() {
	if s.sources == nil {
		s.sources = map[netip.Addr]*source{}
	}
	if len(s.sources) < maxSources {
		return
	}
	var oldest netip.Addr
	var last time.Time
	for from := range s.sources {
		if src := s.find(from); src != nil && (last.IsZero() || src.last.Before(last)) {
			oldest, last = from, src.last
		}
	}
	if len(s.sources) >= maxSources {
		delete(s.sources, oldest)
	}
}

// short is as much of a name as is kept of one.
func short(name string) string { return name[:min(len(name), maxUser)] }
