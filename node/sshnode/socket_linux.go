package sshnode

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout has the kernel give a connection up when what was sent is not acknowledged for d (RFC 5482).
func setUserTimeout(c net.Conn, d time.Duration) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := s.SyscallConn(); err == nil {
		// A kernel that does not know it leaves it to the keepalives.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
		})
	}
}

// acknowledger returns a function that has the kernel acknowledge at once what was received, nil if c is no TCP socket. An
// sshd without a terminal sends small packets only when those before were acknowledged (Nagle), so an acknowledgement that
// is delayed by 40 ms delays each opening and closing of a channel as long. The kernel forgets the wish, so it is told again
// after each read.
func acknowledger(c net.Conn) func() {
	s, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	now := func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
	return func() { _ = raw.Control(now) }
}
