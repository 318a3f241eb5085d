package igd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/portmap/ssdp"
)

// bound has a socket of TCP take nothing but what comes in by an interface. The address may still be tentative.
func bound(name string) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			if err := unix.BindToDevice(fd, name); err != nil {
				return fmt.Errorf("bind to interface %s: %w", name, err)
			}
			if network == "tcp6" || network == "udp6" {
				return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
			}
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
		})
	}
}

// joined has a socket for SSDP on an interface: other programs may have theirs, and the groups are joined.
func joined(on net.Interface) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			if err := unix.BindToDevice(fd, on.Name); err != nil {
				return fmt.Errorf("bind to interface %s: %w", on.Name, err)
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return err
			}
			if network == "udp6" {
				return joined6(fd, on.Index)
			}
			return joined4(fd, on.Index)
		})
	}
}

// hops is how far datagrams go: the default of UDA 1.1, section 1.
const hops = 2

func joined4(fd, index int) error {
	group := &unix.IPMreqn{Multiaddr: netip.MustParseAddr(ssdp.Group4).As4(), Ifindex: int32(index)}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, hops),
		unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)}),
		unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, group),
	)
}

func joined6(fd, index int) error {
	errs := []error{
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hops),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index),
	}
	for _, group := range []string{ssdp.Group6Link, ssdp.Group6Site} {
		errs = append(errs, unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
			&unix.IPv6Mreq{Multiaddr: netip.MustParseAddr(group).As16(), Interface: uint32(index)}))
	}
	return errors.Join(errs...)
}

func control(c syscall.RawConn, fn func(fd int) error) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// openSSDP opens the socket for one family on an interface.
func openSSDP(ctx context.Context, on net.Interface, family int) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: joined(on)}
	network, addr := "udp4", "0.0.0.0"
	if family == 6 {
		network, addr = "udp6", "[::]"
	}
	pc, err := lc.ListenPacket(ctx, network, fmt.Sprintf("%s:%d", addr, ssdp.Port))
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// oobSize is room for what the kernel says of one datagram.
const oobSize = 128

// arrived reads from what the kernel says of a datagram where it was sent to, and by which interface it came in.
func arrived(oob []byte) (to netip.Addr, index int, ok bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, 0, false
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[8:12])), int(binary.NativeEndian.Uint32(m.Data)), true
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[:16])), int(binary.NativeEndian.Uint32(m.Data[16:])), true
		}
	}
	return netip.Addr{}, 0, false
}

// from is what tells the kernel by which interface a datagram leaves, and with which address.
func from(own netip.Addr, index int) []byte {
	if own.Is4() {
		return unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: own.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(index), Addr: own.As16()})
}

// isGone reports whether an error means that the interface of a socket is no more.
func isGone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENETDOWN) }
