package engine

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block, because every descriptor here has O_NONBLOCK, so they go past the scheduler: telling it of
// a call that takes a microsecond costs a good part of one.

func read(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// write sends without the signal that write(2) on a dead socket would raise.
func write(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func splice(from, to int32, n int) (int, syscall.Errno) {
	const flags = unix.SPLICE_F_MOVE | unix.SPLICE_F_NONBLOCK
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), flags)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func closeFD(fd int32) { _, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func shutdownWrite(fd int32) syscall.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

func setOption(fd int32, level, name, value int) {
	v := int32(value)
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
}

// acknowledge sends at once what acknowledgement the kernel holds back (tcp(7), TCP_QUICKACK).
func acknowledge(fd int32) { setOption(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }

// ResetOnClose makes close send a RST (RFC 9293, section 3.6.2) where fd is TCP, or takes that back.
func ResetOnClose(fd int, on bool) {
	var linger unix.Linger
	if on {
		linger.Onoff = 1
	}
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
}

// socketError takes the error that waits at fd: how a connect ended.
func socketError(fd int32) syscall.Errno {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return syscall.Errno(v)
}

// unsent is how many bytes of a TCP socket its peer has not acknowledged yet.
func unsent(fd int32) int {
	var v int32
	if _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCOUTQ, uintptr(unsafe.Pointer(&v))); errno != 0 {
		return 0
	}
	return int(v)
}

// unread is how many bytes there are to be read from a stream socket; 0 may also be its end or an error.
func unread(fd int32) int {
	var v int32
	if _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, uintptr(unsafe.Pointer(&v))); errno != 0 {
		return 0
	}
	return int(v)
}

// accept takes the next connection of a listening socket. The address is not valid for a client of a unix socket.
func accept(fd int32) (int32, netip.AddrPort, syscall.Errno) {
	var sa unix.RawSockaddrAny
	for {
		size := uint32(unsafe.Sizeof(sa))
		c, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != unix.EINTR {
			return int32(c), addrPort(&sa), errno
		}
	}
}

// LocalAddr is the address of fd's own end, not valid where it has none.
func LocalAddr(fd int) netip.AddrPort { return nameOf(unix.SYS_GETSOCKNAME, fd) }

// RemoteAddr is the address of fd's peer, not valid where it has none.
func RemoteAddr(fd int) netip.AddrPort { return nameOf(unix.SYS_GETPEERNAME, fd) }

func nameOf(call uintptr, fd int) netip.AddrPort {
	var sa unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(sa))
	if _, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&sa)
}

// addrPort reads an address of the kernel's. IPv4 in IPv6 becomes IPv4; the zone of a link-local address is its index.
func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), bigEndian(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(withZone(netip.AddrFrom16(in.Addr).Unmap(), in.Scope_id), bigEndian(in.Port))
	}
	return netip.AddrPort{}
}

func bigEndian(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// Reset closes a socket, by a reset where it is TCP.
func Reset(fd int) {
	ResetOnClose(fd, true)
	closeFD(int32(fd))
}
