package stun

import (
	"encoding/binary"
	"net/netip"
)

// Parse reads a datagram. It returns ErrIgnore for what is no message of the Binding method, and an UnknownError, with the class and the
// ID, for one that cannot be understood. What else is unknown, such as SOFTWARE and FINGERPRINT, is passed over.
func Parse(b []byte) (Message, error) {
	var m Message
	if len(b) < headerLength || len(b) > MaxLength {
		return m, ErrIgnore
	}
	kind, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
	if kind&^classMask != binding || length != len(b)-headerLength || length%4 != 0 || binary.BigEndian.Uint32(b[4:]) != magicCookie {
		return m, ErrIgnore
	}
	m.Class, m.ID = Class(kind&classMask), ID(b[8:headerLength])
	var p parser
	for b = b[headerLength:]; len(b) > 0; {
		if len(b) < 4 {
			return m, ErrIgnore
		}
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		padded := (n + 3) &^ 3 // RFC 8489, section 14
		if padded > len(b)-4 {
			return m, ErrIgnore
		}
		if err := p.take(&m, kind, b[4:4+n]); err != nil {
			return m, err
		}
		b = b[4+padded:]
	}
	// The XORed one is what no gateway on the way has rewritten (RFC 8489, section 14.2). RFC 3489's names give way to RFC 5780's.
	m.Mapped = first(p.xored, p.plain)
	m.Origin = first(m.Origin, p.source)
	m.Other = first(m.Other, p.changed)
	return m, nil
}

// A parser is what is known of attributes of which one more important may follow.
type parser struct{ xored, plain, source, changed netip.AddrPort }

// take reads one attribute. Of several of a type the first counts (RFC 8489, section 14).
func (p *parser) take(m *Message, kind uint16, value []byte) (err error) {
	address := func(to *netip.AddrPort, id *ID) {
		a, ok := parseAddress(value, id)
		switch {
		case !ok:
			err = ErrIgnore
		case !to.IsValid():
			*to = a
		}
	}
	switch kind {
	case mappedAddress:
		address(&p.plain, nil)
	case xorMappedAddress:
		address(&p.xored, &m.ID)
	case responseOrigin:
		address(&m.Origin, nil)
	case sourceAddress:
		address(&p.source, nil)
	case otherAddress:
		address(&m.Other, nil)
	case changedAddress:
		address(&p.changed, nil)
	case changeRequest:
		if len(value) != 4 {
			return ErrIgnore
		}
		bits := binary.BigEndian.Uint32(value)
		m.ChangeAddr, m.ChangePort = bits&changeAddr != 0, bits&changePort != 0
	case errorCode:
		if len(value) < 4 {
			return ErrIgnore
		}
		hundreds, rest := int(value[2]&7), int(value[3])
		if hundreds < 3 || hundreds > 6 || rest > 99 {
			return ErrIgnore
		}
		if m.Code == 0 {
			m.Code = hundreds*100 + rest
		}
	case unknownAttrs, reflectedFrom, username, integrity, integrity256, realm, nonce:
	default:
		if kind < required {
			return &UnknownError{kind}
		}
	}
	return err
}

// parseAddress reads an address, which was hidden where id is not nil.
func parseAddress(value []byte, id *ID) (netip.AddrPort, bool) {
	if len(value) < 4 {
		return netip.AddrPort{}, false
	}
	octets := append([]byte(nil), value[4:]...)
	switch {
	case value[1] == family4 && len(octets) == 4:
	case value[1] == family6 && len(octets) == 16:
	default:
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(value[2:])
	if id != nil {
		port ^= magicCookie >> 16
		hide(octets, id)
	}
	addr, ok := netip.AddrFromSlice(octets)
	return netip.AddrPortFrom(addr, port), ok
}

func first(a, b netip.AddrPort) netip.AddrPort {
	if a.IsValid() {
		return a
	}
	return b
}
