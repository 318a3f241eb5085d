package relay

import (
	"errors"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wildcardConn listens at every address and asks the kernel for the one that each datagram came to (ip(7) IP_PKTINFO,
// ipv6(7) IPV6_RECVPKTINFO; an IPv6 socket reports IPv4 datagrams in the IPv6 form as well).
type wildcardConn struct {
	*net.UDPConn
	v6  bool
	oob [64]byte // of the one reader
}

func newWildcardConn(c *net.UDPConn) packetConn {
	w := &wildcardConn{UDPConn: c, v6: addrIs6(c.LocalAddr())}
	var err error
	onSocket(c, func(fd int) {
		if w.v6 {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	if err != nil {
		return &exactConn{UDPConn: c} // answers leave from the address that routing picks
	}
	return w
}

func addrIs6(a net.Addr) bool {
	u, ok := a.(*net.UDPAddr)
	return ok && u.IP.To4() == nil
}

func (c *wildcardConn) readFrom(buf []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, oobn, _, peer, err := c.ReadMsgUDPAddrPort(buf, c.oob[:])
	if err != nil {
		return 0, peer, netip.Addr{}, err
	}
	return n, peer, localOf(c.oob[:oobn]), nil
}

// localOf finds the local address among the control messages; not valid if it is not there.
func localOf(oob []byte) netip.Addr {
	for len(oob) >= unix.SizeofCmsghdr {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			return netip.AddrFrom4(info.Spec_dst) // a broadcast's Addr is nothing to answer from
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			return netip.AddrFrom16(info.Addr).Unmap()
		}
		oob = rest
	}
	return netip.Addr{}
}

func (c *wildcardConn) answerFrom(local netip.Addr) []byte {
	switch {
	case !local.IsValid():
		return nil
	case c.v6:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16()})
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
}

func (c *wildcardConn) writeTo(data []byte, peer netip.AddrPort, from []byte) error {
	_, _, err := c.WriteMsgUDPAddrPort(data, from, peer)
	if errors.Is(err, unix.EINVAL) && len(from) > 0 {
		// Not an address to send from (a broadcast, or one that has gone): better from another one than not at all.
		_, _, err = c.WriteMsgUDPAddrPort(data, nil, peer)
	}
	return err
}
