// Package pmpserver answers PCP (RFC 6887) and NAT-PMP (RFC 6886) on one port, UDP 5351, of IPv4 and IPv6.
//
// It knows of sockets and messages. What may be mapped, and for how long, is asked of a portmap.Desk; no rule, no lease and no
// neighbour's address is kept here.
//
//	socket ─► door ─► take ──────────────────────► answer at once: errors, ANNOUNCE, the external address
//	                   └─► queue ─► clerk ─► Desk ─► answers of one batch
//
// There is a door for each family, which reads as many messages as there are, and one clerk, who asks the Desk for all that wait at once.
// So a Desk that takes its time makes the batches longer and nobody deaf. Who is served is told by the interface that a message came in
// by, which the kernel says, and never by an address.
package pmpserver
