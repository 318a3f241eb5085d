package behaviour

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap/publish"
	"github.com/fairlead-net/fairlead/portmap/stun"
)

// MaxTime bounds Discover.
const MaxTime = 10 * time.Second

// The words of Report.Missing.
const (
	oneAddress = "the server has no other address, so it cannot tell for whom a port is which one outside, nor who is let in"
	oneFilter  = "the server has no other address, so it cannot tell who is let in" // without NAT
	otherDead  = "the server's other address and port do not all answer"
	noChange   = "the server does not answer from its other address when it is asked to"
	lostPort   = "the server has answered one port of this host and not another"
)

// Discover asks a server. It takes as long as the server takes to answer twice where everything is open, five seconds where something is
// not let in, and MaxTime at most. The error is a NoAnswerError, a RefusedError, of opening ports, or ctx's.
//
// Mapping and filtering are tested from ports of their own (RFC 5780, section 4.5): who was sent to is let in, and with some NATs
// who has called in vain is given another port later.
func Discover(ctx context.Context, n Network, server netip.AddrPort) (Report, error) {
	d := discovery{Report: Report{Server: server, Mapping: Unknown, Filter: Unknown, Hairpin: HairpinUnknown}}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	local, err := n.Source(server)
	if err != nil {
		return d.Report, &NoAnswerError{server, err}
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	for i := range d.ports {
		conn, err := n.Listen(local)
		if err != nil {
			return d.Report, err
		}
		defer conn.Close()
		d.ports[i] = newPort(conn)
		reading.Go(d.ports[i].read)
	}
	d.Local = d.ports[mapped].local
	if err = d.first(ctx); err == nil {
		d.test(ctx)
	}
	if outer.Err() != nil {
		return d.Report, outer.Err()
	}
	return d.Report, err
}

// The ports of a discovery by what they are for. Hairpinning is tested between the first and the last.
const (
	mapped = iota
	filtered
	called
	portCount
)

// A discovery is one run.
type discovery struct {
	Report
	ports  [portCount]*port
	public [portCount]netip.AddrPort // where the server sees them; invalid: it has not answered
}

// first asks for what the ports are outside (RFC 5780, section 4.2). An error is of the first port.
func (d *discovery) first(ctx context.Context) error {
	var errs [portCount]error
	var other netip.AddrPort
	var asking sync.WaitGroup
	for i, p := range d.ports {
		asking.Go(func() {
			h, ok, err := p.ask(ctx, d.Server, stun.Message{}, forServer)
			switch {
			case !ok:
				errs[i] = &NoAnswerError{d.Server, err}
			case h.Class != stun.Success:
				errs[i] = &RefusedError{d.Server, h.Code}
			case !sane(h.Mapped, d.Server):
				errs[i] = &RefusedError{d.Server, 0}
			default:
				d.public[i] = plain(h.Mapped)
				if i == mapped {
					other = plain(h.Other)
				}
			}
		})
	}
	asking.Wait()
	d.Public = d.public[mapped]
	if another(d.Server, other) {
		d.Other = other
	}
	return errs[mapped]
}

// test runs all tests at once.
func (d *discovery) test(ctx context.Context) {
	var testing sync.WaitGroup
	testing.Go(func() { d.hairpin(ctx) })
	if d.Public == d.Local {
		d.Mapping = None
	}
	if !d.Other.IsValid() {
		d.Missing = oneAddress
		if d.Mapping == None {
			d.Missing = oneFilter
		}
		testing.Wait()
		return
	}
	var m mappings
	var f filters
	testing.Go(func() { m = d.mappings(ctx) })
	if d.public[filtered].IsValid() {
		testing.Go(func() { f = d.filters(ctx) })
	} else {
		d.Missing = lostPort
	}
	testing.Wait()
	if d.Mapping != None {
		d.Mapping = m.rule()
	}
	if d.public[filtered].IsValid() {
		d.Filter, d.Missing = f.rule(m)
	}
	if d.Mapping == Unknown {
		d.Missing = otherDead
	}
}

// hairpin has two ports call each other by what they are outside. Both do, so that nothing is said of filtering.
func (d *discovery) hairpin(ctx context.Context) {
	a, b := d.ports[mapped], d.ports[called]
	switch {
	case d.Public == d.Local:
		d.Hairpin = HairpinNeedless
		return
	case !d.public[called].IsValid():
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var there, back bool
	var calling sync.WaitGroup
	calling.Go(func() {
		if there = a.call(ctx, b, d.public[called]); there {
			cancel()
		}
	})
	calling.Go(func() {
		if back = b.call(ctx, a, d.public[mapped]); back {
			cancel()
		}
	})
	calling.Wait()
	d.Hairpin = HairpinNo
	if there || back {
		d.Hairpin = HairpinYes
	}
}

// sane reports whether an address can be what a server sees of this host.
func sane(a, server netip.AddrPort) bool {
	addr := a.Addr().Unmap()
	return a.IsValid() && a.Port() != 0 && addr.Is4() == server.Addr().Is4() && !addr.IsUnspecified() && !addr.IsMulticast()
}

// another reports whether an address can be the server's other one. It is a stranger's word: nobody is to be led by it to hosts of the
// LAN who was told to ask a server outside.
func another(server, other netip.AddrPort) bool {
	return sane(other, server) && other.Addr() != server.Addr() && other.Port() != server.Port() &&
		publish.ReachOf(other.Addr()) == publish.ReachOf(server.Addr())
}
