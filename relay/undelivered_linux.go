package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// tellUndelivered has a connected UDP socket say in its next read that a datagram found nobody: without being asked to, Linux keeps
// that a host is unreachable to itself (ip(7), IP_RECVERR).
func tellUndelivered(conn net.Conn) {
	onSocket(conn, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1) // one of the two, and an IPv6 socket may take both
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	})
}

// clearUndelivered takes what is noted with the socket of datagrams that found nobody, which would fill its buffer.
func clearUndelivered(conn net.Conn) {
	onSocket(conn, func(fd int) {
		for {
			if _, _, _, _, err := unix.Recvmsg(fd, nil, nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil && err != unix.EINTR {
				return
			}
		}
	})
}
