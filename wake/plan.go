package wake

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// ports are where magic packets are sent by convention: discard and echo (RFC 863 and 862). Nobody needs to listen; some
// routers pass only one of them on.
var ports = [...]uint16{9, 7}

var (
	limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})           // RFC 919, section 7
	allNodes         = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x01}) // ff02::1, RFC 4291, section 2.7.1
	broadcastMAC     = forward.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// A source is one socket to send from, and where to.
type source struct {
	link *link      // to be bound to; nil: the routes of this host choose
	from netip.Addr // the socket's own address
	to   []netip.Addr
}

// plan says from where the packet goes where, besides bare frames.
func plan(chosen []link, t Target) []source {
	var list []source
	for i := range chosen {
		list = append(list, chosen[i].sources()...)
	}
	for _, addr := range t.Addrs {
		s := unicast(addr.Unmap())
		if t.Interface != "" { // then it is the only one chosen
			s.link = &chosen[0]
		}
		list = append(list, s)
	}
	return list
}

// unicast is the way to the address that the host had when it was last seen. It reaches a host behind routers that keep its
// MAC address, and cards that wake for their own address only.
func unicast(addr netip.Addr) source {
	if addr.Is6() {
		return source{from: netip.IPv6Unspecified(), to: []netip.Addr{addr}}
	}
	return source{from: netip.IPv4Unspecified(), to: []netip.Addr{addr}}
}

// sources are the ways to everybody on a link. A host with several addresses on it sends from each: the source address is
// what tells most systems which interface a limited broadcast leaves by, and what firewalls of the network look at.
func (l *link) sources() []source {
	var list []source
	linkLocal := false
	for _, p := range l.prefixes {
		if p.Addr().Is4() {
			s := source{link: l, from: p.Addr(), to: []netip.Addr{limitedBroadcast}}
			if directed, ok := directedBroadcast(p); ok {
				s.to = append(s.to, directed)
			}
			list = append(list, s)
		}
		linkLocal = linkLocal || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
	}
	if linkLocal {
		list = append(list, source{link: l, from: netip.IPv6Unspecified(), to: []netip.Addr{allNodes.WithZone(l.zone())}})
	}
	return list
}

// sendTime is how long one socket may take. A datagram is sent at once, or its interface is stuck.
const sendTime = time.Second

// send sends the packet to every address of s at every port.
func (s source) send(ctx context.Context, packet []byte) []Copy {
	conn, err := s.open(ctx)
	if err == nil {
		defer conn.Close()
	}
	var copies []Copy
	for _, to := range s.to {
		for _, port := range ports {
			c := Copy{To: netip.AddrPortFrom(to.WithZone(""), port).String(), Err: err}
			if s.link != nil {
				c.Interface = s.link.name
			}
			if err == nil {
				_, err := conn.WriteToUDPAddrPort(packet, netip.AddrPortFrom(to, port))
				c.Err = reason(err)
			}
			copies = append(copies, c)
		}
	}
	return copies
}

// open makes the socket. Package net sets SO_BROADCAST on every IPv4 datagram socket.
func (s source) open(ctx context.Context) (*net.UDPConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	network := "udp4"
	if s.from.Is6() {
		network = "udp6"
	}
	lc := net.ListenConfig{}
	if s.link != nil {
		lc.Control = bindTo(s.link.name)
	}
	conn, err := lc.ListenPacket(ctx, network, netip.AddrPortFrom(s.from, 0).String())
	if err != nil {
		return nil, reason(err)
	}
	deadline := time.Now().Add(sendTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetWriteDeadline(deadline); err != nil {
		conn.Close()
		return nil, reason(err)
	}
	return conn.(*net.UDPConn), nil
}
