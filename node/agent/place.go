package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A place is listened at here on behalf of the other end. It is the node that those dial from who come there: it outlives the session
// in which it was asked for, and leads to the next one's listener once that has asked for it again.
type place struct {
	far    *Far
	picked bool

	// Guarded by desk.mu.
	asked, bound forward.Door
	name         string // of the forward; "": it is being opened
	id           uint64 // of the listener, as session in has it
	in           *session
}

var (
	_ node.Node             = (*place)(nil)
	_ node.PacketNode       = (*place)(nil)
	_ node.Introducer       = (*place)(nil)
	_ node.PacketIntroducer = (*place)(nil)
	_ node.Stated           = (*place)(nil)
	_ node.Doorway          = (*place)(nil)
)

// OneDoor is that of node.Doorway.
func (*place) OneDoor() {}

// Listen is nothing that a listener's other end can do.
func (p *place) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, fmt.Errorf("%s: %w: it is there to be dialled", p.far.name(), node.ErrUnfit)
}

// ListenPacket is neither.
func (p *place) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, fmt.Errorf("%s: %w: it is there to be dialled", p.far.name(), node.ErrUnfit)
}

// Dial goes to the one that asked to have somebody listen here, whatever the address is.
func (p *place) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.DialFor(ctx, netip.AddrPort{}, network, addr)
}

// DialPacket is Dial for datagrams.
func (p *place) DialPacket(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.DialFor(ctx, netip.AddrPort{}, network, addr)
}

// DialPacketFor is DialFor for datagrams.
func (p *place) DialPacketFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	return p.DialFor(ctx, client, network, addr)
}

// DialFor is Dial, and tells for whom.
func (p *place) DialFor(ctx context.Context, client netip.AddrPort, network, _ string) (net.Conn, error) {
	bound := p.at()
	if isFlow(network) != (bound.Networks == forward.UDP) {
		return nil, fmt.Errorf("%s: %w: the network %q", p.far.name(), node.ErrUnfit, network)
	}
	if err := p.far.o.Landlord.Permit(bound); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", p.far.name(), node.ErrRefused, err)
	}
	c := tunnel.Call{Kind: tunnel.Arrived, Network: network, Client: client, Local: calledAt(bound, client.Addr())}
	return p.far.open(ctx, c, p.listener)
}

// calledAt is where client called. A listener at every address is given in the client's family: a PROXY header has one for both.
func calledAt(bound forward.Door, client netip.Addr) netip.AddrPort {
	addr := shown(bound.Addr)
	if !bound.Addr.IsValid() && client.Unmap().Is4() {
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, firstPort(bound))
}

// at is where p is.
func (p *place) at() forward.Door {
	p.far.desk.mu.Lock()
	defer p.far.desk.mu.Unlock()
	return p.bound
}

// listener is what the other end calls p in a session; 0: it has not asked for it yet, and changed will be closed. False: it does not
// want it any more.
func (p *place) listener(s *session) (id uint64, changed <-chan struct{}, ok bool) {
	d := &p.far.desk
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !slices.Contains(d.places, p):
		return 0, nil, false
	case p.in == s:
		return p.id, nil, true
	}
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return 0, d.changed, true
}

// State says whether the other end is there.
func (p *place) State() node.State {
	state := p.far.State()
	if s := p.far.current(); state.Up && s != nil {
		if id, _, ok := p.listener(s); ok && id == 0 {
			return node.State{Why: p.far.name() + " has not asked for it again yet", Since: state.Since}
		}
	}
	return state
}
