package pmpserver

import (
	"net"

	"golang.org/x/sys/unix"
)

// growBuffer gives a socket a receive buffer that net.core.rmem_max would not let it have, where that is allowed.
func growBuffer(conn *net.UDPConn, size int) {
	_ = conn.SetReadBuffer(size)
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) })
	}
}
