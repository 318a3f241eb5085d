package host

import (
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

var _ node.SocketNode = (*Node)(nil)

// Connect starts a TCP connection on a socket that does not block, or connects a UDP one: it is under way, or there already,
// when there is no error. The calls go past the scheduler, because none of them waits.
func (n *Node) Connect(to netip.AddrPort, o node.ConnectOptions) (int, error) {
	fd, err := connect(to, o)
	if anyPort(&o.From, err) {
		fd, err = connect(to, o)
	}
	return fd, err
}

func connect(to netip.AddrPort, o node.ConnectOptions) (int, error) {
	var sa [unix.SizeofSockaddrInet6]byte
	family, size := putSockaddr(&sa, to)
	kind := unix.SOCK_STREAM
	if o.Packets {
		kind = unix.SOCK_DGRAM
	}
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family), uintptr(kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC), 0)
	if errno != 0 {
		return -1, errno
	}
	if !o.Packets {
		setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if o.HoldACK && !o.Packets {
		setOption(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	if o.FastOpen && !o.Packets {
		setOption(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1) // refused: an ordinary handshake
	}
	if o.From.IsValid() {
		if err := bindFrom(int(fd), o.From, to.Addr(), kind); err != nil {
			_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
			return -1, err
		}
	}
	_, _, errno = syscall.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&sa)), uintptr(size))
	if errno != 0 && errno != unix.EINPROGRESS && errno != unix.EINTR {
		_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
		return -1, errno
	}
	return int(fd), nil
}

// putSockaddr writes an address as the kernel wants it.
func putSockaddr(sa *[unix.SizeofSockaddrInet6]byte, to netip.AddrPort) (family, size int) {
	addr := to.Addr()
	if addr.Is4() || addr.Is4In6() {
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*in = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: addr.Unmap().As4()}
		return unix.AF_INET, unix.SizeofSockaddrInet4
	}
	in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
	*in = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: addr.As16(), Scope_id: zoneIndex(addr.Zone())}
	return unix.AF_INET6, unix.SizeofSockaddrInet6
}

func networkOrder(port uint16) (n uint16) {
	b := (*[2]byte)(unsafe.Pointer(&n))
	b[0], b[1] = byte(port>>8), byte(port)
	return n
}

func setOption(fd uintptr, level, name, value int) {
	v := int32(value)
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
}

// zoneIndex is the number of an interface that a zone names, 0 for none.
func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}
