package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head"
)

// Listen opens a port beside the address that the client called.
func (e *errand) Listen(ctx context.Context, host string, port uint16) (net.Listener, error) {
	e.Settled()
	if e.f.DialsFrom() != forward.Host || e.f.ListensAt() != forward.Host || !e.s.local.IsValid() {
		return nil, fmt.Errorf("%w: only this host listens for a peer", head.ErrUnfit)
	}
	addr, err := netip.ParseAddr(host)
	anybody := err == nil && addr.IsUnspecified()
	if !anybody {
		if _, err := e.targets(ctx, host, port); err != nil {
			return nil, err
		}
	}
	n, err := e.relay.nodes(forward.Host)
	if err != nil {
		return nil, err
	}
	l, err := n.Listen(ctx, "tcp", netip.AddrPortFrom(e.s.local, 0).String())
	if err != nil {
		return nil, err
	}
	e.note(host, true)
	if anybody {
		l = &judgedListener{l, e, port}
	}
	return l, nil
}

// A judgedListener is for a client that waits for anybody: those call whom he might call at the port that he named.
type judgedListener struct {
	net.Listener
	errand *errand
	port   uint16
}

func (l *judgedListener) Accept() (net.Conn, error) {
	for {
		peer, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.errand.judge("", addrPort(peer.RemoteAddr()).Addr(), l.port) == nil {
			return peer, nil
		}
		reset(peer)
	}
}
