//go:build !linux

package grant

import (
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
)

// takeAndLeave listens at a port for a moment.
func takeAndLeave(network forward.Networks, at netip.AddrPort) error {
	if network == forward.UDP {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		return c.Close()
	}
	c, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return c.Close()
}
