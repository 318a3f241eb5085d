//go:build unix

package relay

import (
	"net"
	"syscall"
)

// readUrgent has urgent data of a connection read where it stands among the rest: the half of a Telnet command that an FTP
// client sends that way is not missing then.
func readUrgent(c net.Conn) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := s.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_OOBINLINE, 1) })
	}
}
