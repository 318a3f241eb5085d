//go:build !unix

package relay

import "net"

func readUrgent(net.Conn) {}
