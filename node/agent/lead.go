package agent

import (
	"fmt"
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

var (
	_ node.Leader = (*Far)(nil)
	_ node.Leader = (*place)(nil)
)

// Lead has the session of the moment carry a client from accept to end. Without a link, and for whatever else takes waiting or goes wrong,
// DialFor is there.
func (f *Far) Lead(fd int, client netip.AddrPort, network, addr string, o node.LeadOptions) (node.Borne, bool) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, false
	}
	return f.lead(fd, f.current(), tunnel.Call{Kind: tunnel.Dial, Network: network, Address: addr, Client: client}, o)
}

// Lead is DialFor that does not wait.
func (p *place) Lead(fd int, client netip.AddrPort, network, _ string, o node.LeadOptions) (node.Borne, bool) {
	s := p.far.current()
	if s == nil || isFlow(network) {
		return nil, false
	}
	bound := p.at()
	id, _, ok := p.listener(s)
	if !ok || id == 0 || bound.Networks == forward.UDP || p.far.o.Landlord.Permit(bound) != nil {
		return nil, false
	}
	c := tunnel.Call{Kind: tunnel.Arrived, Network: network, Client: client, Local: calledAt(bound, client.Addr()), Listener: id}
	return p.far.lead(fd, s, c, o)
}

func (f *Far) lead(fd int, s *session, c tunnel.Call, o node.LeadOptions) (node.Borne, bool) {
	if s == nil || !s.State().Up {
		return nil, false
	}
	pass, err := f.enter(c)
	if err != nil {
		return nil, false
	}
	failed, left := o.Failed, o.Left
	o.Failed = func(err error) { failed(fmt.Errorf("%s: %w", f.name(), err)) }
	if left != nil {
		o.Left = func() {
			pass.leave()
			left()
		}
	}
	o.BearOptions = pass.over(o.BearOptions)
	b, ok := s.Lead(fd, c, o)
	if !ok {
		pass.leave()
	}
	return b, ok
}

// over is o held to the pass, too, which is left at the end.
func (p Pass) over(o node.BearOptions) node.BearOptions {
	o.From, o.To = both(o.From, p.Out), both(o.To, p.In)
	if p.Leave != nil {
		ended := o.Ended
		o.Ended = func(b node.Borne) {
			p.Leave()
			ended(b)
		}
	}
	return o
}
