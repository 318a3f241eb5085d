// Package behaviour asks a STUN server how the NAT between it and this host behaves, by the tests of RFC 5780: for whom a port of this
// host is which port outside, who is let in there, and whether hosts inside reach each other by it.
//
// It asks the one server that it is given, and the address that this one says it has besides, where that is of the same kind. It maps
// nothing, and what gateways say of themselves is not known here. What it finds holds for now: a NAT may behave otherwise when it is busy
// (RFC 5780, section 1).
package behaviour
