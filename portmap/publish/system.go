package publish

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// System is the network that this host is in.
type System struct{}

// Routes is the default routes of both families, as the system uses them.
func (System) Routes() ([]Route, error) {
	routes, err := systemRoutes()
	return order(routes), err
}

// Addresses is the addresses of the interfaces that are up.
func (System) Addresses() ([]Address, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	temporary := temporaryAddresses()
	var list []Address
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone since
		}
		for _, a := range addrs {
			ipnet, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			addr, ok := netip.AddrFromSlice(ipnet.IP)
			if !ok {
				continue
			}
			addr = addr.Unmap()
			bits, size := ipnet.Mask.Size()
			if addr.Is4() && size == 128 {
				bits -= 96
			}
			list = append(list, Address{Interface: i.Name, Prefix: netip.PrefixFrom(addr, bits), Temporary: temporary[addr]})
		}
	}
	return list, nil
}

// Dial connects.
func (System) Dial(ctx context.Context, network string, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	switch local := netip.AddrPortFrom(from, 0); {
	case !from.IsValid():
	case network == "tcp":
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	default:
		d.LocalAddr = net.UDPAddrFromAddrPort(local)
	}
	return d.DialContext(ctx, network, to.String())
}

// askEvery is the time between two sendings of a question, which doubles.
const askEvery = 300 * time.Millisecond

// Ask asks.
func (System) Ask(ctx context.Context, from Address, questions []Datagram, hear func(Heard) bool) error {
	local := from.Addr()
	if local.Is6() && local.IsLinkLocalUnicast() {
		local = local.WithZone(from.Interface)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return err
	}
	multicastBy(conn, from)
	var sending sync.WaitGroup
	done := make(chan struct{})
	sending.Go(func() {
		for wait := askEvery; ; wait *= 2 {
			for _, q := range questions {
				// One that cannot be sent has no answer, and nothing else follows from it.
				_, _ = conn.WriteToUDPAddrPort(q.Payload, q.To)
			}
			select {
			case <-time.After(wait):
			case <-done:
				return
			}
		}
	})
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		close(done)
		conn.Close()
		sending.Wait()
	}()
	buf := make([]byte, maxDatagram)
	for ctx.Err() == nil {
		n, who, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			continue // somebody's port is closed
		}
		if !hear(Heard{From: who.Addr().Unmap(), Payload: append([]byte(nil), buf[:n]...)}) {
			return nil
		}
	}
	return nil
}

// Listen listens to a group. Several programs of a host can.
func (System) Listen(ctx context.Context, iface string, group netip.AddrPort, hear func(Heard)) error {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	network := "udp4"
	if group.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenMulticastUDP(network, ifi, net.UDPAddrFromAddrPort(group))
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	buf := make([]byte, maxDatagram)
	for {
		n, who, err := conn.ReadFromUDPAddrPort(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		hear(Heard{From: who.Addr().Unmap(), Payload: append([]byte(nil), buf[:n]...)})
	}
}
