package natpmp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Version is the only one there is. What has another at its beginning is PCP.
const Version = 0

// The ports, of UDP: PCP has them, too (RFC 6886, sections 3.1 and 3.2.1).
const (
	ServerPort = 5351
	ClientPort = 5350 // a new external address is multicast to it
)

// MaxLength is how long the longest message is, in octets.
const MaxLength = mappedLength

const (
	askLength     = 2  // RFC 6886, section 3.2
	addressLength = 12 // section 3.2
	mapLength     = 12 // section 3.3
	mappedLength  = 16 // section 3.3
	errorLength   = 8  // section 3.5

	responseBit = 0x80
)

// An Opcode is what a message is about.
type Opcode uint8

// The opcodes.
const (
	Address Opcode = 0 // RFC 6886, section 3.2
	MapUDP  Opcode = 1 // section 3.3
	MapTCP  Opcode = 2
)

func (o Opcode) maps() bool { return o == MapUDP || o == MapTCP }

// A Code is the result of a request. Every one but Success is an error.
type Code uint16

// The result codes (RFC 6886, section 3.5).
const (
	Success            Code = 0
	UnsupportedVersion Code = 1
	NotAuthorized      Code = 2
	NetworkFailure     Code = 3
	OutOfResources     Code = 4
	UnsupportedOpcode  Code = 5
)

var codeWords = [...]string{"success", "unsupported version", "not authorized", "network failure", "out of resources", "unsupported opcode"}

func (c Code) String() string {
	if int(c) < len(codeWords) {
		return codeWords[c]
	}
	return fmt.Sprintf("result code %d", uint16(c))
}

// Error makes a code an error, as a client has it from a gateway.
func (c Code) Error() string { return "NAT-PMP result: " + c.String() }

// ErrIgnore is what parsers return for a message that no answer is due to.
var ErrIgnore = errors.New("not a message for this end of NAT-PMP")

// A Request is what a client sends.
type Request struct {
	Opcode   Opcode
	Internal uint16 // the port; 0 with no lifetime: all of them
	External uint16 // the port that is suggested; 0: any
	Lifetime uint32 // in seconds; 0 deletes
}

// A Response is what a server sends.
type Response struct {
	Opcode   Opcode
	Code     Code
	Epoch    uint32     // in seconds
	Address  netip.Addr // of Address; 0.0.0.0 with an error
	Internal uint16     // of MapUDP and MapTCP, as the following ones
	External uint16     // the port that was mapped; 0 of what was deleted
	Lifetime uint32     // in seconds
}

// AppendRequest appends a request to b.
func AppendRequest(b []byte, r *Request) []byte {
	b = append(b, Version, byte(r.Opcode))
	if !r.Opcode.maps() {
		return b
	}
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, r.Internal)
	b = binary.BigEndian.AppendUint16(b, r.External)
	return binary.BigEndian.AppendUint32(b, r.Lifetime)
}

// ParseRequest reads what a client has sent. An error is ErrIgnore, or the Code that is due; the opcode is read in any case. Octets behind
// the message are no harm.
func ParseRequest(b []byte) (Request, error) {
	var r Request
	if len(b) < askLength || b[1]&responseBit != 0 {
		return r, ErrIgnore
	}
	r.Opcode = Opcode(b[1])
	switch {
	case b[0] != Version:
		return r, UnsupportedVersion
	case r.Opcode == Address:
		return r, nil
	case !r.Opcode.maps():
		return r, UnsupportedOpcode
	case len(b) < mapLength: // there is no code for it
		return r, ErrIgnore
	}
	r.Internal, r.External = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	r.Lifetime = binary.BigEndian.Uint32(b[8:])
	return r, nil
}

// AppendResponse appends a response to b, of 12 octets for an address, of 16 for a mapping, and of 8 for any other opcode and for a
// version that is not supported (RFC 6886, section 3.5).
func AppendResponse(b []byte, r *Response) []byte {
	b = append(b, Version, byte(r.Opcode)|responseBit)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Code))
	b = binary.BigEndian.AppendUint32(b, r.Epoch)
	switch {
	case r.Code == UnsupportedVersion:
	case r.Opcode == Address:
		var octets [4]byte
		if r.Address.Is4() {
			octets = r.Address.As4()
		}
		b = append(b, octets[:]...)
	case r.Opcode.maps():
		b = binary.BigEndian.AppendUint16(b, r.Internal)
		b = binary.BigEndian.AppendUint16(b, r.External)
		b = binary.BigEndian.AppendUint32(b, r.Lifetime)
	}
	return b
}

// ParseResponse reads what a server has sent. It returns ErrIgnore for what is none, and UnsupportedVersion for one of another version,
// whose opcode and result are read all the same. What a response says itself is in its Code. One of an error may be as short as the
// epoch.
func ParseResponse(b []byte) (Response, error) {
	var r Response
	if len(b) < 4 || b[1]&responseBit == 0 {
		return r, ErrIgnore
	}
	r.Opcode, r.Code = Opcode(b[1]&^responseBit), Code(binary.BigEndian.Uint16(b[2:]))
	if b[0] != Version {
		return r, UnsupportedVersion
	}
	if len(b) < errorLength {
		return r, ErrIgnore
	}
	r.Epoch = binary.BigEndian.Uint32(b[4:])
	switch {
	case r.Code == UnsupportedVersion: // it does not know what it was asked
	case r.Opcode == Address && len(b) >= addressLength:
		r.Address = netip.AddrFrom4([4]byte(b[8:12]))
	case r.Opcode.maps() && len(b) >= mappedLength:
		r.Internal, r.External = binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:])
		r.Lifetime = binary.BigEndian.Uint32(b[12:])
	case r.Code == Success:
		return r, ErrIgnore
	}
	return r, nil
}

// A Sample is the epoch of a server, and when the client had it, by a clock that nobody sets.
type Sample struct {
	Epoch uint32
	At    time.Duration
}

// Continues reports whether the server of a former response can still have the mappings that it had then (RFC 6886, section 3.6): its
// clock may go slower than the client's by an eighth, and two seconds.
func (now Sample) Continues(before Sample) bool {
	passed := int64((now.At - before.At) / time.Second)
	return int64(now.Epoch) >= int64(before.Epoch)+passed*7/8-2
}
