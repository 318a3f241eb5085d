package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
)

// A hubNode is the hub of this host, or another agent of it, as a node of this host's forwards: whichever hub that is at the moment.
type hubNode struct {
	of    *agentDaemon
	name  string // as forwards call it
	agent string // of the hub; "": the hub itself
}

var (
	_ node.Remote           = (*hubNode)(nil)
	_ node.PacketNode       = (*hubNode)(nil)
	_ node.Introducer       = (*hubNode)(nil)
	_ node.PacketIntroducer = (*hubNode)(nil)
	_ node.Namer            = (*hubNode)(nil)
)

// Run has nothing to do: the connection is the agent's, with which all its nodes are reached.
func (n *hubNode) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (n *hubNode) State() node.State { return n.of.state() }

// there is the hub, if this host has one.
func (n *hubNode) there() (*agent.Hub, error) {
	hub := n.of.hub()
	if hub == nil {
		return nil, fmt.Errorf("node %s: %w: this host is no agent now", n.name, node.ErrAway)
	}
	return hub, nil
}

// A dialler dials for clients, streams and datagrams.
type dialler interface {
	node.Introducer
	node.PacketIntroducer
}

// far is who dials.
func (n *hubNode) far() (dialler, error) {
	hub, err := n.there()
	if err != nil {
		return nil, err
	}
	if n.agent == "" {
		return hub, nil
	}
	far, ok := hub.Agent(n.agent).(dialler)
	if !ok {
		return nil, fmt.Errorf("node %s: %w: agents are not dialled", n.name, node.ErrUnfit)
	}
	return far, nil
}

// Listen has the hub listen, whenever it is there.
func (n *hubNode) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	hub, err := n.mayListen()
	if err != nil {
		return nil, err
	}
	ln, err := hub.Listen(ctx, network, addr)
	return n.tell(ln, err)
}

// ListenNamed has the hub listen for those who call a name, whenever it is there.
func (n *hubNode) ListenNamed(ctx context.Context, door forward.Door) (net.Listener, error) {
	hub, err := n.mayListen()
	if err != nil {
		return nil, err
	}
	ln, err := hub.ListenNamed(ctx, door)
	return n.tell(ln, err)
}

// tell tells whoever wants to know of a listener.
func (n *hubNode) tell(ln net.Listener, err error) (net.Listener, error) {
	if r, ok := ln.(refusing); ok && err == nil && n.of.listens != nil {
		n.of.listens(streamListener{ln, r})
	}
	return ln, err
}

// ListenPacket has the hub listen for datagrams, whenever it is there.
func (n *hubNode) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	hub, err := n.mayListen()
	if err != nil {
		return nil, err
	}
	conn, err := hub.ListenPacket(ctx, network, addr)
	if r, ok := conn.(refusing); ok && err == nil && n.of.listens != nil {
		n.of.listens(packetListener{conn, r})
	}
	return conn, err
}

func (n *hubNode) mayListen() (*agent.Hub, error) {
	if n.agent != "" {
		return nil, fmt.Errorf("node %s: %w: an agent listens for its own forwards alone", n.name, node.ErrUnfit)
	}
	return n.there()
}

func (n *hubNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.DialFor(ctx, netip.AddrPort{}, network, addr)
}

func (n *hubNode) DialPacket(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.DialPacketFor(ctx, netip.AddrPort{}, network, addr)
}

// DialFor has the hub, or by way of it the other agent, connect to an address.
func (n *hubNode) DialFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	far, err := n.far()
	if err != nil {
		return nil, err
	}
	return far.DialFor(ctx, client, network, addr)
}

// DialPacketFor is DialFor for datagrams.
func (n *hubNode) DialPacketFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	far, err := n.far()
	if err != nil {
		return nil, err
	}
	return far.DialPacketFor(ctx, client, network, addr)
}
