package pcp

import (
	"encoding/binary"
	"net/netip"
)

// A Request is what a client sends.
type Request struct {
	Opcode   Opcode
	Lifetime uint32     // in seconds; 0 deletes
	Client   netip.Addr // the address that the client believes to send from
	Mapping             // of MAP and PEER
	Remote   netip.AddrPort
	Options
}

// A Response is what a server sends.
type Response struct {
	Opcode   Opcode
	Code     Code
	Lifetime uint32 // in seconds: of the mapping, or of the error
	Epoch    uint32 // in seconds
	Mapping         // of MAP and PEER
	Remote   netip.AddrPort
	Options  // those of the request that were heeded
}

// A Mapping is what MAP and PEER have in common (RFC 6887, sections 11.1 and 12.1). The remote address of PEER stands beside it.
type Mapping struct {
	Nonce    [12]byte
	Protocol uint8          // of IANA; 0: all
	Internal uint16         // the port; 0: all
	External netip.AddrPort // suggested in a request, assigned in a response; IPv4 is IPv4 and not mapped into IPv6
}

// Options are those of RFC 6887, section 13. Others are left out by the parsers where that is allowed.
type Options struct {
	ThirdParty    netip.Addr // whom the mapping is for; not valid: the sender
	PreferFailure bool       // the suggested address and port, or none
	Filters       []Filter   // in their order, which matters
}

// A Filter is who may come in by a mapping (RFC 6887, section 13.3).
type Filter struct {
	Prefix netip.Prefix // as it was sent, so perhaps not masked; not valid: every filter before this one, and those that the mapping has, are deleted
	Port   uint16       // of the remote peer; 0: any
}

// AppendRequest appends a request to b. It is at most MaxLength long as long as there are 42 filters or fewer.
func AppendRequest(b []byte, r *Request) []byte {
	b = append(b, Version, byte(r.Opcode), 0, 0)
	b = binary.BigEndian.AppendUint32(b, r.Lifetime)
	b = appendAddr(b, r.Client)
	b = appendBody(b, r.Opcode, &r.Mapping, r.Remote)
	return appendOptions(b, &r.Options)
}

// AppendResponse appends a response to b: a success, or an error that has what the request had.
func AppendResponse(b []byte, r *Response) []byte {
	b = appendResponseHeader(b, r.Opcode, r.Code, r.Lifetime, r.Epoch)
	b = appendBody(b, r.Opcode, &r.Mapping, r.Remote)
	return appendOptions(b, &r.Options)
}

// AppendError appends the response to a request that is refused, also one that no parser understands: what came is sent back behind a
// new header, so that the client knows it again (RFC 6887, section 8.2). It is a multiple of four long and at most MaxLength, and has
// the nonce of a MAP even of one that was cut off.
func AppendError(b, request []byte, code Code, epoch uint32) []byte {
	var op Opcode
	if len(request) > 1 {
		op = Opcode(request[1] &^ responseBit)
	}
	start := len(b)
	b = appendResponseHeader(b, op, code, uint32(code.Lifetime().Seconds()), epoch)
	if len(request) > headerLength {
		b = append(b, request[headerLength:min(len(request), MaxLength)]...)
	}
	length := (len(b) - start + 3) &^ 3
	if code != UnsuppVersion { // what another version has there is not known
		length = max(length, headerLength+op.body())
	}
	for len(b)-start < length {
		b = append(b, 0)
	}
	return b
}

func appendResponseHeader(b []byte, op Opcode, code Code, lifetime, epoch uint32) []byte {
	b = append(b, Version, byte(op)|responseBit, 0, byte(code))
	b = binary.BigEndian.AppendUint32(b, lifetime)
	b = binary.BigEndian.AppendUint32(b, epoch)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
}

func appendBody(b []byte, op Opcode, m *Mapping, remote netip.AddrPort) []byte {
	if op != Map && op != Peer {
		return b
	}
	b = append(b, m.Nonce[:]...)
	b = append(b, m.Protocol, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.Internal)
	b = binary.BigEndian.AppendUint16(b, m.External.Port())
	b = appendAddr(b, m.External.Addr())
	if op == Peer {
		b = binary.BigEndian.AppendUint16(b, remote.Port())
		b = append(b, 0, 0)
		b = appendAddr(b, remote.Addr())
	}
	return b
}

// appendAddr writes 16 octets, IPv4 as RFC 6887, section 5, has it: mapped into IPv6. No address is "::".
func appendAddr(b []byte, a netip.Addr) []byte {
	octets := a.As16()
	return append(b, octets[:]...)
}

func appendOptions(b []byte, o *Options) []byte {
	if o.ThirdParty.IsValid() {
		b = append(b, optionThirdParty, 0, 0, thirdPartyLength)
		b = appendAddr(b, o.ThirdParty)
	}
	if o.PreferFailure {
		b = append(b, optionPreferFailure, 0, 0, 0)
	}
	for _, f := range o.Filters {
		bits := 0
		if f.Prefix.IsValid() {
			bits = f.Prefix.Bits()
			if f.Prefix.Addr().Is4() {
				bits += mappedBits
			}
		}
		b = append(b, optionFilter, 0, 0, filterLength, 0, byte(bits))
		b = binary.BigEndian.AppendUint16(b, f.Port)
		b = appendAddr(b, f.Prefix.Addr())
	}
	return b
}
