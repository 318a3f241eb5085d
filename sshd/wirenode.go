package sshd

import (
	"context"
	"errors"
	"net/netip"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/internal/sshwire"
	"github.com/fairlead-net/fairlead/node"
)

var _ node.Leader = (*clientNode)(nil)

// Lead has the loop open a channel for the socket and carry it, where that needs no waiting. What goes wrong before is left to
// DialFor to find out and to say.
func (n *clientNode) Lead(fd int, client netip.AddrPort, network, addr string, o node.LeadOptions) (node.Borne, bool) {
	p, ok := n.client.peer.(*wirePeer)
	if !ok || o.First != nil || !n.placing.TryRLock() {
		return nil, false
	}
	at, err := n.find(network, addr)
	n.placing.RUnlock()
	if err != nil {
		return nil, false
	}
	kind, payload, err := n.message(at, client)
	if err != nil || !n.client.hold() {
		return nil, false
	}
	f := n.client.newFlow(kind, at.bound.String())
	lead := &sshchan.Lead{
		Conn: p.Conn, FD: fd, Options: o,
		Ends: sshchan.FastEnds{
			Gone:    func() { f.finish(); n.client.release() },
			Carried: func(ca *sshwire.Carried) { f.begin(ca) },
		},
		Explain: func(err error) error {
			if errors.Is(err, context.DeadlineExceeded) {
				return n.silent(err)
			}
			return n.failed(err)
		},
	}
	return lead.Start(kind, payload), true
}
