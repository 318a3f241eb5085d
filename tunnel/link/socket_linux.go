package link

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A socket that was told a congestion control or a limit which the kernel does not have works without it, so errors are no matter.
const (
	notSent     = 128 << 10        // TCP_NOTSENT_LOWAT: what waits in the kernel cannot be overtaken
	userTimeout = 10 * time.Second // TCP_USER_TIMEOUT: how long what was sent may stay unacknowledged
)

// tune sets what a socket of a link has: quick to send, quick to notice that nobody is there.
func tune(c *net.TCPConn) {
	_ = c.SetNoDelay(true)
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3})
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	remote, _ := c.RemoteAddr().(*net.TCPAddr)
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
		if remote != nil && !remote.IP.IsLoopback() { // loss there is none, and pacing costs
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr")
		}
	})
}

// tcpRTT is the smoothed round-trip time that the kernel has measured.
func tcpRTT(c *net.TCPConn) (rtt time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			rtt = time.Duration(info.Rtt) * time.Microsecond
		}
	})
	return rtt
}

// giveUpAfter has a connection end when what was sent stays unacknowledged for so long.
func giveUpAfter(c *net.TCPConn, d time.Duration) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
		})
	}
}
