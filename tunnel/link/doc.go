// Package link makes a tunnel.Link: over QUIC, TLS or a WebSocket, directly or through a proxy, at both ends of it. An agent has a
// Dialer, which races the transports and knows which is the better one; a hub has a Listener, which tells agents from other visitors of
// the same port.
//
// What both ends prove is that they have a private key, and nothing else: what is said on a link, whose key may do what, and
// sessions do not come in here. Sockets to listen at are given, and so is who dials.
package link
