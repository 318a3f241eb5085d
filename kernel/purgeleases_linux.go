package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// Leases come and go by the thousand, and each walk through conntrack costs as much as hundreds of them. So what they leave and
// find is gathered, and looked for at most every lateBy, and less often where a walk takes long: it may keep a twentieth of one
// processor busy.
const walksShare = 20

// lateLeases is what has happened to leases since the last walk.
type lateLeases struct {
	mu      sync.Mutex
	gone    map[leasePlace][]netip.AddrPort // where leases led that are no more, or lead elsewhere
	now     map[leasePlace]*forward.Forward // what is there; nil: nothing
	running bool                            // a goroutine will
	socket  *nlSocket                       // its own; kept, because every change of nftables waits when one is closed
}

// A leasePlace is one port that leases listen at.
type leasePlace struct {
	network  forward.Networks
	listened netip.AddrPort
}

// allLeases reports whether each of list is a lease of ports of one address, as they are granted.
func allLeases(list []*forward.Forward) bool {
	return !slices.ContainsFunc(list, func(f *forward.Forward) bool {
		return !f.Origin.IsLease() || !f.Listen.Addr.IsValid() || f.Listen.Ports.All || len(f.To) != 1 || !f.To[0].Addr.IsValid()
	})
}

// eachPlace calls yield for every place of a lease, with where it leads.
func eachPlace(f *forward.Forward, yield func(at leasePlace, to netip.AddrPort)) {
	for network := range f.Listen.Networks.Each {
		for port := range f.Listen.Ports.Each {
			yield(leasePlace{network, netip.AddrPortFrom(f.Listen.Addr, port)}, inside(f, port))
		}
	}
}

func (l *lateLeases) add(removed, added []*forward.Forward) {
	if l.now == nil {
		l.gone, l.now = map[leasePlace][]netip.AddrPort{}, map[leasePlace]*forward.Forward{}
	}
	for _, f := range removed {
		eachPlace(f, func(at leasePlace, to netip.AddrPort) {
			if l.now[at] = nil; f.Carry == forward.CarryKernel && !slices.Contains(l.gone[at], to) {
				l.gone[at] = append(l.gone[at], to)
			}
		})
	}
	for _, f := range added {
		if f.Carry == forward.CarryKernel {
			eachPlace(f, func(at leasePlace, _ netip.AddrPort) { l.now[at] = f })
		}
	}
}

// purgeLeasesLater has a goroutine end what leases that went leave behind and those that came find.
func (c *Carrier) purgeLeasesLater(removed, added []*forward.Forward) {
	l := &c.lateLeases
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(removed, added)
	if l.running {
		return
	}
	if l.socket == nil {
		var err error
		if l.socket, err = openNetlink(); err != nil { // here, because the goroutine's thread may be in another network namespace
			l.gone, l.now = nil, nil
			c.report(0, err)
			return
		}
	}
	l.running = true
	c.purges.Go(func() {
		for wait := lateBy; ; {
			p := l.take(wait, c.closing)
			if p == nil {
				break
			}
			began := time.Now()
			ended, err := p.run(l.socket)
			c.report(ended, err)
			if err != nil {
				l.distrust()
				break
			}
			wait = max(lateBy, walksShare*time.Since(began))
		}
	})
}

// distrust ends the use of a socket on which something failed: an answer that came late would be taken for that to the next question.
// The next change opens another, and has what waits looked for.
func (l *lateLeases) distrust() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.socket.Close() // why it is of no use has been said
	l.socket, l.running = nil, false
}

// take is what has happened until then, or until the carrier closes; nil is the end of the goroutine.
func (l *lateLeases) take(wait time.Duration, closing <-chan struct{}) *leasePurger {
	select {
	case <-time.After(wait):
	case <-closing:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running = l.now != nil; !l.running {
		return nil
	}
	p := &leasePurger{gone: l.gone, now: l.now}
	l.gone, l.now = nil, nil
	return p
}

// A leasePurger is the purger of leases.
type leasePurger struct {
	gone map[leasePlace][]netip.AddrPort
	now  map[leasePlace]*forward.Forward
	own  map[leasePlace]netip.AddrPort // from where what a host sends from a port leaves, by that port
}

func (p *leasePurger) run(nl *nlSocket) (int, error) {
	p.index()
	var victims []session
	err := sessions(nl, func(s session) {
		if p.stale(s) {
			victims = append(victims, s)
		}
	})
	return len(victims), errors.Join(err, end(nl, victims))
}

// index fills own.
func (p *leasePurger) index() {
	p.own = make(map[leasePlace]netip.AddrPort, len(p.now))
	for at, f := range p.now {
		if f != nil && f.Outbound {
			p.own[leasePlace{at.network, inside(f, at.listened.Port())}] = at.listened
		}
	}
}

// inside is where a lease leads what comes to its port.
func inside(f *forward.Forward, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(f.To[0].Addr, f.TargetPort(f.To[0], port))
}

// stale reports whether a session is one of a lease that is no more or does not admit it, or began when there was none, either way.
func (p *leasePurger) stale(s session) bool {
	at := leasePlace{s.network, s.listened}
	now, touched := p.now[at]
	switch {
	case s.related():
		return false
	case p.leavesElsewhere(s):
		return true
	case !touched:
		return false
	case now != nil && leadsTo(now, s) && s.translated() != now.IsPinhole():
		return !now.Admits(s.startedBy().Addr())
	case slices.Contains(p.gone[at], s.target):
		return true
	}
	return now != nil && !s.translated() && !now.IsPinhole() && (s.network == forward.UDP || s.tcpState != tcpStateEstablished)
}

// leavesElsewhere reports whether a session that the inside has begun leaves from another port than that of its lease, or from the port
// of somebody else's. It would go on so for as long as it is not silent: the outside would know one port by two, which is what
// consoles call a strict NAT, or the lease's own host could not talk to that target.
func (p *leasePurger) leavesElsewhere(s session) bool {
	if s.status&(statusSrcNAT|statusDstNAT) != statusSrcNAT || s.network == forward.TCP && s.tcpState == tcpStateEstablished {
		return false
	}
	if at, owns := p.own[leasePlace{s.network, s.client}]; owns && s.seen != at {
		return true
	}
	f := p.now[leasePlace{s.network, s.seen}]
	return f != nil && f.Outbound && s.client != inside(f, s.seen.Port())
}
