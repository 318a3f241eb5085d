// Package portmap holds the words that both sides of port mapping share: a server that gives programs of the LAN the ports that
// they ask for (grant), and a client that asks somebody else's gateway (publish).
//
// The wire formats are below it, pure and without I/O: pcp (RFC 6887), natpmp (RFC 6886), ssdp and upnp (UPnP Device Architecture
// 1.1, WANIPConnection 1 and 2). The servers of the protocols, pmpserver and igd, know of sockets and messages and of nothing else:
// what may be mapped is asked of a Desk. How leases become forwards belongs to grant, which is one.
package portmap
