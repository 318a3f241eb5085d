package load

import (
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// quiet prepares the process for workers that block in raw system calls: each needs a processor of the scheduler's to
// itself, and nothing may ever want to stop them all, as the garbage collector does.
func quiet(workers int) {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(workers + 8)
}

// worker starts fn on a thread of its own.
func worker(fn func()) {
	go func() {
		runtime.LockOSThread()
		fn()
	}()
}

// An errno of zero is no error; the named type keeps it from becoming a non-nil error.
func check(op string, errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", op, errno)
}

// sockaddr is an IPv4 address as the kernel has it.
func sockaddr(addr string) (*unix.RawSockaddrInet4, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	if !ap.Addr().Is4() {
		return nil, fmt.Errorf("%s is not an IPv4 address", addr)
	}
	sa := &unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: ap.Addr().As4()}
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	port[0], port[1] = byte(ap.Port()>>8), byte(ap.Port())
	return sa, nil
}

func socket(kind int) (int, syscall.Errno) {
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, uintptr(kind|unix.SOCK_CLOEXEC), 0)
	return int(fd), errno
}

// connect starts, or makes, a connection. For a socket that does not block the errno is EINPROGRESS.
func connect(fd int, sa *unix.RawSockaddrInet4) syscall.Errno {
	for {
		_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(sa)), unix.SizeofSockaddrInet4)
		if errno != unix.EINTR {
			return errno
		}
	}
}

func accept(fd, flags int) (int, syscall.Errno) {
	for {
		c, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, uintptr(flags|unix.SOCK_CLOEXEC), 0, 0)
		if errno != unix.EINTR {
			return int(c), errno
		}
	}
}

func read(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// discard takes up to len(b) bytes from a TCP socket without copying them.
func discard(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_TRUNC, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func write(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// reset closes a TCP socket at once, with RST, so that no TIME_WAIT stays behind on this side.
func reset(fd int) {
	linger := unix.Linger{Onoff: 1}
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	closeOrderly(fd)
}

// closeOrderly closes a TCP socket with FIN, when all that came was read.
func closeOrderly(fd int) {
	_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// A poller waits for many sockets at once.
type poller struct {
	fd     int
	events [64]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poller{fd: fd}, err
}

// add has the poller watch a socket until that is closed. What it reports bears the id.
func (p *poller) add(fd, id int, events uint32) syscall.Errno {
	ev := unix.EpollEvent{Events: events, Fd: int32(id)}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.fd), unix.EPOLL_CTL_ADD, uintptr(fd),
		uintptr(unsafe.Pointer(&ev)), 0, 0)
	return errno
}

// wait returns what has happened, at the latest after some milliseconds; -1 is for ever.
func (p *poller) wait(ms int) []unix.EpollEvent {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), uintptr(ms), 0, 0)
	if errno != 0 {
		return nil
	}
	return p.events[:n]
}

// A batch is datagrams that are received and sent with one system call each way.
type batch struct {
	msgs []mmsghdr
	addr []unix.RawSockaddrInet4
	iov  []unix.Iovec
	bufs [][]byte
	ctl  []control // nil: not wanted
}

// control is room for the one control message that a sink asks for: how long the datagrams are that the kernel has joined, see
// UDP_GRO in udp(7).
type control struct {
	hdr  unix.Cmsghdr
	size int32
	_    int32
}

// mmsghdr is the kernel's struct of that name, see recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [unsafe.Sizeof(uintptr(0)) - 4]byte
}

// newBatch makes room for n datagrams of up to size bytes; named keeps their addresses, for a socket that is not connected.
func newBatch(n, size int, named bool) *batch {
	b := &batch{make([]mmsghdr, n), make([]unix.RawSockaddrInet4, n), make([]unix.Iovec, n), make([][]byte, n), nil}
	for i := range n {
		b.bufs[i] = make([]byte, size)
		b.iov[i].Base = &b.bufs[i][0]
		b.msgs[i].hdr.Iov = &b.iov[i]
		b.msgs[i].hdr.SetIovlen(1)
		if named {
			b.msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&b.addr[i]))
		}
	}
	return b
}

// joined has the batch receive datagrams that the kernel has joined.
func (b *batch) joined() {
	b.ctl = make([]control, len(b.msgs))
	for i := range b.msgs {
		b.msgs[i].hdr.Control = (*byte)(unsafe.Pointer(&b.ctl[i]))
	}
}

// datagrams is how many the i-th message is made of.
func (b *batch) datagrams(i int) uint32 {
	c := &b.ctl[i]
	if int(b.msgs[i].hdr.Controllen) < unix.SizeofCmsghdr+4 || c.hdr.Level != unix.SOL_UDP || c.hdr.Type != unix.UDP_GRO ||
		c.size <= 0 {
		return 1
	}
	return max(1, (b.msgs[i].n+uint32(c.size)-1)/uint32(c.size))
}

// receive waits for at least one datagram and takes those that are there.
func (b *batch) receive(fd, flags int) (int, syscall.Errno) {
	for i := range b.msgs {
		b.iov[i].SetLen(len(b.bufs[i]))
		if b.msgs[i].hdr.Name != nil {
			b.msgs[i].hdr.Namelen = unix.SizeofSockaddrInet4
		}
		if b.ctl != nil {
			b.msgs[i].hdr.SetControllen(int(unsafe.Sizeof(control{})))
		}
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])),
			uintptr(len(b.msgs)), uintptr(flags), 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// send sends the first n datagrams, which are as long as they were received; a full queue loses the rest.
func (b *batch) send(fd, n int) syscall.Errno {
	for i := range n {
		b.iov[i].SetLen(int(b.msgs[i].n))
	}
	for done := 0; done < n; {
		k, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[done])),
			uintptr(n-done), 0, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return errno
		}
		if errno == 0 {
			done += int(k)
		}
	}
	return 0
}
