package engine

import (
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSize holds what comes or goes with one message: its local address (40 bytes), ECN bits (24) and segment size (24).
const controlSize = 128

// ecnBits are those of the traffic class that belong to ECN; the others are the DSCP (RFC 3168, section 5).
const ecnBits = 3

// A control is the control messages of one message (cmsg(3)), aligned as they have to be.
type control [controlSize / 8]uint64

func (c *control) bytes() []byte { return (*[controlSize]byte)(unsafe.Pointer(c))[:] }

func (c *control) first() *byte { return &c.bytes()[0] }

// add appends a control message after the first used bytes, and returns where its data goes and how many bytes are used now.
func (c *control) add(used int, level, kind int32, size int) (data []byte, now int) {
	b := c.bytes()[used:]
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	return b[unix.CmsgLen(0):][:size], used + unix.CmsgSpace(size)
}

// addLocal has a message leave from an address of this host (ip(7) IP_PKTINFO, ipv6(7) IPV6_PKTINFO). An IPv6 socket takes
// that of IPv4 in the IPv6 form.
func (c *control) addLocal(used int, local netip.Addr, v6 bool) int {
	if v6 {
		data, now := c.add(used, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		*(*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet6Pktinfo{Addr: local.As16()}
		return now
	}
	data, now := c.add(used, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
	*(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet4Pktinfo{Spec_dst: local.As4()}
	return now
}

// addECN marks a message that goes by IPv4 or IPv6.
func (c *control) addECN(used int, ecn uint8, v6 bool) int {
	level, kind := int32(unix.IPPROTO_IP), int32(unix.IP_TOS)
	if v6 {
		level, kind = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	data, now := c.add(used, level, kind, 4)
	*(*int32)(unsafe.Pointer(&data[0])) = int32(ecn)
	return now
}

// addSegment has the kernel cut a message into datagrams (udp(7), UDP_SEGMENT).
func (c *control) addSegment(used, size int) int {
	data, now := c.add(used, unix.SOL_UDP, unix.UDP_SEGMENT, 2)
	*(*uint16)(unsafe.Pointer(&data[0])) = uint16(size)
	return now
}

// parseControl enters into p what the kernel says of a message.
func parseControl(b []byte, p *Packet) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if h.Len < unix.SizeofCmsghdr || uint64(h.Len) > uint64(len(b)) {
			return
		}
		data := b[min(unix.CmsgLen(0), int(h.Len)):h.Len]
		parseOne(h.Level, h.Type, data, p)
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
}

func parseOne(level, kind int32, data []byte, p *Packet) {
	switch {
	case level == unix.IPPROTO_IP && kind == unix.IP_TOS && len(data) >= 1:
		p.ECN = data[0] & ecnBits
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_TCLASS && len(data) >= 4:
		p.ECN = uint8(*(*int32)(unsafe.Pointer(&data[0]))) & ecnBits
	case level == unix.SOL_UDP && kind == unix.UDP_GRO && len(data) >= 4:
		p.Segment = max(0, int(*(*int32)(unsafe.Pointer(&data[0]))))
	case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
		p.Local = netip.AddrFrom4(info.Spec_dst) // a broadcast's Addr is nothing to answer from
	case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
		p.Local = netip.AddrFrom16(info.Addr).Unmap()
	}
}

// askLocal has the kernel say which address of this host a datagram came to. An IPv6 socket reports that of an IPv4 datagram
// in the IPv6 form.
func askLocal(fd int32, v6 bool) bool {
	if v6 {
		return tryOption(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return tryOption(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// preparePackets asks for what comes with a datagram and for room. What a system refuses it does without.
func preparePackets(fd int32, v6 bool, room int) {
	setOption(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1) // an IPv6 socket gets datagrams of IPv4, too
	if v6 {
		setOption(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
	}
	setOption(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
	for _, o := range [2][2]int{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if !tryOption(fd, unix.SOL_SOCKET, o[0], room) {
			setOption(fd, unix.SOL_SOCKET, o[1], room)
		}
	}
}

// tryOption sets an option and reports whether the system took it.
func tryOption(fd int32, level, name, value int) bool {
	return unix.SetsockoptInt(int(fd), level, name, value) == nil
}

// canSegment reports whether the kernel knows UDP_SEGMENT (Linux 4.18). An older one would send the message as it is.
var canSegment = sync.OnceValue(func() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT, 1000) == nil
})

// domain is the address family of a socket.
func domain(fd int32) int {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	_, _, _ = syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_DOMAIN,
		uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	return int(v)
}
