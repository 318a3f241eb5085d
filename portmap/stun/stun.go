package stun

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Port is where servers listen (RFC 8489, section 8.1).
const Port = 3478

// MaxLength bounds a message that is parsed: no answer to a Binding request comes near it.
const MaxLength = 1500

const (
	headerLength = 20         // RFC 8489, section 5
	magicCookie  = 0x2112A442 // the same
	binding      = 0x0001     // the method; section 18.2
	classMask    = 0x0110     // of the type; section 5
)

// A Class says what a message is for. The values are the bits of the type.
type Class uint16

// The classes (RFC 8489, section 5).
const (
	Request    Class = 0x0000
	Indication Class = 0x0010
	Success    Class = 0x0100
	Failure    Class = 0x0110
)

// The attributes. Those below 0x8000 have to be understood by who receives them (RFC 8489, section 14).
const (
	mappedAddress    = 0x0001 // RFC 8489, section 14.1
	changeRequest    = 0x0003 // RFC 5780, section 7.2
	sourceAddress    = 0x0004 // RFC 3489, section 11.2.5: today's RESPONSE-ORIGIN
	changedAddress   = 0x0005 // RFC 3489, section 11.2.3: today's OTHER-ADDRESS
	username         = 0x0006 // RFC 8489, section 14.3, as the following ones of authentication, which nobody here needs
	integrity        = 0x0008 // section 14.5
	errorCode        = 0x0009 // RFC 8489, section 14.8
	unknownAttrs     = 0x000A // RFC 8489, section 14.13: what of a request was not understood
	reflectedFrom    = 0x000B // RFC 3489, section 11.2.11: old servers may send it, and nobody needs it
	realm            = 0x0014 // RFC 8489, section 14.9
	nonce            = 0x0015 // section 14.10
	integrity256     = 0x001C // section 14.6
	xorMappedAddress = 0x0020 // RFC 8489, section 14.2
	responseOrigin   = 0x802B // RFC 5780, section 7.3
	otherAddress     = 0x802C // RFC 5780, section 7.4

	required = 0x8000 // types below it
)

// The bits of CHANGE-REQUEST (RFC 5780, section 7.2).
const (
	changeAddr = 4
	changePort = 2
)

// The families of addresses (RFC 8489, section 14.1).
const (
	family4 = 1
	family6 = 2
)

// ErrIgnore is returned for bytes that are no STUN message of the Binding method. Nobody is answered.
var ErrIgnore = errors.New("not a STUN message of the Binding method")

// An UnknownError is an attribute that has to be understood, and is not (RFC 8489, section 6.3).
type UnknownError struct{ Attribute uint16 }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("the STUN message needs attribute %#04x to be understood", e.Attribute)
}

// An ID ties a response to its request. It is random: who does not see the request cannot answer it.
type ID [12]byte

// A Message is a message of the Binding method.
type Message struct {
	Class Class
	ID    ID

	// Of a request (RFC 5780): the server is to answer from its other address, and from its other port.
	ChangeAddr, ChangePort bool

	// Of a response. Addresses that are not said are invalid.
	Mapped netip.AddrPort // from where the request came
	Origin netip.AddrPort // from where the server says it answers
	Other  netip.AddrPort // the address and port by both of which the server can be had besides
	Code   int            // of a failure, 300 to 699; 0: it has none
}

// Append appends a message to b. Mapped is written as XOR-MAPPED-ADDRESS.
func Append(b []byte, m *Message) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, binding|uint16(m.Class))
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, magicCookie)
	b = append(b, m.ID[:]...)
	if m.ChangeAddr || m.ChangePort {
		var bits uint32
		if m.ChangeAddr {
			bits |= changeAddr
		}
		if m.ChangePort {
			bits |= changePort
		}
		b = attribute(b, changeRequest, 4)
		b = binary.BigEndian.AppendUint32(b, bits)
	}
	if m.Code != 0 {
		b = attribute(b, errorCode, 4)
		b = append(b, 0, 0, byte(m.Code/100), byte(m.Code%100))
	}
	b = appendAddress(b, xorMappedAddress, m.Mapped, &m.ID)
	b = appendAddress(b, responseOrigin, m.Origin, nil)
	b = appendAddress(b, otherAddress, m.Other, nil)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start-headerLength))
	return b
}

func attribute(b []byte, kind uint16, length int) []byte {
	b = binary.BigEndian.AppendUint16(b, kind)
	return binary.BigEndian.AppendUint16(b, uint16(length))
}

// appendAddress appends an address, hidden from gateways that rewrite what looks like one where id is not nil (RFC 8489, section 14.2).
func appendAddress(b []byte, kind uint16, a netip.AddrPort, id *ID) []byte {
	if !a.IsValid() {
		return b
	}
	octets, family := a.Addr().AsSlice(), byte(family4)
	if len(octets) == 16 {
		family = family6
	}
	port := a.Port()
	if id != nil {
		port ^= magicCookie >> 16
		hide(octets, id)
	}
	b = attribute(b, kind, 4+len(octets))
	b = append(b, 0, family)
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, octets...)
}

// hide XORs an address with the cookie and the ID; doing it twice undoes it.
func hide(octets []byte, id *ID) {
	key := binary.BigEndian.AppendUint32(make([]byte, 0, 16), magicCookie)
	key = append(key, id[:]...)
	for i := range octets {
		octets[i] ^= key[i]
	}
}
