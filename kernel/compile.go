package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// An element is one entry of a set: what the kernel looks up, and what a map then yields. Keys and data are in the
// kernel's own layout: fields one after the other, each padded to four bytes, numbers in network order.
type element struct {
	set    setID
	key    []byte
	keyEnd []byte // the last key of a range, in sets of ranges
	data   []byte
	owner  string // name of the forward

	counted counter       // what the counter starts from
	lasts   time.Duration // of what is forgotten by itself; 0: as long as its set says
}

// A counter is what an element has counted.
type counter struct{ packets, bytes uint64 }

func (c counter) plus(d counter) counter { return counter{c.packets + d.packets, c.bytes + d.bytes} }

// IP protocol numbers (IANA).
const (
	protoTCP = 6
	protoUDP = 17
)

// compileForward calls yield for every element that f needs. It is pure, and elements of different forwards never meet:
// what two forwards would both claim was refused before, and precedence is the order of the rules. That is what makes a
// change cost what it changes and not what is there.
func compileForward(f *forward.Forward, yield func(element)) {
	eachMatch(f, func(m match) { compileClaim(f, m, yield) })
}

// eachMatch calls yield for every claim of f, and for each piece that except leaves of its clients.
func eachMatch(f *forward.Forward, yield func(match)) {
	var of netip.Prefix
	var left []addrRange // of prefix of; claims of one prefix follow each other
	for c := range f.Claims {
		if c.From != of {
			of, left = c.From, clientRanges(f.Except, c.From)
		}
		for _, clients := range left {
			yield(match{Claim: c, clients: clients})
		}
	}
}

// A match is what the key of an element has, as far as its set asks for it.
type match struct {
	forward.Claim
	clients addrRange  // zero: the prefix of the claim
	slot    int        // of several targets
	target  netip.Addr // where a session was sent
}

// addrRange is the addresses first to last; the zero value is "match the claim's prefix".
type addrRange struct{ first, last netip.Addr }

// clientRanges is how the clients of a prefix are matched: by the prefix, or by what except leaves of it. except is
// sorted by address, a prefix before those inside it.
func clientRanges(except []netip.Prefix, from netip.Prefix) []addrRange {
	var out []addrRange
	touched := false
	next, last := from.Addr(), lastAddr(from) // what is left begins at next; an invalid next is beyond the last address
	for _, p := range except {
		if !p.Overlaps(from) {
			continue
		}
		touched = true
		if next.IsValid() && next.Less(p.Addr()) {
			out = append(out, addrRange{next, p.Addr().Prev()})
		}
		if end := lastAddr(p); next.IsValid() && !end.Less(next) {
			next = end.Next()
		}
	}
	if !touched {
		return []addrRange{{}}
	}
	if next.IsValid() && !last.Less(next) {
		out = append(out, addrRange{next, last})
	}
	return out
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

func compileClaim(f *forward.Forward, m match, yield func(element)) {
	id := setID{Shape: m.Shape, network: m.Network, clients: m.clients.first.IsValid()}
	emit := func(r role, m match) {
		id := id
		id.role = r
		yield(newElement(id, f.Name, m, nil))
	}
	if f.Carry == forward.CarryRelay {
		emit(roleHold, m)
		return
	}
	if t := f.To[0]; t.Addr.IsValid() && t.Addr.Is6() != m.V6 { // the others are of its family
		return // this family's clients are not the kernel's to carry
	}
	compileTargets(f, m, id, yield)
	pinhole := f.IsPinhole()
	for _, direction := range []byte{directionOriginal, directionReply} {
		id := id
		if id.role = roleCount; pinhole {
			id.role = rolePassed
		}
		e := newElement(id, f.Name, m, nil)
		e.setDirection(direction)
		yield(e)
	}
	if pinhole {
		return // its target sees who calls
	}
	for i, t := range f.To {
		same := func(other forward.Target) bool { return other.Addr == t.Addr } // another port of the same host
		if !t.IsLocal() && !slices.ContainsFunc(f.To[:i], same) {
			m.target = t.Addr
			emit(sourceRole(f.Source), m)
		}
	}
}

func sourceRole(s forward.Source) role {
	switch s {
	case forward.SourceKeep:
		return roleKeep
	case forward.SourceRewrite:
		return roleRewrite
	}
	return roleAuto
}

// compileTargets writes what leads the clients of one claim to their targets.
func compileTargets(f *forward.Forward, m match, id setID, yield func(element)) {
	id.spread, id.helper = spreadOf(f), f.Helper
	if id.hasMembers() {
		yield(newElement(id.members(), f.Name, m, nil))
	}
	for m.slot = range id.spread.slots() {
		compileTarget(f, f.To[id.spread.target(m.slot)], m, id, yield)
	}
}

func compileTarget(f *forward.Forward, t forward.Target, m match, id setID, yield func(element)) {
	switch {
	case t.IsLocal():
		id.role = roleRedirect
	case f.PortMapping(t) == forward.PortsStay && m.Ports != forward.PortExact:
		id.role = roleDNATAddr
	default:
		id.role = roleDNAT
	}
	if id.each = f.Shifted(t); !id.each {
		yield(newElement(id, f.Name, m, id.translation(t, f.TargetPort(t, m.Range.First))))
		return
	}
	for port := range (forward.Ports{Ranges: []forward.Range{m.Range}}).Each { // NAT in nftables cannot add to a port
		m.Range = forward.Range{First: port, Last: port}
		yield(newElement(id, f.Name, m, id.translation(t, f.TargetPort(t, port))))
	}
}

// translation is what map id yields for target t and its port.
func (id setID) translation(t forward.Target, port uint16) []byte {
	fields := id.data()
	data := make([]byte, 0, id.width(fields))
	for _, fd := range fields {
		if fd == fieldAddr {
			data = append(data, t.Addr.AsSlice()...)
		} else {
			data = appendPadded(data, binary.BigEndian.AppendUint16(nil, port))
		}
	}
	return data
}

func newElement(id setID, owner string, m match, data []byte) element {
	fields := id.key()
	e := element{set: id, data: data, owner: owner}
	width := id.width(fields)
	if id.interval() {
		both := make([]byte, 2*width)
		e.key, e.keyEnd = both[:0:width], both[width:width]
	} else {
		e.key = make([]byte, 0, width)
	}
	add := func(first, last []byte) {
		e.key = appendPadded(e.key, first)
		if id.interval() {
			e.keyEnd = appendPadded(e.keyEnd, last)
		}
	}
	exactly := func(value []byte) { add(value, value) }
	for _, fd := range fields {
		switch fd {
		case fieldDirection:
			exactly([]byte{directionOriginal})
		case fieldClient:
			if id.clients {
				add(m.clients.first.AsSlice(), m.clients.last.AsSlice())
			} else {
				exactly(m.From.Addr().AsSlice())
			}
		case fieldSlot:
			exactly(id.slotOrder().AppendUint32(nil, uint32(m.slot)))
		case fieldAddr:
			exactly(m.Addr.AsSlice())
		case fieldInterface:
			name := make([]byte, 16)
			copy(name, m.Interface)
			exactly(name)
		case fieldTarget:
			exactly(m.target.AsSlice())
		case fieldProtocol:
			exactly([]byte{protocolNumber(m.Network)})
		case fieldPort, fieldSourcePort:
			add(binary.BigEndian.AppendUint16(nil, m.Range.First), binary.BigEndian.AppendUint16(nil, m.Range.Last))
		}
	}
	return e
}

// setDirection makes a counting element count another direction.
func (e element) setDirection(d byte) {
	e.key[0] = d
	if e.keyEnd != nil {
		e.keyEnd[0] = d
	}
}

// class is what e counts.
func (e element) class() counterClass { return e.set.class(e.key) }

func protocolNumber(n forward.Networks) byte {
	if n == forward.UDP {
		return protoUDP
	}
	return protoTCP
}

func appendPadded(b, part []byte) []byte {
	return pad(append(b, part...))
}

// checkCarriable says why the kernel cannot carry f, or nil. The planner asks the same before; this holds for any caller.
func checkCarriable(f *forward.Forward) error {
	if f.Carry == forward.CarryRelay {
		return nil
	}
	if reason := f.NeedsRelay(); reason != "" {
		return fmt.Errorf("the kernel cannot carry %q: %s", f.Name, reason)
	}
	return nil
}
