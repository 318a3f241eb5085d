package igd

import (
	"net/netip"
	"sync"
	"time"
)

// A bucket is what somebody may still use up: it fills at a rate, up to a brim.
type bucket struct {
	level float64
	at    time.Time
}

func (b *bucket) take(n int, rate, brim float64, now time.Time) bool {
	b.fill(rate, brim, now)
	if b.level < float64(n) {
		return false
	}
	b.level -= float64(n)
	return true
}

func (b *bucket) fill(rate, brim float64, now time.Time) {
	if b.at.IsZero() {
		b.level = brim
	} else {
		b.level = min(brim, b.level+now.Sub(b.at).Seconds()*rate)
	}
	b.at = now
}

// How many datagrams answer the searches of one source, and of all in a place. A search for everything takes about ten.
const (
	sourceRate, sourceBrim = 60, 150
	placeRate, placeBrim   = 400, 1000
	maxSources             = 1024
)

// A meter holds the answers of a place within bounds, so that nobody uses them to flood another under a false name.
type meter struct {
	mu      sync.Mutex
	all     bucket
	sources map[netip.Addr]*bucket
}

// allow takes n answers to a source, or none.
func (m *meter) allow(source netip.Addr, n int, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.sources[source]
	if b == nil {
		if len(m.sources) >= maxSources {
			m.forget(now)
		}
		if len(m.sources) >= maxSources {
			return false
		}
		if m.sources == nil {
			m.sources = map[netip.Addr]*bucket{}
		}
		b = &bucket{}
		m.sources[source] = b
	}
	if b.fill(sourceRate, sourceBrim, now); b.level < float64(n) || !m.all.take(n, placeRate, placeBrim, now) {
		return false
	}
	b.level -= float64(n)
	return true
}

// forget drops the sources whose buckets are full again.
func (m *meter) forget(now time.Time) {
	for source, b := range m.sources {
		if b.fill(sourceRate, sourceBrim, now); b.level >= sourceBrim {
			delete(m.sources, source)
		}
	}
}
