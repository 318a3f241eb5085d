//go:build !linux

package relay

import "net"

// tellUndelivered and clearUndelivered have nothing to do: other systems tell by themselves, or cannot be asked to.
func tellUndelivered(net.Conn)  {}
func clearUndelivered(net.Conn) {}
