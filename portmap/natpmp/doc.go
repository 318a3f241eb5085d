// Package natpmp is the NAT Port Mapping Protocol (RFC 6886) as bytes: the messages of a client and of a server, appended to a slice and
// parsed from one.
//
// It is pure. Sockets, clocks and retransmission stay outside, and so does what may be mapped. Nothing here is kept between two calls,
// and nothing is allocated.
package natpmp
