//go:build !linux

package relay

import "net"

// newWildcardConn cannot tell which address a datagram came to: answers leave from the address that routing picks.
func newWildcardConn(c *net.UDPConn) packetConn { return &exactConn{UDPConn: c} }
