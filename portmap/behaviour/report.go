package behaviour

import (
	"fmt"
	"net/netip"
)

// A Rule is for whom a NAT makes a difference (RFC 4787, sections 4.1 and 5).
type Rule string

// The rules.
const (
	Unknown     Rule = "unknown"
	None        Rule = "none" // of mapping: this host has its own address outside, and its own port
	Endpoint    Rule = "endpoint-independent"
	Address     Rule = "address-dependent"
	AddressPort Rule = "address-and-port-dependent"
)

// A Hairpin is whether two ports of this host reach each other by their addresses outside, each having sent to the other, as hosts of
// a LAN do that a server has told of each other (RFC 4787, section 6).
type Hairpin string

// The answers.
const (
	HairpinUnknown  Hairpin = "unknown"
	HairpinYes      Hairpin = "yes"
	HairpinNo       Hairpin = "no"
	HairpinNeedless Hairpin = "needless" // there is no NAT
)

// A Grade is what consoles and games call it.
type Grade string

// The grades.
const (
	GradeUnknown Grade = "unknown"
	Open         Grade = "open"     // everybody reaches the port of a program that has sent something, and by the same address
	Moderate     Grade = "moderate" // those reach it whom it has sent to, and by the same address
	Strict       Grade = "strict"   // everybody would have to be told another address, which nobody knows before
)

// A Report is what was found.
type Report struct {
	Server  netip.AddrPort // who was asked
	Other   netip.AddrPort // by what it can be had besides; invalid: nothing that could be used
	Local   netip.AddrPort // a port of this host
	Public  netip.AddrPort // where the server sees it; invalid: there was no answer
	Mapping Rule           // for whom Local is which port outside
	Filter  Rule           // who is let in there
	Hairpin Hairpin
	Missing string // what kept the unknown from being found, in words; "": all was
}

// Grade is what consoles call it.
func (r Report) Grade() Grade {
	switch {
	case r.Mapping == Address || r.Mapping == AddressPort:
		return Strict
	case r.Mapping == Unknown || r.Filter == Unknown:
		return GradeUnknown
	case r.Filter == Endpoint:
		return Open
	}
	return Moderate
}

// A NoAnswerError is a server of which nothing was heard. From here nobody can tell whether UDP does not get there, or back, or there is no
// such server.
type NoAnswerError struct {
	Server netip.AddrPort
	Err    error // of sending; nil: it was sent
}

func (e *NoAnswerError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("the STUN server %s cannot be asked: %v", e.Server, e.Err)
	}
	return fmt.Sprintf("the STUN server %s does not answer: UDP does not get there and back, or there is no such server", e.Server)
}

func (e *NoAnswerError) Unwrap() error { return e.Err }

// A RefusedError is a server that does not say what it was asked.
type RefusedError struct {
	Server netip.AddrPort
	Code   int // of STUN (RFC 8489, section 14.8); 0: its answer names no address that this host could have
}

func (e *RefusedError) Error() string {
	if e.Code != 0 {
		return fmt.Sprintf("the STUN server %s refuses with error %d", e.Server, e.Code)
	}
	return fmt.Sprintf("the STUN server %s does not say which address it sees", e.Server)
}
