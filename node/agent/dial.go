package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// Dial has the other end connect to a TCP address. It resolves names.
func (f *Far) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return f.DialFor(ctx, netip.AddrPort{}, network, addr)
}

// DialFor is Dial, and tells the other end on whose behalf.
func (f *Far) DialFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	return f.Call(ctx, tunnel.Call{Kind: tunnel.Dial, Network: network, Address: addr, Client: client})
}

// DialPacket has the other end open a flow of datagrams.
func (f *Far) DialPacket(ctx context.Context, network, addr string) (net.Conn, error) {
	return f.DialFor(ctx, netip.AddrPort{}, network, addr)
}

// DialPacketFor is DialPacket, and tells the other end on whose behalf.
func (f *Far) DialPacketFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	return f.DialFor(ctx, client, network, addr)
}

// Call opens a stream or a flow, which waits for a session as long as ctx permits.
func (f *Far) Call(ctx context.Context, c tunnel.Call) (net.Conn, error) {
	switch c.Network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return nil, fmt.Errorf("%s: %w: the network %q", f.name(), node.ErrUnfit, c.Network)
	}
	return f.open(ctx, c, nil)
}

// open opens what call says, in the session that mine says and with the listener of it. Without mine any session will do.
func (f *Far) open(ctx context.Context, c tunnel.Call, mine func(*session) (listener uint64, changed <-chan struct{}, ok bool)) (net.Conn, error) {
	pass, err := f.enter(c)
	if err != nil {
		return nil, err
	}
	stream, err := f.openPassed(ctx, c, mine)
	if err != nil {
		pass.leave()
		return nil, err
	}
	return held(stream, pass, isFlow(c.Network)), nil
}

func (f *Far) openPassed(ctx context.Context, c tunnel.Call, mine func(*session) (uint64, <-chan struct{}, bool)) (*tunnel.Stream, error) {
	for {
		s, err := f.acquire(ctx)
		if err != nil {
			return nil, err
		}
		if mine != nil {
			id, changed, ok := mine(s)
			if !ok {
				return nil, fmt.Errorf("%s: %w: it does not want to listen there any more", f.name(), node.ErrRefused)
			}
			if id == 0 { // of an earlier session, and not asked for again yet
				select {
				case <-changed:
				case <-s.over:
				case <-ctx.Done():
					return nil, fmt.Errorf("%s: %w: %w", f.name(), node.ErrAway, ctx.Err())
				}
				continue
			}
			c.Listener = id
		}
		stream, err := s.Open(ctx, c)
		if err == nil {
			return stream, nil
		}
		if !errors.Is(err, node.ErrClosed) {
			return nil, fmt.Errorf("%s: %w", f.name(), err)
		}
		// A session that ended under the question has answered nothing: the next one is asked.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", f.name(), err)
		case <-s.over:
		}
	}
}

func (f *Far) enter(c tunnel.Call) (Pass, error) {
	if f.o.Gate == nil {
		return Pass{}, nil
	}
	return f.o.Gate.Enter(c)
}
