package hub

import (
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// How many wrong tokens are answered as such, and logged: each is paid for by its source and by all together. One that is right is always
// taken; with 144 bits nobody finds it by trying, and who does must not keep others out.
const (
	wrongPerSource  = 5 // at once, and then one more every wrongEvery
	wrongEvery      = 10 * time.Second
	wrongInAll      = 200 // of all sources
	wrongInAllEvery = 100 * time.Millisecond
	maxSources      = 10_000
	bitsOfV6        = 64 // one subscriber commonly has that many (RFC 6177)
)

// A throttle counts wrong tokens. The zero throttle is ready.
type throttle struct {
	mu      sync.Mutex
	all     debt
	sources map[netip.Prefix]*debt
}

// A debt grows by one with each wrong token, and shrinks with time.
type debt struct {
	owed int
	at   time.Time // up to when time has been given credit for
}

func (d *debt) settle(now time.Time, every time.Duration) {
	if now.Before(d.at) { // the clock was set
		d.at = now
	}
	if n := int(now.Sub(d.at) / every); n >= d.owed {
		d.owed, d.at = 0, now
	} else if n > 0 {
		d.owed -= n
		d.at = d.at.Add(time.Duration(n) * every)
	}
}

func sourceOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = bitsOfV6
	}
	p, _ := addr.Prefix(bits) // zero for no address: those are one source
	return p
}

// may reports whether a token of this source is looked at now.
func (t *throttle) may(from netip.Prefix, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.settle(now, wrongInAllEvery)
	if t.all.owed >= wrongInAll {
		return false
	}
	d := t.sources[from]
	if d == nil {
		return true
	}
	if d.settle(now, wrongEvery); d.owed == 0 {
		delete(t.sources, from)
		return true
	}
	return d.owed < wrongPerSource
}

// wrong takes a wrong token into account.
func (t *throttle) wrong(from netip.Prefix, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all.settle(now, wrongInAllEvery)
	t.all.owed++
	d := t.sources[from]
	if d == nil {
		if t.sources == nil {
			t.sources = map[netip.Prefix]*debt{}
		}
		if len(t.sources) >= maxSources {
			t.forget(now)
		}
		d = &debt{at: now}
		t.sources[from] = d
	}
	d.settle(now, wrongEvery)
	d.owed++
}

// forget makes room: the sources that have paid go, and half of the others if that is not enough.
func (t *throttle) forget(now time.Time) {
	for from, d := range t.sources {
		if d.settle(now, wrongEvery); d.owed == 0 {
			delete(t.sources, from)
		}
	}
	for from := range t.sources {
		if len(t.sources) <= maxSources/2 {
			return
		}
		delete(t.sources, from)
	}
}

// burstEnd is how long it has to be quiet before a thing that happened often is worth a line again.
const burstEnd = 10 * time.Second

// bursts are refusals, of which each kind has one line in the log for as many as come one after the other. The zero bursts are ready.
type bursts struct {
	mu  sync.Mutex
	all map[tunnel.Code]*burst // there are few codes, and they are ours
}

type burst struct {
	unsaid int
	last   time.Time
}

// count reports whether a line is to be written now, and how many had none since the last one.
func (b *bursts) count(code tunnel.Code, now time.Time) (unsaid int, say bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.all[code]
	if one == nil {
		if b.all == nil {
			b.all = map[tunnel.Code]*burst{}
		}
		one = &burst{}
		b.all[code] = one
	}
	quiet := now.Sub(one.last)
	one.last = now
	if quiet >= 0 && quiet < burstEnd {
		one.unsaid++
		return 0, false
	}
	unsaid, one.unsaid = one.unsaid, 0
	return unsaid, true
}
