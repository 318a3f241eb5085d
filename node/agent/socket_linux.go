package agent

import (
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// duplicate is another descriptor of a connection's socket, if it has one of a stream.
func duplicate(conn net.Conn) (fd int, ok bool) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return -1, false
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, false
	}
	fd = -1
	if outer := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); outer != nil || err != nil {
		return -1, false
	}
	return fd, true
}

func discard(fd int) { _ = unix.Close(fd) }

// readable waits until a socket that does not block has something to be read. An error that a read would have had is returned: it is not
// there any more when somebody reads.
func readable(raw syscall.RawConn) error {
	var err error
	outer := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			_, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if outer != nil {
		return outer
	}
	return os.NewSyscallError("recvfrom", err)
}

// peerOf is whom a socket is connected to; nil: nobody knows.
func peerOf(fd int) net.Addr {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return nil
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)))
	case *unix.SockaddrInet6:
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)))
	}
	return nil
}
