package sshd

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// limits counts connections, by source and in all, and remembers which sources failed to log in.
type limits struct {
	connections, perSource, startups int

	mu       sync.Mutex
	starting int // have not logged in yet
	loggedIn int
	sources  map[netip.Prefix]*source
}

// A source is an IPv4 address or an IPv6 network of 64 bits, of which one subscriber commonly has a whole one (RFC 6177).
type source struct {
	connections int
	starting    int
	failures    int
	failed      time.Time // the last time
}

// How failures of a source are held against it. Some are free: a client offers the keys of its agent one by one.
const (
	freeFailures   = 3
	firstDelay     = 250 * time.Millisecond
	longestDelay   = 8 * time.Second
	forgiveAfter   = time.Minute // without a failure
	maxRemembered  = 10_000      // sources
	prefixBitsOfV6 = 64
)

func newLimits(connections, perSource, startups int) *limits {
	return &limits{connections: connections, perSource: perSource, startups: startups, sources: map[netip.Prefix]*source{}}
}

func sourceOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = prefixBitsOfV6
	}
	p, _ := addr.Prefix(bits) // zero for no address: those are one source
	return p
}

// enter takes a connection in, or says why not. delay is how long it has to wait before it may log in.
func (l *limits) enter(from netip.Prefix, now time.Time) (delay time.Duration, refusal string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sources[from]
	if s == nil {
		s = &source{}
	}
	half := l.startups / 2
	switch {
	case s.connections >= l.perSource:
		return 0, "too many connections from this source"
	case l.starting >= l.startups:
		return 0, "too many connections that have not logged in"
	case s.starting > half:
		return 0, "too many connections from this source that have not logged in"
	case l.starting > half && rand.IntN(l.startups-half) < l.starting-half:
		return 0, "many connections have not logged in, and some are turned away"
	}
	if s.failures > 0 && now.Sub(s.failed) > forgiveAfter {
		s.failures = 0
	}
	if s.failures >= freeFailures {
		delay = min(firstDelay<<min(s.failures-freeFailures, 10), longestDelay)
	}
	s.connections++
	s.starting++
	l.starting++
	l.sources[from] = s
	return delay, ""
}

// login moves a connection to those that have logged in, and says whether there was room.
func (l *limits) login(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loggedIn >= l.connections {
		return false
	}
	s := l.sources[from]
	s.failures = 0
	s.starting--
	l.starting--
	l.loggedIn++
	return true
}

// leave is the end of a connection. failed says that it tried to log in and did not.
func (l *limits) leave(from netip.Prefix, wasIn, failed bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sources[from]
	s.connections--
	if wasIn {
		l.loggedIn--
	} else {
		s.starting--
		l.starting--
	}
	if failed {
		s.failures++
		s.failed = now
	}
	if s.connections == 0 && s.failures == 0 {
		delete(l.sources, from)
	}
	if failed && len(l.sources) > maxRemembered {
		l.forget(now)
	}
}

// forget drops sources without connections: those that are forgiven and, when that is not enough, any.
func (l *limits) forget(now time.Time) {
	for _, all := range []bool{false, true} {
		for from, s := range l.sources {
			if s.connections == 0 && (all && len(l.sources) > maxRemembered/2 || now.Sub(s.failed) > forgiveAfter) {
				delete(l.sources, from)
			}
		}
		if len(l.sources) <= maxRemembered {
			return
		}
	}
}
