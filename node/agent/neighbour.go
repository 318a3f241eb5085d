package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A neighbour is another agent of the same hub.
type neighbour struct {
	hub  *Hub
	name string
}

var (
	_ node.PacketNode       = (*neighbour)(nil)
	_ node.Introducer       = (*neighbour)(nil)
	_ node.PacketIntroducer = (*neighbour)(nil)
	_ node.Stated           = (*neighbour)(nil)
)

func (n *neighbour) State() node.State { return n.hub.State() }

func (n *neighbour) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, n.unfit()
}

func (n *neighbour) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, n.unfit()
}

func (n *neighbour) unfit() error {
	return fmt.Errorf("agent %s: %w: another agent does not listen for this one", n.name, node.ErrUnfit)
}

func (n *neighbour) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.DialFor(ctx, netip.AddrPort{}, network, addr)
}

func (n *neighbour) DialPacket(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.DialFor(ctx, netip.AddrPort{}, network, addr)
}

func (n *neighbour) DialPacketFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	return n.DialFor(ctx, client, network, addr)
}

func (n *neighbour) DialFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	return n.hub.Call(ctx, tunnel.Call{Kind: tunnel.Dial, Network: network, Address: addr, Client: client, Agent: n.name})
}
