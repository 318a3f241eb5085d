// Package pcp is the Port Control Protocol (RFC 6887) as bytes: the messages of a client and of a server, appended to a slice and
// parsed from one.
//
// It is pure. Sockets, clocks and retransmission stay outside, and so does what may be mapped. Nothing here is kept between two calls,
// and a parser keeps nothing of the bytes that it is given.
package pcp
