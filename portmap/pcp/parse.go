package pcp

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// ErrIgnore is what parsers return for a message that no answer is due to.
var ErrIgnore = errors.New("not a message for this end of PCP")

// mappedBits is how much of an IPv6 address comes before the IPv4 address that is mapped into it.
const mappedBits = 96

// ParseRequest reads what a client has sent. Where it fails, errors.As finds an *Error with the result code that is due, but for ErrIgnore;
// then the request has what could be read, its opcode at least. It allocates for filters alone.
//
// The order of the checks is that of RFC 6887, section 8.2. What only a server can know (the source of the packet, whether it lets
// others ask for a host) is for the server to check.
func ParseRequest(b []byte) (Request, error) {
	var r Request
	if len(b) < 2 || b[1]&responseBit != 0 {
		return r, ErrIgnore
	}
	r.Opcode = Opcode(b[1])
	if b[0] != Version {
		return r, refuse(UnsuppVersion, "the version is not 2")
	}
	if len(b) < headerLength || len(b) > MaxLength || len(b)%4 != 0 {
		return r, refuse(MalformedRequest, "no message has this length")
	}
	r.Lifetime = binary.BigEndian.Uint32(b[4:])
	r.Client = addr(b[8:])
	if r.Opcode > Peer {
		return r, refuse(UnsuppOpcode, "there is no such opcode")
	}
	rest := b[headerLength:]
	if len(rest) < r.Opcode.body() {
		return r, refuse(MalformedRequest, "the message is too short for its opcode")
	}
	rest = parseBody(rest, r.Opcode, &r.Mapping, &r.Remote)
	if err := r.Options.parse(rest, r.Opcode, true); err != nil {
		return r, err
	}
	return r, r.check()
}

// check is for what no single field tells.
func (r *Request) check() error {
	if r.Opcode == Announce {
		return nil
	}
	switch {
	case r.Protocol == ProtocolAll && r.Internal != 0: // section 11.1
		return refuse(MalformedRequest, "one port of all protocols")
	case r.PreferFailure && r.External.Port() == 0 && r.External.Addr().IsUnspecified() && r.Lifetime != 0: // section 13.2
		return refuse(MalformedOption, "PREFER_FAILURE without anything to prefer")
	case r.Opcode == Peer && (r.Internal == 0 || r.Remote.Port() == 0 || r.Remote.Addr().IsUnspecified()): // section 12.1
		return refuse(MalformedRequest, "PEER without an internal port or a peer")
	}
	return nil
}

// ParseResponse reads what a server has sent. ErrIgnore is for what is no response; an *Error with UnsuppVersion for one of another
// version, whose first two octets and result are read all the same, since that is how versions are negotiated (RFC 6887, section 9); any
// other *Error for one that makes no sense. What a response says itself is in its Code. It allocates for filters alone.
func ParseResponse(b []byte) (Response, error) {
	var r Response
	if len(b) < 4 || b[1]&responseBit == 0 {
		return r, ErrIgnore
	}
	r.Opcode, r.Code = Opcode(b[1]&^responseBit), Code(b[3])
	if b[0] != Version {
		return r, refuse(UnsuppVersion, "the version of the response is not 2")
	}
	if len(b) < headerLength || len(b) > MaxLength || len(b)%4 != 0 {
		return r, refuse(MalformedRequest, "no message has this length")
	}
	r.Lifetime, r.Epoch = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	if r.Opcode > Peer {
		return r, refuse(UnsuppOpcode, "there is no such opcode")
	}
	rest := b[headerLength:]
	if len(rest) < r.Opcode.body() {
		if r.Code != Success { // the error is what matters; a server that did not read the request may answer with a header
			return r, nil
		}
		return r, refuse(MalformedRequest, "the message is too short for its opcode")
	}
	rest = parseBody(rest, r.Opcode, &r.Mapping, &r.Remote)
	if r.Code != Success { // with an error come back the options of the request, good or bad
		return r, nil
	}
	return r, r.Options.parse(rest, r.Opcode, false)
}

func parseBody(b []byte, op Opcode, m *Mapping, remote *netip.AddrPort) (rest []byte) {
	if op != Map && op != Peer {
		return b
	}
	copy(m.Nonce[:], b)
	m.Protocol = b[12]
	m.Internal = binary.BigEndian.Uint16(b[16:])
	m.External = netip.AddrPortFrom(addr(b[20:]), binary.BigEndian.Uint16(b[18:]))
	if op == Peer {
		*remote = netip.AddrPortFrom(addr(b[40:]), binary.BigEndian.Uint16(b[36:]))
	}
	return b[op.body():]
}

// parse reads options to the end. A server (strict) refuses those that it has to understand and does not; a client leaves them.
func (o *Options) parse(b []byte, op Opcode, strict bool) error {
	for len(b) > 0 {
		// b is a multiple of four long, so there is a whole option header.
		code, length := b[0], int(binary.BigEndian.Uint16(b[2:]))
		b = b[optionHead:]
		padded := (length + 3) &^ 3
		if padded > len(b) {
			return refuse(MalformedOption, "an option is longer than the message")
		}
		if err := o.one(code, b[:length], op); err != nil && (strict || errors.Is(err, MalformedOption)) {
			return err
		}
		b = b[padded:]
	}
	return nil
}

func (o *Options) one(code byte, data []byte, op Opcode) error {
	switch {
	case code == optionThirdParty && op != Announce:
		if len(data) != thirdPartyLength {
			return refuse(MalformedOption, "THIRD_PARTY has a wrong length")
		}
		if o.ThirdParty.IsValid() {
			return refuse(MalformedOption, "THIRD_PARTY twice")
		}
		o.ThirdParty = addr(data)
	case code == optionPreferFailure && op == Map:
		if len(data) != 0 {
			return refuse(MalformedOption, "PREFER_FAILURE has a wrong length")
		}
		if o.PreferFailure {
			return refuse(MalformedOption, "PREFER_FAILURE twice")
		}
		o.PreferFailure = true
	case code == optionFilter && op == Map:
		f, err := parseFilter(data)
		if err != nil {
			return err
		}
		o.Filters = append(o.Filters, f)
	case code < optionalFrom: // unknown, or not for this opcode
		return refuse(UnsuppOption, "an option that must be understood is not")
	}
	return nil
}

func parseFilter(data []byte) (Filter, error) {
	if len(data) != filterLength {
		return Filter{}, refuse(MalformedOption, "FILTER has a wrong length")
	}
	bits, a := int(data[1]), addr(data[4:])
	f := Filter{Port: binary.BigEndian.Uint16(data[2:])}
	if bits == 0 {
		return Filter{}, nil // what else it says does not matter
	}
	if a.Is4() {
		bits -= mappedBits
	}
	if bits < 0 || bits > a.BitLen() {
		return Filter{}, refuse(MalformedOption, "FILTER has a prefix that no address has")
	}
	f.Prefix = netip.PrefixFrom(a, bits)
	return f, nil
}

func addr(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b[:16])).Unmap() }
