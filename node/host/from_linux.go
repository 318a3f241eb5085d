package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

var _ node.SourceNode = (*Node)(nil)

// DialFrom opens a *net.TCPConn or *net.UDPConn that comes from an address which need not be one of this machine.
func (n *Node) DialFrom(ctx context.Context, from netip.AddrPort, network, addr string) (net.Conn, error) {
	conn, err := dialFrom(ctx, from, network, addr)
	if anyPort(&from, err) {
		conn, err = dialFrom(ctx, from, network, addr)
	}
	return conn, err
}

func dialFrom(ctx context.Context, from netip.AddrPort, network, addr string) (net.Conn, error) {
	d, kind := dialer(), unix.SOCK_STREAM
	d.LocalAddr = net.TCPAddrFromAddrPort(from)
	if strings.HasPrefix(network, "udp") {
		d.LocalAddr, kind = net.UDPAddrFromAddrPort(from), unix.SOCK_DGRAM
	}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return makeTransparent(fd, from, kind) })
	}
	conn, err := d.DialContext(ctx, network, addr)
	var wrong *net.AddrError
	if errors.As(err, &wrong) { // package net found no address of the family of from
		err = otherFamily(from.Addr())
	}
	return conn, err
}

// bindFrom gives a socket the address that it comes from. A link-local one has no meaning but on its own link, so the zone
// of from goes with it.
func bindFrom(fd int, from netip.AddrPort, to netip.Addr, kind int) error {
	addr := from.Addr().Unmap()
	if addr.Is4() != to.Unmap().Is4() {
		return otherFamily(addr)
	}
	if err := makeTransparent(fd, from, kind); err != nil {
		return err
	}
	if addr.Is4() {
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(from.Port()), Addr: addr.As4()})
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Port: int(from.Port()), Addr: addr.As16(), ZoneId: zoneIndex(addr.Zone())})
}

// makeTransparent lets a socket of a kind (SOCK_STREAM, SOCK_DGRAM) bind to an address that is not this machine's
// (ip(7), IP_TRANSPARENT).
//
// Streams share a port with others that lead elsewhere, as all connections of one client do (SO_REUSEADDR; such a socket is
// in no listener's way, either), and one without a port gets it when it connects, free for that target
// (IP_BIND_ADDRESS_NO_PORT). Datagrams would go to the wrong one of two such sockets, so they do not share.
func makeTransparent(fd int, from netip.AddrPort, kind int) error {
	level, option := unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if from.Addr().Unmap().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	err := unix.SetsockoptInt(fd, level, option, 1)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("coming from the client's address needs CAP_NET_ADMIN: %w", err)
	case err != nil || kind != unix.SOCK_STREAM:
		return err
	}
	if from.Port() == 0 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) // refused: a port that is free for every target
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
}

// anyPort reports whether err is about the port of from alone, and takes that out of from then: it is in use, towards this
// target perhaps, or a low one and closed to this user.
func anyPort(from *netip.AddrPort, err error) bool {
	if from.Port() == 0 || !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EACCES) {
		return false
	}
	*from = netip.AddrPortFrom(from.Addr(), 0)
	return true
}

func otherFamily(from netip.Addr) error {
	if from.Unmap().Is4() {
		return errors.New("the client's address is IPv4, which cannot be kept towards IPv6")
	}
	return errors.New("the client's address is IPv6, which cannot be kept towards IPv4")
}
