package pmpserver

import (
	"context"
	"errors"
	"hash/maphash"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// warnPause is how often a client that sends too much is logged, at most.
const warnPause = time.Minute

// A reader is what one door's messages go through.
type reader struct {
	*Server
	door     *door
	out      outbox
	requests *limiter
	faults   *limiter // of answers to what makes no sense
	seed     maphash.Seed
	started  time.Time

	// As they are for the batch at hand.
	now     time.Duration // since started
	places  []portmap.Place
	outside netip.Addr
	epoch   uint32

	place  *portmap.Place // that the message at hand came in by
	warned time.Duration  // when a client that sends too much was last logged, since started
}

// attend reads the messages of a door until ctx ends.
func (s *Server) attend(ctx context.Context, d *door) error {
	r := &reader{
		Server: s, door: d, out: outbox{door: d}, requests: newLimiter(s.o.Rate), faults: newLimiter(faultRate),
		seed: maphash.MakeSeed(), started: time.Now(),
	}
	ms := d.messages()
	for {
		n, err := d.ReadBatch(ms, 0)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// What the network has against an earlier answer is no reason to stop; a socket that is broken is not to spin.
			s.o.Log.Warn("reading port-mapping requests failed", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			continue
		}
		r.now = time.Since(r.started)
		r.places = s.o.Places()
		r.outside, _ = s.o.Desk.External()
		r.epoch = s.o.Desk.Epoch()
		for i := range ms[:n] {
			r.take(&ms[i])
		}
		s.seen.answers.Add(uint64(r.out.flush()))
	}
}

// take looks at one message.
func (r *reader) take(m *ipv4.Message) {
	to, index := r.door.arrived(m)
	r.place = place(r.places, index)
	from, ok := m.Addr.(*net.UDPAddr)
	if r.place == nil || hostless(to) || broadcast(r.place, to) || !ok || hostless(from.IP) || from.Port == 0 {
		r.seen.foreign.Add(1)
		return
	}
	from.Zone = "" // the interface is told beside it
	l := letter{door: r.door, to: from, from: to, index: index}
	client := l.client()
	if !near(r.place, client) {
		r.seen.foreign.Add(1)
		return
	}
	r.seen.requests.Add(1)
	if !r.requests.may(client, r.now) {
		r.limited(client)
		return
	}
	b := m.Buffers[0][:m.N]
	if len(b) < 2 {
		return
	}
	switch old := b[0] == natpmp.Version; {
	case old && r.natpmp && !r.door.six, !old && !r.pcp && !r.door.six:
		r.natpmpRequest(&l, client, b)
	case r.pcp:
		r.pcpRequest(&l, client, b)
	}
}

// near reports whether a client is of one of the networks of the place, and not this host itself. Whose mapping it is goes by the source of
// a packet, and nothing keeps a host from writing any: that of a host of another LAN, of the DMZ or of the internet.
func near(p *portmap.Place, client netip.Addr) bool {
	found := client.Is6() && client.IsLinkLocalUnicast()
	for _, n := range p.Addrs {
		if n.Addr().WithZone("") == client && !client.IsLoopback() {
			return false
		}
		found = found || n.Contains(client)
	}
	return found
}

// limited counts a request that is dropped, and says so now and then.
func (r *reader) limited(client netip.Addr) {
	r.seen.limited.Add(1)
	if r.warned == 0 || r.now-r.warned >= warnPause {
		r.warned = max(r.now, 1)
		r.o.Log.Warn("a client sends more port-mapping requests than are answered", "client", client.String(), "interface", r.place.Interface.Name)
	}
}

// broadcast reports whether an address is that of everybody in a network of the place.
func broadcast(p *portmap.Place, to net.IP) bool {
	a, ok := netip.AddrFromSlice(to.To4())
	if !ok {
		return false
	}
	for _, n := range p.Addrs {
		if n.Addr().Is4() && n.Bits() < 31 && n.Contains(a) {
			host := ^uint32(0) >> n.Bits()
			four := a.As4()
			if last := uint32(four[0])<<24 | uint32(four[1])<<16 | uint32(four[2])<<8 | uint32(four[3]); last&host == host {
				return true
			}
		}
	}
	return false
}

// put hands an answer to the outbox.
func (r *reader) put(l *letter, answer []byte) {
	r.out.put(l, answer)
	if r.out.full() {
		r.seen.answers.Add(uint64(r.out.flush()))
	}
}

// enqueue leaves a request to the clerk.
func (r *reader) enqueue(a *ask, l *letter, b []byte) {
	a.letter = *l
	a.iface = r.place.Interface.Name
	from := l.to.AddrPort()
	a.seal = seal{netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), maphash.Bytes(r.seed, b)}
	if !r.queue.put(a) {
		r.seen.crowded.Add(1)
	}
}

// natpmpRequest takes a message of NAT-PMP, or one of PCP where that is not spoken: its client then tries NAT-PMP (RFC 6887, appendix A).
func (r *reader) natpmpRequest(l *letter, client netip.Addr, b []byte) {
	q, err := natpmp.ParseRequest(b)
	answer := natpmp.Response{Opcode: q.Opcode, Epoch: r.epoch, Internal: q.Internal}
	switch {
	case errors.Is(err, natpmp.ErrIgnore):
		return
	case err != nil:
		if !r.faults.may(client, r.now) {
			r.limited(client)
			return
		}
		errors.As(err, &answer.Code)
	case q.Opcode == natpmp.Address && r.outside.Is4():
		answer.Address = r.outside
	case q.Opcode == natpmp.Address:
		answer.Code = natpmp.NetworkFailure
	case q.Lifetime != 0 && !r.outside.Is4():
		answer.Code = natpmp.NetworkFailure
	case q.Lifetime != 0 && q.Internal == 0:
		answer.Code = natpmp.NotAuthorized // RFC 6886, section 3.3, knows no such mapping and no code for it
	default:
		a := &ask{errand: errandMap, protocol: portmap.NATPMP, natpmp: q}
		a.key = portmap.Key{Network: forward.UDP, Internal: netip.AddrPortFrom(client, q.Internal)}
		if q.Opcode == natpmp.MapTCP {
			a.key.Network = forward.TCP
		}
		switch {
		case q.Lifetime == 0 && q.Internal == 0: // section 3.4
			a.errand = errandAll
		case q.Lifetime == 0:
			a.errand = errandUnmap
		}
		r.enqueue(a, l, b)
		return
	}
	r.put(l, natpmp.AppendResponse(r.out.body(), &answer))
}

// pcpRequest takes a message of PCP, or one of NAT-PMP where that is not spoken: the answer reads as one of either (RFC 6887, appendix
// A).
func (r *reader) pcpRequest(l *letter, client netip.Addr, b []byte) {
	q, err := pcp.ParseRequest(b)
	if errors.Is(err, pcp.ErrIgnore) {
		return
	}
	if q.Opcode == pcp.Peer && !errors.Is(err, pcp.UnsuppVersion) {
		err = pcp.UnsuppOpcode // a server need not have PEER: what a host starts is kept open by conntrack, not by leases
	}
	if err == nil {
		err = r.pcpCheck(&q, client)
	}
	if err != nil {
		if !r.faults.may(client, r.now) {
			r.limited(client)
			return
		}
		var code pcp.Code
		errors.As(err, &code)
		r.put(l, pcp.AppendError(r.out.body(), b, code, r.epoch))
		return
	}
	network, known := transport(q.Protocol)
	switch {
	case q.Opcode == pcp.Announce:
		r.put(l, pcp.AppendResponse(r.out.body(), &pcp.Response{Epoch: r.epoch}))
	case !known || q.Internal == 0: // the deletion of a mapping of all ports: there is none, which is a success (section 15.1)
		r.put(l, pcp.AppendResponse(r.out.body(), &pcp.Response{Opcode: pcp.Map, Epoch: r.epoch, Mapping: q.Mapping, Options: q.Options}))
	default:
		internal := client
		if q.ThirdParty.IsValid() {
			internal = q.ThirdParty
		}
		a := &ask{errand: errandMap, protocol: portmap.PCP, pcp: q, key: portmap.Key{Network: network, Internal: netip.AddrPortFrom(internal, q.Internal)}}
		if q.Lifetime == 0 {
			a.errand = errandUnmap
		}
		r.enqueue(a, l, b)
	}
}

// pcpCheck is what the message alone does not tell, and what is not done here.
func (r *reader) pcpCheck(q *pcp.Request, client netip.Addr) error {
	if q.Client != client {
		return pcp.AddressMismatch // section 8.2
	}
	if q.Opcode == pcp.Announce {
		return nil
	}
	internal := client
	if third := q.ThirdParty; third.IsValid() { // section 13.1
		switch {
		case !r.o.Spec.ThirdParty:
			return pcp.UnsuppOption
		case third == client:
			return pcp.MalformedRequest
		case third.IsUnspecified() || third.IsMulticast() || third.IsLoopback() || third.IsLinkLocalUnicast():
			return pcp.MalformedOption
		}
		internal = third
	}
	for _, f := range q.Filters { // section 13.3: the peer is of the internal address's family
		if f.Prefix.IsValid() && f.Prefix.Addr().Is4() != internal.Is4() {
			return pcp.MalformedOption
		}
	}
	_, known := transport(q.Protocol)
	switch {
	case !known && q.Protocol != pcp.ProtocolAll:
		return pcp.UnsuppProtocol
	case q.Lifetime == 0:
		return nil
	case !known || q.Internal == 0: // all ports of a host
		return pcp.UnsuppProtocol
	case internal.Is6() && internal.IsLinkLocalUnicast(): // nobody from outside can reach it
		return pcp.NotAuthorized
	case internal.Is4() && !r.outside.Is4():
		return pcp.NetworkFailure
	case q.PreferFailure && !r.provides(q.External, netip.AddrPortFrom(internal, q.Internal)): // section 13.2
		return pcp.CannotProvideExternal
	}
	return nil
}

// provides reports whether a suggested address, and of a pinhole the port, can be had at all.
func (r *reader) provides(suggested, internal netip.AddrPort) bool {
	addr := suggested.Addr()
	if internal.Addr().Is4() {
		return addr.IsUnspecified() || addr == r.outside
	}
	return (addr == netip.IPv6Unspecified() || addr == internal.Addr()) && (suggested.Port() == 0 || suggested.Port() == internal.Port())
}
