package relay

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// States of a TCP connection as TCP_INFO reports them (include/net/tcp_states.h).
const (
	tcpFinWait2  = 5
	tcpTimeWait  = 6
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastAck   = 9
	tcpClosing   = 11
)

// splices reports whether bytes from src to dst can stay in the kernel, in slices.
func splices(dst, src net.Conn) bool {
	if _, ok := dst.(*net.TCPConn); !ok {
		return false
	}
	switch src.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// tcpBytes asks the kernel what c has received and what its peer has acknowledged (RFC 4898, tcpEStatsAppHCThruOctets).
// It is what tells how far a splice has come. ok is false when c is no TCP connection of this kernel, or closed.
func tcpBytes(c net.Conn) (received, acked uint64, ok bool) {
	info := tcpInfo(c)
	if info == nil {
		return 0, 0, false
	}
	received, acked = info.Bytes_received, info.Bytes_acked
	switch info.State { // a FIN takes a place in the sequence and is counted like a byte
	case tcpTimeWait:
		received, acked = lessOne(received), lessOne(acked)
	case tcpCloseWait, tcpLastAck, tcpClosing:
		received = lessOne(received)
	case tcpFinWait2:
		acked = lessOne(acked)
	}
	return received, acked, true
}

// isDead reports whether c was reset or given up. splice(2) does not say which of its two ends failed.
func isDead(c net.Conn) bool {
	info := tcpInfo(c)
	return info != nil && info.State == tcpClose
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
