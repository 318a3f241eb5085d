package pmpserver

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// Announcements are sent ten times: again after a quarter of a second, and then after twice as long each time (RFC 6886, section 3.2.1;
// RFC 6887, section 14.1.2).
const (
	announceTimes = 10
	announcePause = 250 * time.Millisecond
	lookPause     = 5 * time.Second // at most, until it is seen that there are other interfaces
)

// Where announcements go (RFC 6886, section 3.2.1; RFC 6887, section 14.1.2).
var (
	group4 = netip.MustParseAddrPort("224.0.0.1:5350")
	group6 = netip.MustParseAddrPort("[ff02::1]:5350")
)

// herald announces, on every interface that is served, that the server has started, that there is another external address, that mappings
// were lost, and that there is an interface more.
func (s *Server) herald(ctx context.Context, doors []*door) error {
	return repeat(ctx, s.o.Desk.Changed, s.o.Places, func(places []portmap.Place) {
		for _, d := range doors {
			s.announce(d, places)
		}
	})
}

// repeat calls announce when it is time to.
func repeat(ctx context.Context, changed func() <-chan struct{}, where func() []portmap.Place, announce func([]portmap.Place)) error {
	news := changed()
	places := where()
	timer := time.NewTimer(0)
	defer timer.Stop()
	sent := 0
	var last, next time.Time // announcements
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
			news = changed() // before the announcement is made, so that none has old news and is the last
			sent, next = 0, last.Add(announcePause)
		case <-timer.C:
		}
		if now := where(); !samePlaces(places, now) {
			places, sent, next = now, 0, last.Add(announcePause)
		}
		now := time.Now()
		if sent < announceTimes && !now.Before(next) {
			announce(places)
			last, next = now, now.Add(announcePause<<sent)
			sent++
		}
		pause := lookPause
		if sent < announceTimes {
			pause = min(pause, time.Until(next))
		}
		timer.Reset(pause)
	}
}

func samePlaces(a, b []portmap.Place) bool {
	return slices.EqualFunc(a, b, func(a, b portmap.Place) bool {
		return a.Interface.Index == b.Interface.Index && slices.Equal(a.Addrs, b.Addrs)
	})
}

// announce multicasts once what a door's clients should know, from each address that they may know the gateway by.
func (s *Server) announce(d *door, places []portmap.Place) {
	var texts [][]byte
	epoch := s.o.Desk.Epoch()
	if s.natpmp && !d.six {
		r := natpmp.Response{Opcode: natpmp.Address, Code: natpmp.NetworkFailure, Epoch: epoch}
		if outside, _ := s.o.Desk.External(); outside.Is4() {
			r.Code, r.Address = natpmp.Success, outside
		}
		texts = append(texts, natpmp.AppendResponse(nil, &r))
	}
	if s.pcp {
		texts = append(texts, pcp.AppendResponse(nil, &pcp.Response{Opcode: pcp.Announce, Epoch: epoch}))
	}
	group := group4
	if d.six {
		group = group6
	}
	out := outbox{door: d}
	for _, p := range places {
		for _, from := range d.faces(p) {
			for _, text := range texts {
				l := letter{door: d, to: net.UDPAddrFromAddrPort(group), from: from, index: p.Interface.Index}
				out.put(&l, append(out.body(), text...))
			}
		}
	}
	out.flush()
}

// faces is the addresses that an announcement leaves from. Hosts know an IPv6 router by its link-local address, which the kernel takes
// where none is said.
func (d *door) faces(p portmap.Place) []net.IP {
	var list []net.IP
	local := !d.six
	for _, n := range p.Addrs {
		if a := n.Addr(); a.Is6() == d.six {
			list = append(list, a.WithZone("").AsSlice())
			local = local || a.IsLinkLocalUnicast()
		}
	}
	if !local {
		list = append(list, nil)
	}
	return list
}
