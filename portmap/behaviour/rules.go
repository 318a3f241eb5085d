package behaviour

import (
	"context"
	"net/netip"
	"sync"

	"github.com/fairlead-net/fairlead/portmap/stun"
)

// A mappings is what one port of this host is for the four ports of a server: first for the address that was asked, then for the
// other one, and of each the port that was asked and the other. Those that did not answer are invalid.
type mappings [2][2]netip.AddrPort

// mappings asks the three that were not asked yet (RFC 5780, section 4.3). All are, though the RFC stops earlier: whoever is silent
// to the port that has sent there says nothing by being silent to another.
func (d *discovery) mappings(ctx context.Context) mappings {
	m := mappings{{d.Public, {}}, {{}, {}}}
	var asking sync.WaitGroup
	for i, addr := range []netip.Addr{d.Server.Addr(), d.Other.Addr()} {
		for j, port := range []uint16{d.Server.Port(), d.Other.Port()} {
			if i == 0 && j == 0 {
				continue
			}
			asking.Go(func() {
				h, ok, _ := d.ports[mapped].ask(ctx, netip.AddrPortFrom(addr, port), stun.Message{}, forTests)
				if ok && h.Class == stun.Success && sane(h.Mapped, d.Server) {
					m[i][j] = plain(h.Mapped)
				}
			})
		}
	}
	asking.Wait()
	return m
}

// rule is what they have in common.
func (m mappings) rule() Rule {
	differ := func(a, b netip.AddrPort) bool { return a.IsValid() && b.IsValid() && a != b }
	switch {
	case differ(m[0][0], m[0][1]) || differ(m[1][0], m[1][1]):
		return AddressPort
	case differ(m[0][0], m[1][0]) || differ(m[0][0], m[1][1]) || differ(m[0][1], m[1][0]) || differ(m[0][1], m[1][1]):
		return Address
	case m[1][0].IsValid() || m[1][1].IsValid():
		return Endpoint
	}
	return Unknown
}

// A filters is who of those was let in that had not been sent to.
type filters struct {
	both, port bool // the server's other address and port; its other port
	ignored    bool // it answers by the address and port that were asked
}

// filters asks to be answered from elsewhere (RFC 5780, section 4.4).
func (d *discovery) filters(ctx context.Context) (f filters) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, both := range []bool{true, false} {
		asking.Go(func() {
			h, ok, _ := d.ports[filtered].ask(ctx, d.Server, stun.Message{ChangeAddr: both, ChangePort: true}, forTests)
			mu.Lock()
			defer mu.Unlock()
			switch from := h.from; {
			case !ok:
			case h.Class != stun.Success || from == d.Server:
				f.ignored = true
				cancel()
			case both && from.Addr() != d.Server.Addr():
				f.both = true
				cancel() // whom this lets in is everybody
			case !both && from.Addr() == d.Server.Addr():
				f.port = true
			}
		})
	}
	asking.Wait()
	return f
}

// rule is who is let in, or what keeps that from being known. Silence counts only of those that do answer when they are sent to.
func (f filters) rule(m mappings) (r Rule, missing string) {
	both, port := m[1][1].IsValid(), m[0][1].IsValid()
	switch {
	case f.both:
		return Endpoint, ""
	case f.ignored:
		return Unknown, noChange
	case f.port && both:
		return Address, ""
	case !f.port && both && port:
		return AddressPort, ""
	}
	return Unknown, otherDead
}
