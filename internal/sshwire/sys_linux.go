package sshwire

import (
	"errors"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// supported reports whether this system has what a Loop needs.
func supported() error { return nil }

// Events of epoll_ctl(2). All descriptors are watched for all of them, edge-triggered.
const (
	evIn     = unix.EPOLLIN
	evOut    = unix.EPOLLOUT
	evUrgent = unix.EPOLLPRI
	evError  = unix.EPOLLERR
	evHangup = unix.EPOLLHUP
	evEnd    = unix.EPOLLRDHUP
	evAll    = evIn | evOut | evUrgent | evEnd | unix.EPOLLET&0xffffffff
)

const (
	errnoAgain   = unix.EAGAIN
	errnoTimeout = unix.ETIMEDOUT
	errnoAborted = unix.ECONNABORTED
)

type (
	event = unix.EpollEvent
	iovec = unix.Iovec
)

// The calls below never block, because every descriptor here has O_NONBLOCK, so they go past the scheduler: telling it of
// a call that takes a microsecond costs a good part of one.

func sysRead(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// sysWrite sends without the signal that write(2) on a dead socket would raise.
func sysWrite(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
			unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func setIovec(v *iovec, b []byte) {
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
}

// sysReadv reads into several places. What they belong to has to be kept alive by the caller.
func sysReadv(fd int32, v []iovec) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// sysWritev sends from several places.
func sysWritev(fd int32, v []iovec) (int, syscall.Errno) {
	header := unix.Msghdr{Iov: unsafe.SliceData(v)}
	header.SetIovlen(len(v))
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&header)), unix.MSG_NOSIGNAL)
		runtime.KeepAlive(v)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// sysAccept takes the next client of a listening socket.
func sysAccept(fd int32) (int32, syscall.Errno) {
	for {
		c, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != unix.EINTR {
			return int32(c), errno
		}
	}
}

func sysClose(fd int32) { _, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func sysShutdownWrite(fd int32) {
	_, _, _ = syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// sysReset closes a socket, by a RST where it is TCP (RFC 9293, section 3.6.2).
func sysReset(fd int32) {
	linger := unix.Linger{Onoff: 1}
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	sysClose(fd)
}

func sysOption(fd int32, level, name int) int {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	_, _, _ = syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	return int(v)
}

// sysSocketError takes the error that waits at fd: how a connect ended.
func sysSocketError(fd int32) syscall.Errno {
	return syscall.Errno(sysOption(fd, unix.SOL_SOCKET, unix.SO_ERROR))
}

func sysIsUnix(fd int32) bool { return sysOption(fd, unix.SOL_SOCKET, unix.SO_DOMAIN) == unix.AF_UNIX }

// sysUnsent is how many bytes of a TCP socket its peer has not acknowledged yet.
func sysUnsent(fd int32) int {
	var v int32
	if _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCOUTQ, uintptr(unsafe.Pointer(&v))); errno != 0 {
		return 0
	}
	return int(v)
}

// sysUnread is how many bytes have come and are still to be read.
func sysUnread(fd int32) int {
	var v int32
	if _, _, errno := syscall.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, uintptr(unsafe.Pointer(&v))); errno != 0 {
		return 0
	}
	return int(v)
}

// sysRoundTrip is how long a packet takes to the peer and back, as the kernel has seen it.
func sysRoundTrip(fd int32) time.Duration {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return time.Duration(max(info.Rtt, info.Rcv_rtt)) * time.Microsecond
}

// sysTake takes the descriptor out of a connection of the net package, which is closed without it.
func sysTake(conn Socket) (int32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var failed error
	if err := raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if failed != nil {
		return -1, failed
	}
	_ = conn.Close() // the socket lives on in fd
	return int32(fd), nil
}

func sysEpoll() (epoll, bell int32, err error) {
	e, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, -1, err
	}
	b, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(e)
		return -1, -1, err
	}
	return int32(e), int32(b), nil
}

// sysRing wakes the loop that watches bell.
func sysRing(bell int32) {
	one := [8]byte{1} // any number but zero
	for {
		if _, err := unix.Write(int(bell), one[:]); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func sysWatch(epoll, fd int32, slot, generation int32) error {
	ev := unix.EpollEvent{Events: evAll, Fd: slot, Pad: generation}
	return unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, int(fd), &ev)
}

// sysUnwatch is for a descriptor that is not closed next.
func sysUnwatch(epoll, fd int32) { _ = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_DEL, int(fd), nil) }

// sysPoll looks for events and does not wait.
func sysPoll(epoll int32, events []event) int {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// sysSleep waits for events in the way of every blocking call.
func sysSleep(epoll int32, events []event, timeout int) int {
	n, err := unix.EpollWait(int(epoll), events, timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		panic("epoll_wait: " + err.Error()) // the loop's own descriptor is bad: nothing can go on
	}
	return max(0, n)
}
