package sshchan

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// acknowledger returns a function that has the kernel acknowledge at once what was received, nil if c is no TCP socket. OpenSSH
// without a terminal, at either end, sends small packets only when those before were acknowledged (Nagle), so an acknowledgement
// that is delayed by 40 ms delays each opening and closing of a channel as long. The kernel forgets the wish, so it is told again
// after each read.
func acknowledger(c net.Conn) func() {
	s, ok := c.(syscall.Conn)
	if _, tcp := c.RemoteAddr().(*net.TCPAddr); !ok || !tcp {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	now := func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
	return func() { _ = raw.Control(now) }
}
