package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/node"
)

// node is an agent that forwards of this host name. One that nobody is yet may be enrolled at any time.
func (h *hubDaemon) node(name string, err error) (node.Node, error) {
	h.mu.Lock()
	is := h.want != nil
	h.mu.Unlock()
	switch {
	case !is || config.CheckAgentName(name) != nil:
		return nil, err
	case !h.hasBegun():
		return &awaited{h, name}, nil
	}
	return absent{name}, nil
}

// hasBegun reports whether the agents are known that are enrolled.
func (h *hubDaemon) hasBegun() bool {
	select {
	case <-h.thawed:
		return true
	default:
		return false
	}
}

// absent is an agent that has never been enrolled.
type absent struct{ name string }

func (a absent) State() node.State {
	return node.State{Why: fmt.Sprintf("no agent of this name is enrolled; `fairlead agents token --name %s` prints the command that enrols it", a.name)}
}

func (a absent) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, fmt.Errorf("agent %s: %w", a.name, node.ErrAway)
}

// Dial does not wait: the next client finds the agent, if somebody is enrolled by then.
func (a absent) Dial(context.Context, string, string) (net.Conn, error) {
	return nil, fmt.Errorf("agent %s: %w: %s", a.name, node.ErrAway, a.State().Why)
}

// An awaited agent is one of a hub that has only just begun to run. Who wants to dial it waits until that is known.
type awaited struct {
	of   *hubDaemon
	name string
}

var (
	_ node.Introducer       = (*awaited)(nil)
	_ node.PacketIntroducer = (*awaited)(nil)
	_ node.PacketNode       = (*awaited)(nil)
)

func (a *awaited) State() node.State { return node.State{Why: "the hub has only just begun"} }

func (a *awaited) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return absent{a.name}.Listen(ctx, network, addr)
}

// ListenPacket is nothing that an agent does for its hub, as Listen is not.
func (a *awaited) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, fmt.Errorf("agent %s: %w", a.name, node.ErrAway)
}

// there is the agent, or the one that nobody is.
func (a *awaited) there(ctx context.Context) (node.Node, error) {
	select {
	case <-a.of.thawed:
	case <-ctx.Done():
		return nil, fmt.Errorf("agent %s: %w: %w", a.name, node.ErrAway, ctx.Err())
	}
	n, err := a.of.nodes.Node(a.name)
	if err != nil {
		return absent{a.name}, nil
	}
	return n, nil
}

func (a *awaited) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return a.DialFor(ctx, netip.AddrPort{}, network, addr)
}

// DialFor is Dial, and tells for whom.
func (a *awaited) DialFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	n, err := a.there(ctx)
	if err != nil {
		return nil, err
	}
	if i, ok := n.(node.Introducer); ok {
		return i.DialFor(ctx, client, network, addr)
	}
	return n.Dial(ctx, network, addr)
}

func (a *awaited) DialPacket(ctx context.Context, network, addr string) (net.Conn, error) {
	return a.DialPacketFor(ctx, netip.AddrPort{}, network, addr)
}

// DialPacketFor is DialPacket, and tells for whom.
func (a *awaited) DialPacketFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	n, err := a.there(ctx)
	if err != nil {
		return nil, err
	}
	if i, ok := n.(node.PacketIntroducer); ok {
		return i.DialPacketFor(ctx, client, network, addr)
	}
	return nil, fmt.Errorf("agent %s: %w", a.name, node.ErrAway)
}
