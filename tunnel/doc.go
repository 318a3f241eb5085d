// Package tunnel is what a hub and an agent have with each other: a Session, over which both open streams and flows of datagrams.
// A session outlives the connections that carry it. Each of those is a Link, made and authenticated elsewhere (tunnel/link); when
// one dies, or a better one comes, the session goes on over another where it was, and no byte is lost, doubled or reordered.
//
//	Stream ─┐ offsets, credit, what is not            ┌ Lane ─┐
//	Stream ─┼ acknowledged yet   ──► frames ──► Link ─┤ Lane  ├─► TLS, WebSocket, QUIC
//	Flow  ──┘ (tunnel/wire)                           └ datagrams
//
// docs/protocol.md is the specification of what is said. Who may do what, who listens and dials, and how a link comes about do not
// come in here.
package tunnel
