package publish

import (
	"fmt"
	"net/netip"
)

const hintSeen = "ask the provider for a public IPv4 address of your own, or switch the outer gateway to bridge mode; use IPv6, or let a server " +
	"outside listen: a forward with `at`, or `fairlead ssh -R`"

// Seen adds to a report what somebody outside has seen: what this host sends from local comes from public. Where a gateway says of
// itself something else, somebody behind it translates as well.
func (r *Report) Seen(local, public netip.Addr) {
	local, public = local.Unmap(), public.Unmap()
	if !local.Is4() || !public.Is4() || ReachOf(public) != Public {
		return // who sees a private address is not outside himself
	}
	if local == public {
		r.NAT = NATNone
		return
	}
	if r.NAT == NATNone && ReachOf(local) == Public {
		r.NAT = NATSingle
		r.add(&Problem{Kind: KindDoubleNAT, Hint: hintSeen,
			Text: fmt.Sprintf("this host has the address %s, and is %s to a server outside: somebody translates on the way", local, public)})
		return
	}
	last := r.outermost(local)
	if last == nil || last.External == public {
		return
	}
	p := &Problem{Kind: KindDoubleNAT, Gateway: last.Addr, Hint: hintSeen}
	switch ReachOf(last.External) {
	case Public:
		p.Text = fmt.Sprintf("the gateway %s says that it has the address %s, and this host is %s to a server outside: the provider or another gateway "+
			"translates again (CGNAT or double NAT), or the gateway has several addresses", last.Addr, last.External, public)
	case Private, Shared: // that is known already
		if r.Problem != nil && r.Problem.Gateway == last.Addr {
			seen := *r.Problem
			seen.Text += fmt.Sprintf("; to a server outside this host is %s", public)
			r.Problem = &seen
		}
		return
	default:
		p.Text = fmt.Sprintf("the gateway %s has the address %s, which cannot be reached from outside, and this host is %s to a server there: "+
			"somebody behind it translates again", last.Addr, last.External, public)
	}
	r.NAT = NATDouble
	r.add(p)
}

// outermost is the last gateway that says its address on the way of what is sent from local, or nil.
func (r *Report) outermost(local netip.Addr) (last *GatewayReport) {
	var by string
	for _, g := range r.Gateways { // the nearest are first
		if g.Default && g.Level == 0 && g.Local == local {
			by = g.Interface
			break
		}
	}
	for i := range r.Gateways {
		g := &r.Gateways[i]
		if g.Default && g.Addr.Is4() && g.Interface == by && g.External.IsValid() && (last == nil || g.Level > last.Level) {
			last = g
		}
	}
	return last
}

func (r *Report) add(p *Problem) { r.Problem = worse(r.Problem, p) }
