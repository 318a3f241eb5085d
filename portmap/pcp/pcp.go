package pcp

import (
	"fmt"
	"time"
)

// Version is the one that RFC 6887 describes. Version 0 is NAT-PMP's, 1 was a draft's.
const Version = 2

// The ports, of UDP (RFC 6887, section 19.1).
const (
	ServerPort = 5351
	ClientPort = 5350 // announcements are multicast to it
)

// The lengths of messages and their parts, in octets.
const (
	MaxLength = 1100 // RFC 6887, section 7

	headerLength     = 24 // of requests and responses: sections 7.1 and 7.2
	mapLength        = 36 // section 11.1
	peerLength       = 56 // section 12.1
	optionHead       = 4  // section 7.3
	thirdPartyLength = 16 // section 13.1
	filterLength     = 20 // section 13.3
)

// responseBit marks the opcode of a response (RFC 6887, section 7.2).
const responseBit = 0x80

// An Opcode is what a message is about (RFC 6887, section 19.2).
type Opcode uint8

// The opcodes.
const (
	Announce Opcode = 0 // section 14.1
	Map      Opcode = 1 // section 11
	Peer     Opcode = 2 // section 12
)

func (o Opcode) String() string {
	switch o {
	case Announce:
		return "ANNOUNCE"
	case Map:
		return "MAP"
	case Peer:
		return "PEER"
	}
	return fmt.Sprintf("opcode %d", uint8(o))
}

// body is how long what comes between the header and the options is.
func (o Opcode) body() int {
	switch o {
	case Map:
		return mapLength
	case Peer:
		return peerLength
	}
	return 0
}

// The options (RFC 6887, section 19.4). Those below 128 must be understood by whom they are sent to.
const (
	optionThirdParty    = 1 // section 13.1
	optionPreferFailure = 2 // section 13.2
	optionFilter        = 3 // section 13.3
	optionalFrom        = 128
)

// The transport protocols of IANA that are mapped.
const (
	ProtocolAll = 0
	ProtocolTCP = 6
	ProtocolUDP = 17
)

// A Code is the result of a request. Every one but Success is an error, which errors.Is finds in what parsers return.
type Code uint8

// The result codes (RFC 6887, section 7.4).
const (
	Success               Code = 0
	UnsuppVersion         Code = 1
	NotAuthorized         Code = 2
	MalformedRequest      Code = 3
	UnsuppOpcode          Code = 4
	UnsuppOption          Code = 5
	MalformedOption       Code = 6
	NetworkFailure        Code = 7
	NoResources           Code = 8
	UnsuppProtocol        Code = 9
	UserExQuota           Code = 10
	CannotProvideExternal Code = 11
	AddressMismatch       Code = 12
	ExcessiveRemotePeers  Code = 13
)

var codeWords = [...]string{
	"SUCCESS", "UNSUPP_VERSION", "NOT_AUTHORIZED", "MALFORMED_REQUEST", "UNSUPP_OPCODE", "UNSUPP_OPTION", "MALFORMED_OPTION", "NETWORK_FAILURE",
	"NO_RESOURCES", "UNSUPP_PROTOCOL", "USER_EX_QUOTA", "CANNOT_PROVIDE_EXTERNAL", "ADDRESS_MISMATCH", "EXCESSIVE_REMOTE_PEERS",
}

func (c Code) String() string {
	if int(c) < len(codeWords) {
		return codeWords[c]
	}
	return fmt.Sprintf("result code %d", uint8(c))
}

// Error makes a code an error, as a client has it from a gateway.
func (c Code) Error() string { return "PCP result " + c.String() }

// How long a client should believe an error (RFC 6887, section 7.4).
const (
	shortError = 30 * time.Second
	longError  = 30 * time.Minute
)

// Lifetime is how long a client may expect the same answer to the same request, in whole seconds; 0 for Success.
func (c Code) Lifetime() time.Duration {
	switch c {
	case Success:
		return 0
	case NetworkFailure, NoResources, UserExQuota:
		return shortError
	}
	return longError
}

// An Error is a message that cannot be taken as it is, and which answer is due.
type Error struct {
	Code Code
	Why  string
}

func (e *Error) Error() string { return e.Code.String() + ": " + e.Why }

// Unwrap lets errors.Is find the code.
func (e *Error) Unwrap() error { return e.Code }

func refuse(c Code, why string) error { return &Error{c, why} }
