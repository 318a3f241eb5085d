package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

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

	counted counter // what the counter starts from
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
	var of netip.Prefix
	var left []addrRange // of prefix of; claims of one prefix follow each other
	for c := range f.Claims {
		if c.From != of {
			of, left = c.From, clientRanges(f.Except, c.From)
		}
		for _, clients := range left {
			compileClaim(f, c, clients, yield)
		}
	}
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

func compileClaim(f *forward.Forward, c forward.Claim, clients addrRange, yield func(element)) {
	id := setID{Shape: c.Shape, network: c.Network, clients: clients.first.IsValid()}
	emit := func(r role, data []byte) {
		id := id
		id.role = r
		yield(newElement(id, f, c, clients, data))
	}
	if f.Carry == forward.CarryRelay {
		emit(roleHold, nil)
		return
	}
	t := f.To[0]
	if t.Addr.IsValid() && t.Addr.Is6() != c.V6 {
		return // this family's clients are not the kernel's to carry
	}
	switch {
	case t.IsLocal() && !f.Shifted(t):
		emit(roleRedirect, portData(t.Ports.First))
	case t.Ports.IsZero() && c.Ports != forward.PortExact:
		emit(roleDNATAddr, addrData(t.Addr))
	case t.Ports.IsZero():
		emit(roleDNAT, append(addrData(t.Addr), portData(c.Range.First)...))
	case !f.Shifted(t) && t.Ports.First == t.Ports.Last:
		emit(roleDNAT, append(addrData(t.Addr), portData(t.Ports.First)...))
	case !f.Shifted(t):
		emit(roleDNATAddr, addrData(t.Addr))
	default:
		compileShifted(f, c, id, clients, yield)
	}
	for _, direction := range []byte{directionOriginal, directionReply} {
		id := id
		id.role = roleCount
		e := newElement(id, f, c, clients, nil)
		e.setDirection(direction)
		yield(e)
	}
	if !t.IsLocal() {
		emit(sourceRole(f.Source), nil)
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

// compileShifted writes an element for every port of a shifted range: NAT in nftables cannot add to a port.
func compileShifted(f *forward.Forward, c forward.Claim, id setID, clients addrRange, yield func(element)) {
	t := f.To[0]
	id.role, id.each = roleDNAT, true
	if t.IsLocal() {
		id.role = roleRedirect
	}
	for port := range (forward.Ports{Ranges: []forward.Range{c.Range}}).Each {
		data := portData(f.TargetPort(t, port))
		if !t.IsLocal() {
			data = append(addrData(t.Addr), data...)
		}
		one := c
		one.Range = forward.Range{First: port, Last: port}
		yield(newElement(id, f, one, clients, data))
	}
}

func newElement(id setID, f *forward.Forward, c forward.Claim, clients addrRange, data []byte) element {
	fields := id.key()
	e := element{set: id, data: data, owner: f.Name, key: make([]byte, 0, id.width(fields))}
	if id.interval() {
		e.keyEnd = make([]byte, 0, id.width(fields))
	}
	add := func(first, last []byte) {
		e.key = appendPadded(e.key, first)
		if id.interval() {
			e.keyEnd = appendPadded(e.keyEnd, last)
		}
	}
	for _, fd := range fields {
		switch fd {
		case fieldDirection:
			add([]byte{directionOriginal}, []byte{directionOriginal})
		case fieldClient:
			if id.clients {
				add(clients.first.AsSlice(), clients.last.AsSlice())
			} else {
				add(c.From.Addr().AsSlice(), c.From.Addr().AsSlice())
			}
		case fieldAddr:
			add(c.Addr.AsSlice(), c.Addr.AsSlice())
		case fieldInterface:
			name := make([]byte, 16)
			copy(name, c.Interface)
			add(name, name)
		case fieldTarget:
			add(f.To[0].Addr.AsSlice(), f.To[0].Addr.AsSlice())
		case fieldProtocol:
			proto := []byte{protocolNumber(c.Network)}
			add(proto, proto)
		case fieldPort:
			add(binary.BigEndian.AppendUint16(nil, c.Range.First), binary.BigEndian.AppendUint16(nil, c.Range.Last))
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
	b = append(b, part...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func addrData(a netip.Addr) []byte { return a.AsSlice() }

func portData(port uint16) []byte { return appendPadded(nil, binary.BigEndian.AppendUint16(nil, port)) }

// checkCarriable says why the kernel cannot carry f, or nil. The planner asks the same before; this holds for any caller.
func checkCarriable(f *forward.Forward) error {
	if f.Carry == forward.CarryRelay {
		return nil
	}
	if reason := f.NeedsRelay(); reason != "" {
		return fmt.Errorf("the kernel cannot carry %q: %s", f.Name, reason)
	}
	if len(f.To) != 1 {
		return fmt.Errorf("the kernel cannot carry %q: it has %d targets", f.Name, len(f.To))
	}
	return nil
}
