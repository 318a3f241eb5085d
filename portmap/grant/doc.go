// Package grant decides which programs of the LAN get which ports, whatever protocol they ask by: it is the portmap.Desk of a
// gateway. A lease is a forward of origin lease:PROTOCOL in the table, which carries it, counts it, stores it, ends it on time,
// and has it give way to the operator's. What is kept here is who may have how much, and an index of the leases (Book).
//
// A lease listens at the address of the WAN interface, and on no interface in particular. So it has the traffic that comes from
// the WAN and that of the LAN which calls the outer address (hairpin), and none that is meant for an inner address of this host,
// whatever the port: no lease takes the gateway's own SSH server or console from the LAN. That the address is named makes a lease
// more specific than a forward of the operator without one; the table therefore refuses it any port that such a forward names.
// When the address changes all leases move to the new one, in one change.
//
// Messages, sockets and wire formats do not come in here, nor does anything of nftables.
package grant
