package grant

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// takeAndLeave listens at a port for a moment, as the package net does but for what nobody needs who does not read: each request for a
// port asks.
func takeAndLeave(network forward.Networks, at netip.AddrPort) error {
	addr := unix.SockaddrInet4{Port: int(at.Port())}
	switch ip := at.Addr().Unmap(); {
	case ip.Is4():
		addr.Addr = ip.As4()
	case ip.Is6():
		return unix.EADDRNOTAVAIL
	}
	kind := unix.SOCK_STREAM
	if network == forward.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if network == forward.TCP { // what ended connections still have of it is nobody's
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, &addr); err != nil || network == forward.UDP {
		return err
	}
	return unix.Listen(fd, 1)
}
