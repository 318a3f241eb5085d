package sshd

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/internal/sshwire"
	"github.com/fairlead-net/fairlead/node"
)

var (
	_ node.Leader = (*clientNode)(nil)
	_ node.Bearer = (*wireConn)(nil)
)

// limitsOf are the limits of a socket by direction.
func limitsOf(o *node.BearOptions) (limits [2]sshwire.Limit) {
	if o.From != nil {
		limits[sshwire.FromSocket] = o.From
	}
	if o.To != nil {
		limits[sshwire.ToSocket] = o.To
	}
	return limits
}

// borne is what is carried, as the owner of the socket sees it; without a Carried nothing was.
type borne struct{ *sshwire.Carried }

func (b borne) Moved() (from, to uint64) {
	if b.Carried == nil {
		return 0, 0
	}
	return b.Carried.Moved(sshwire.FromSocket), b.Carried.Moved(sshwire.ToSocket)
}

func (b borne) Kill() {
	if b.Carried != nil {
		b.Carried.Kill()
	}
}

// Bear has the loop carry the socket.
func (c *wireConn) Bear(fd int, o node.BearOptions) (node.Borne, bool) {
	return borne{c.Carry(fd, sshwire.CarryOptions{
		Limits: limitsOf(&o), Idle: o.Idle,
		Opened: func(ca *sshwire.Carried) { c.flow.begin(ca) },
		Ended:  func(ca *sshwire.Carried) { o.Ended(borne{ca}) },
	})}, true
}

// Lead has the loop open a channel for the socket and carry it, where that needs no waiting. What goes wrong before is left to
// DialFor to find out and to say.
func (n *clientNode) Lead(fd int, client netip.AddrPort, network, addr string, o node.LeadOptions) (node.Borne, bool) {
	p, ok := n.client.peer.(*wirePeer)
	if !ok || !n.placing.TryRLock() {
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
	l := &led{node: n, fd: fd, o: o, flow: n.client.newFlow(kind, at.bound.String())}
	if o.Timeout > 0 {
		l.timer = time.AfterFunc(o.Timeout, l.late)
	}
	ca := p.OpenChannelCarry(kind, payload, fd, sshwire.CarryOptions{
		Limits: limitsOf(&o.BearOptions), Idle: o.Idle, Opened: l.opened, Failed: l.failed, Ended: l.ended,
	})
	l.carried.Store(ca)
	if l.said.Load() == saidLate {
		ca.Kill()
	}
	return borne{ca}, true
}

// A led is a socket that a channel is opened for.
type led struct {
	node    *clientNode
	fd      int
	o       node.LeadOptions
	flow    *flow
	timer   *time.Timer
	carried atomic.Pointer[sshwire.Carried]
	said    atomic.Int32
}

// What was said of a led: one of Connected and Failed, and the latter by whom.
const (
	saidNothing = iota
	saidConnected
	saidFailed
	saidLate
)

func (l *led) opened(ca *sshwire.Carried) {
	if l.said.CompareAndSwap(saidNothing, saidConnected) {
		l.flow.begin(ca)
		l.o.Connected()
	}
}

// late is called when the client has not answered for too long.
func (l *led) late() {
	if !l.said.CompareAndSwap(saidNothing, saidLate) {
		return
	}
	l.o.Failed(l.node.silent(context.DeadlineExceeded))
	if ca := l.carried.Load(); ca != nil {
		ca.Kill()
	}
}

// failed is called when the client did not open the channel. The socket is ours again.
func (l *led) failed(err error) (none int) {
	resetSocket(l.fd)
	if l.said.CompareAndSwap(saidNothing, saidFailed) {
		l.o.Failed(l.node.failed(plainRefusal(err)))
	}
	l.ended(nil)
	return -1
}

func (l *led) ended(ca *sshwire.Carried) {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.flow.finish()
	l.node.client.release()
	l.o.Ended(borne{ca})
}
