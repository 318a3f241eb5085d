package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/fairlead-net/fairlead/relay/head"
)

// maxKnown bounds the targets and the names that one UDP association remembers.
const maxKnown = 4096

// A packetErrand is a socket from which one client's datagrams leave for many targets.
type packetErrand struct {
	errand *errand
	conn   net.PacketConn

	mu    sync.Mutex
	known map[netip.AddrPort]bool // targets that were sent to: others are not heard
	names map[string]netip.Addr   // what names led to, for as long as the association lives
}

// Send looks a name up once, so that all datagrams to it reach one host.
func (p *packetErrand) Send(ctx context.Context, payload []byte, host string, port uint16) error {
	to, err := p.target(ctx, host, port)
	if err != nil {
		return err
	}
	if !p.errand.s.upload.allow(len(payload)) {
		return nil // as a full link would
	}
	_, err = p.conn.WriteTo(payload, net.UDPAddrFromAddrPort(to))
	return err
}

func (p *packetErrand) target(ctx context.Context, host string, port uint16) (netip.AddrPort, error) {
	addr, err := netip.ParseAddr(host)
	named := err != nil
	p.mu.Lock()
	if named {
		addr = p.names[host]
	}
	to := netip.AddrPortFrom(addr.Unmap(), port)
	known := p.known[to]
	p.mu.Unlock()
	if known {
		return to, nil
	}
	list, err := p.errand.targets(ctx, host, port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if to, err = netip.ParseAddrPort(list[0]); err != nil {
		return netip.AddrPort{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown || len(p.names) >= maxKnown {
		clear(p.known)
		clear(p.names)
	}
	p.known[to] = true
	if named {
		p.names[host] = to.Addr()
	}
	p.errand.note(to.String(), true)
	return to, nil
}

// Receive drops what comes from anybody who was not sent to.
func (p *packetErrand) Receive(buffer []byte) (int, net.Addr, error) {
	for {
		n, from, err := p.conn.ReadFrom(buffer)
		if err != nil {
			return 0, nil, err
		}
		addr := head.AddrPort(from)
		p.mu.Lock()
		known := p.known[addr]
		p.mu.Unlock()
		if known && p.errand.s.download.allow(n) {
			return n, net.UDPAddrFromAddrPort(addr), nil
		}
	}
}

func (p *packetErrand) Close() error { return p.conn.Close() }

var _ head.PacketTarget = (*packetErrand)(nil)
