package relay

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// tcpClose is a state of a TCP connection as TCP_INFO reports it (include/net/tcp_states.h).
const tcpClose = 7

// isDead reports whether c was reset or given up.
func isDead(c net.Conn) bool {
	info := tcpInfo(c)
	return info != nil && info.State == tcpClose
}

// hasLeft reports whether the peer of c, from which nothing has been read, has no more use for it: it was reset, or ended
// before it said anything. A peer that said something and then ended its direction may still wait for the answer.
func hasLeft(c net.Conn) bool {
	left := false
	onSocket(c, func(fd int) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(p, 0); err != nil || n == 0 {
			return
		}
		unread, _ := unix.IoctlGetInt(fd, unix.TIOCINQ)
		left = p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 || unread == 0
	})
	return left
}

// unsent is how many bytes c has not yet brought to its peer, who would lose them by a reset.
func unsent(c net.Conn) int {
	if _, ok := c.(*net.TCPConn); !ok {
		return 0
	}
	n := 0
	onSocket(c, func(fd int) { n, _ = unix.IoctlGetInt(fd, unix.TIOCOUTQ) })
	return n
}

func tcpInfo(c net.Conn) (info *unix.TCPInfo) {
	if _, ok := c.(*net.TCPConn); !ok {
		return nil
	}
	onSocket(c, func(fd int) { info, _ = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO) })
	return info
}

func onSocket(c net.Conn, do func(fd int)) {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { do(int(fd)) })
		}
	}
}
