package relay

import (
	"net"
	"net/netip"
)

// A packetConn is a listening UDP socket that knows which of this host's addresses a datagram came to, and answers from
// that one.
type packetConn interface {
	// readFrom reads one datagram. local is not valid where it cannot be known.
	readFrom(buf []byte) (n int, peer netip.AddrPort, local netip.Addr, err error)
	// answerFrom prepares what writeTo needs to send from local.
	answerFrom(local netip.Addr) []byte
	writeTo(data []byte, peer netip.AddrPort, from []byte) error
	Close() error
}

// newPacketConn picks what fits c, which listens at addr (zero for a wildcard).
func newPacketConn(c net.PacketConn, addr netip.Addr) packetConn {
	udp, ok := c.(*net.UDPConn)
	switch {
	case !ok:
		return &foreignConn{PacketConn: c}
	case addr.IsValid() && !addr.IsUnspecified():
		return &exactConn{UDPConn: udp, local: addr}
	}
	return newWildcardConn(udp)
}

// exactConn listens at one address: nothing else can be the local one, and answers leave from it by themselves.
type exactConn struct {
	*net.UDPConn
	local netip.Addr
}

func (c *exactConn) readFrom(buf []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, peer, err := c.ReadFromUDPAddrPort(buf)
	return n, peer, c.local, err
}

func (c *exactConn) answerFrom(netip.Addr) []byte { return nil }

func (c *exactConn) writeTo(data []byte, peer netip.AddrPort, _ []byte) error {
	_, err := c.WriteToUDPAddrPort(data, peer)
	return err
}

// foreignConn listens at another kind of node, whose addresses are its own affair.
type foreignConn struct{ net.PacketConn }

func (c *foreignConn) readFrom(buf []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := c.ReadFrom(buf)
	if err != nil {
		return 0, netip.AddrPort{}, netip.Addr{}, err
	}
	if u, ok := from.(*net.UDPAddr); ok {
		return n, u.AddrPort(), netip.Addr{}, nil
	}
	peer, _ := netip.ParseAddrPort(from.String())
	return n, peer, netip.Addr{}, nil
}

func (c *foreignConn) answerFrom(netip.Addr) []byte { return nil }

func (c *foreignConn) writeTo(data []byte, peer netip.AddrPort, _ []byte) error {
	_, err := c.WriteTo(data, net.UDPAddrFromAddrPort(peer))
	return err
}
