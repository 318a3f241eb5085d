package kernel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// purge ends the conntrack entries that a change has made wrong: sessions of forwards that are gone, UDP flows of forwards
// that lead elsewhere now, and what reached this host before a forward claimed it. Established TCP sessions of a program
// of this host are left alone, and so are those of a forward whose target changed: they finish where they began.
//
// The walk through conntrack takes as long as its hash table is large (10 ms on a big machine). What a removed forward
// leaves must be gone when it is reported removed; what an added one finds is looked for a moment later.
func (c *Carrier) purge(nl *nlSocket, ch *change) {
	if len(ch.removed)+len(ch.added)+len(ch.goneTargets) == 0 {
		return
	}
	if len(ch.goneTargets) == 0 && allLeases(ch.removed) && allLeases(ch.added) {
		c.purgeLeasesLater(ch.removed, ch.added)
		return
	}
	here, err := localAddrs()
	if err != nil {
		c.report(0, err)
		return
	}
	if len(ch.removed)+len(ch.goneTargets) == 0 {
		c.purgeLater(ch.added, here)
		return
	}
	c.late.forget(ch.removed)
	p := purger{here: here, now: map[string]*forward.Forward{}, gone: ch.goneTargets, gonePinholes: ch.gonePinholes, former: c.former}
	for _, f := range ch.added {
		p.now[f.Name] = f
	}
	if err := errors.Join(index(&p.before, ch.removed), index(&p.after, ch.added)); err != nil {
		c.log.Error("a changed forward claims what another does", "error", err)
	}
	c.report(p.run(nl))
}

// lateBy is how long added forwards are gathered, so that many which come one by one cost a few walks and not one each.
const lateBy = 100 * time.Millisecond

// late is the forwards that were added and have not been looked after yet.
type late struct {
	mu      sync.Mutex
	added   []*forward.Forward
	here    map[netip.Addr]bool
	running bool // a goroutine will
}

// purgeLater has a goroutine end what added forwards find.
func (c *Carrier) purgeLater(added []*forward.Forward, here map[netip.Addr]bool) {
	c.late.mu.Lock()
	defer c.late.mu.Unlock()
	c.late.added, c.late.here = append(c.late.added, added...), here
	if c.late.running {
		return
	}
	nl, err := openNetlink() // here, because the goroutine's thread may be in another network namespace
	if err != nil {
		c.late.added = nil
		c.report(0, err)
		return
	}
	c.late.running = true
	c.purges.Go(func() {
		for added, here := c.late.wait(c.closing); added != nil; added, here = c.late.wait(c.closing) {
			p := purger{here: here}
			err := index(&p.after, added)
			n, runErr := p.run(nl)
			c.report(n, errors.Join(err, runErr))
		}
		c.report(0, nl.Close())
	})
}

// wait takes what has been added a moment from now, or as soon as the carrier closes; nil is the end of the goroutine.
func (l *late) wait(closing <-chan struct{}) ([]*forward.Forward, map[netip.Addr]bool) {
	select {
	case <-time.After(lateBy):
	case <-closing:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	added := l.added
	l.added, l.running = nil, added != nil
	return added, l.here
}

// forget takes out what is no longer carried.
func (l *late) forget(removed []*forward.Forward) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.added) == 0 {
		return
	}
	gone := make(map[string]bool, len(removed))
	for _, f := range removed {
		gone[f.Name] = true
	}
	if l.added = slices.DeleteFunc(l.added, func(f *forward.Forward) bool { return gone[f.Name] }); len(l.added) == 0 {
		l.added = nil
	}
}

func (c *Carrier) report(ended int, err error) {
	if err != nil {
		c.log.Warn("sessions of changed forwards may linger", "error", err)
	}
	if ended > 0 {
		c.log.Debug("ended stale sessions", "count", ended)
	}
}

// run ends what is stale and reports how many sessions that were.
func (p *purger) run(nl *nlSocket) (int, error) {
	var victims []session
	err := sessions(nl, func(s session) {
		if p.stale(s) {
			victims = append(victims, s)
		}
	})
	return len(victims), errors.Join(err, end(nl, victims))
}

func index(x *forward.Index, list []*forward.Forward) error {
	var errs []error
	for _, f := range list {
		errs = append(errs, x.Add(f))
	}
	return errors.Join(errs...)
}

type purger struct {
	here          map[netip.Addr]bool
	before, after forward.Index                 // of the forwards that went and came
	former        map[string][]*forward.Forward // where forwards led before; read before the caller goes on only
	now           map[string]*forward.Forward   // that came, by name
	gone          map[netip.AddrPort]bool       // where forwards led that only the kernel's table still told of
	gonePinholes  map[netip.AddrPort]bool       // the same of pinholes
}

func (p *purger) stale(s session) bool {
	if was := owner(&p.before, p.former, s, p.here); was != nil {
		now := p.now[was.Name]
		switch {
		case now == nil || now.Carry != forward.CarryKernel || !now.Admits(s.startedBy().Addr()):
			return true
		case s.network == forward.UDP:
			return !leadsTo(now, s)
		}
		return false
	}
	if s.related() {
		return false
	}
	packet := s.first(p.here)
	if !s.translated() && p.throughGone(s) && owner(&p.after, nil, s, p.here) == nil {
		return true
	}
	if s.translated() {
		return packet.Local && p.leftBehind(s) && owner(&p.after, nil, s, p.here) == nil
	}
	f := p.after.Match(packet)
	if f == nil || f.Listen.Ports.All || f.Carry != forward.CarryKernel || f.IsPinhole() {
		return false
	}
	return s.network == forward.UDP || s.tcpState != tcpStateEstablished
}

// throughGone reports whether the session goes where a pinhole was that only the kernel's table still told of.
func (p *purger) throughGone(s session) bool {
	return p.gonePinholes[s.target] || p.gonePinholes[netip.AddrPortFrom(s.target.Addr(), 0)]
}

// leftBehind reports whether the session went where a forward led that only the kernel's table still told of.
func (p *purger) leftBehind(s session) bool {
	at, port := s.target.Addr(), s.target.Port()
	return p.gone[s.target] ||
		port == s.listened.Port() && p.gone[netip.AddrPortFrom(at, 0)] ||
		at == s.listened.Addr() && p.gone[netip.AddrPortFrom(netip.Addr{}, port)]
}

// targetOf reads where an element of a map leads: an address and port, an address (port 0), or a port of this host (no
// address). The lengths of the data tell them apart.
func targetOf(data []byte) (netip.AddrPort, bool) {
	switch len(data) {
	case 2:
		return netip.AddrPortFrom(netip.Addr{}, binary.BigEndian.Uint16(data)), true
	case 4, 16:
		addr, _ := netip.AddrFromSlice(data)
		return netip.AddrPortFrom(addr, 0), true
	case 8, 20:
		n := len(data) - 4
		addr, _ := netip.AddrFromSlice(data[:n])
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(data[n:])), true
	}
	return netip.AddrPort{}, false
}
