// Package stun is what Fairlead needs of STUN (RFC 8489) and of its use to discover a NAT's behaviour (RFC 5780) as bytes: the
// messages of the Binding method, appended to a slice and parsed from one.
//
// It is pure. Sockets, clocks and retransmission stay outside, and so does what the answers mean. There is no authentication, no TCP
// and no method but Binding: whoever needs these wants a library.
package stun
