package relay

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/relay/engine"
)

// takeOverPackets has the engine read the socket of l where that is one of this machine's kernel, and reports whether it
// does. The connection of package net is closed, because the runtime would be woken for every datagram, too.
func (r *Relay) takeOverPackets(ctx context.Context, l *listener) bool {
	p := l.packets
	conn, addr := udpConnOf(p.conn)
	if conn == nil {
		return false
	}
	e := r.loops.get()
	if e == nil {
		return false
	}
	fd, err := duplicate(conn)
	if err != nil {
		return false
	}
	_ = conn.Close()
	g := &packetGate{relay: r, listener: l, ctx: ctx, local: addr, engine: e}
	g.PacketListener = e.PacketListener(fd, !addr.IsValid())
	p.door = g
	g.Start(g)
	return true
}

// udpConnOf is the socket of c, if it is one of this machine's, and the only address that it listens at, if there is only one.
func udpConnOf(c packetConn) (*net.UDPConn, netip.Addr) {
	switch c := c.(type) {
	case *exactConn:
		return c.UDPConn, c.local
	case *wildcardConn:
		return c.UDPConn, netip.Addr{}
	}
	return nil, netip.Addr{}
}

// A packetGate finds the flows of the datagrams of a listener that the engine reads. It is called in one of the engine's
// loops, so it never waits: a flow whose target has to be looked up gets a goroutine for it.
type packetGate struct {
	*engine.PacketListener
	relay    *Relay
	listener *listener
	ctx      context.Context //nolint:containedctx // the listener's, for the values that its flows inherit
	engine   *engine.Engine
	local    netip.Addr // the only one; not valid: each datagram tells

	arrivals []arrival // scratch space
	burst    []*engine.Packet
}

// An arrival is a packet and the flow that it is for.
type arrival struct {
	fl *flow
	p  *engine.Packet
}

func (g *packetGate) Close() error { g.PacketListener.Close(); return nil }

func (g *packetGate) SyscallConn() (syscall.RawConn, error) { return rawSocket(g.FD()), nil }

// answer sends what another node's target has said.
func (g *packetGate) answer(fl *flow, data []byte) error {
	return g.Write(&engine.Packet{Data: data}, &fl.direct.down)
}

// ReceiveFailed decides what an error of the listening socket means.
func (g *packetGate) ReceiveFailed(err error) time.Duration {
	return g.relay.waitAfter(g.listener, err)
}

// Received sends each flow's packets on together.
func (g *packetGate) Received(loop *engine.Loop, packets []engine.Packet) {
	now := g.relay.now()
	g.arrivals = g.arrivals[:0]
	var last *engine.Packet
	for i := range packets {
		p := &packets[i]
		if last != nil && *p.From == *last.From && p.Local == last.Local {
			g.arrivals = append(g.arrivals, arrival{g.arrivals[len(g.arrivals)-1].fl, p})
			continue
		}
		if g.arrive(loop, p) {
			last = p
		} else {
			last = nil
		}
	}
	for i := range g.arrivals {
		fl := g.arrivals[i].fl
		if fl == nil {
			continue
		}
		g.burst = g.burst[:0]
		for j := i; j < len(g.arrivals); j++ {
			if a := &g.arrivals[j]; a.fl == fl {
				g.burst = append(g.burst, a.p)
				a.fl = nil
			}
		}
		g.send(loop, fl, g.burst, now)
	}
}

// arrive finds the flow of a packet, and reports whether the next one of the same sender is for it, too. A trusted peer's
// may each be for another one.
func (g *packetGate) arrive(loop *engine.Loop, p *engine.Packet) bool {
	key := g.keyOf(p)
	if fl := g.listener.packets.find(key); fl != nil {
		g.arrivals = append(g.arrivals, arrival{fl, p})
		return true
	}
	p.Each(func(data []byte) {
		o := origin{key: key}
		fl, payload := g.relay.flowOf(g.listener, &o, data)
		if payload == nil {
			return
		}
		if fl == nil {
			if fl = g.begin(loop, o, *p.From); fl == nil {
				return
			}
		}
		g.arrivals = append(g.arrivals, arrival{fl, &engine.Packet{Data: payload, ECN: p.ECN, From: p.From, Local: p.Local}})
	})
	return false
}

func (g *packetGate) keyOf(p *engine.Packet) flowKey {
	key := flowKey{peer: p.From.AddrPort(), local: g.local}
	if !key.local.IsValid() {
		key.local = p.Local
	}
	return key
}

// send carries packets to the target of their flow. Where that flow has ended they begin another.
func (g *packetGate) send(loop *engine.Loop, fl *flow, packets []*engine.Packet, now int64) {
	again := fl.sendAll(loop, packets, now)
	if !again {
		return
	}
	fl.kill()
	o := origin{key: fl.key, client: fl.client, header: fl.header}
	if next := g.begin(loop, o, fl.direct.client); next != nil {
		next.sendAll(loop, packets, now)
	}
}

// begin makes a flow of what came from a client, or returns nil.
func (g *packetGate) begin(loop *engine.Loop, o origin, from engine.Address) *flow {
	fl := g.newFlow(o, from)
	if fl == nil {
		return nil
	}
	if dialer := g.relay.socketDialer(fl.f); dialer != nil && len(fl.f.Wake.MACs) == 0 {
		g.open(loop, fl, dialer)
	} else {
		g.relay.goServeFlow(g.ctx, fl)
	}
	return fl
}

// newFlow enters a flow that has no socket towards its target yet, or returns nil.
func (g *packetGate) newFlow(o origin, from engine.Address) *flow {
	if !o.client.IsValid() && o.key.peer.Addr().Zone() != "" {
		o.client = engine.Named(o.key.peer)
	}
	fl := g.relay.newFlow(g.listener, o)
	if fl == nil {
		return nil
	}
	d := &fl.direct
	d.fl, d.client = fl, from
	d.up = engine.Way{Prefix: fl.header, Sent: &fl.in, Whole: &d.upWhole}
	d.down = engine.Way{To: &d.client, Local: fl.local, Sent: &fl.out, Whole: &d.downWhole}
	return fl
}

// open connects a flow to its target at once.
func (g *packetGate) open(loop *engine.Loop, fl *flow, dialer node.SocketNode) {
	r := g.relay
	fd, to, target, err := r.connectFlow(fl, dialer)
	if err != nil {
		r.noteDial(fl.task, err)
		fl.kill()
		fl.left()
		return
	}
	fl.reachedAt = to.String()
	fl.task.reached(&fl.session, target)
	fl.direct.begin(g, loop, fd)
}

// connectFlow opens a socket to the first target that there is a way to.
func (r *Relay) connectFlow(fl *flow, dialer node.SocketNode) (fd int, to netip.AddrPort, target *forward.Target, err error) {
	if r.crowded() {
		return -1, to, nil, errCrowded
	}
	order := fl.task.order(fl.f, fl.client.Addr(), forward.UDP)
	err = errDraining
	for i := range order {
		target = &order[i]
		to = netip.AddrPortFrom(target.Addr, fl.f.TargetPort(*target, fl.place.port))
		if !target.Addr.IsValid() {
			to = netip.AddrPortFrom(loopback4, to.Port())
			if fl.client.Addr().Is6() {
				to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
			}
		}
		fd, err = dialer.Connect(to, node.ConnectOptions{Packets: true, From: fl.from(fl.f)})
		if err == nil {
			return fd, to, target, nil
		}
		fl.task.failed(&fl.session, target, err)
		if err = (&DialError{Target: to.String(), Err: err}); isScarce(err) {
			break
		}
	}
	return -1, to, nil, err
}

// handOverFlow has the engine carry a flow whose target was dialled with the means of package net, and reports whether it
// does.
func (r *Relay) handOverFlow(fl *flow, conn net.Conn) bool {
	g, ok := fl.socket.door.(*packetGate)
	if _, socket := conn.(*net.UDPConn); !ok || !socket {
		return false
	}
	fd, err := duplicate(conn)
	if err != nil {
		return false
	}
	_ = conn.Close()
	fl.direct.begin(g, nil, fd)
	return true
}

// A directFlow is a flow's connected socket as the engine has it.
type directFlow struct {
	engine.PacketConn
	fl       *flow
	client   engine.Address
	up, down engine.Way

	upWhole, downWhole atomic.Uint32
}

// begin makes a connected socket part of its flow. It is called in a loop, or with nil elsewhere.
func (d *directFlow) begin(g *packetGate, loop *engine.Loop, fd int) {
	d.Init(g.engine, fd, g.PacketListener, d)
	if !d.fl.attach(d) {
		_ = unix.Close(fd)
		d.fl.left()
		return
	}
	d.Start(loop)
}

func (d *directFlow) Close() error { d.PacketConn.Close(); return nil }

func (d *directFlow) write(data []byte, ecn uint8) error {
	return d.Write(&engine.Packet{Data: data, ECN: ecn}, &d.up)
}

// sendAll carries packets to the target, and reports whether the flow has ended and they need another one.
func (fl *flow) sendAll(loop *engine.Loop, packets []*engine.Packet, now int64) (again bool) {
	fl.lastSeen.Store(now)
	fl.mu.Lock()
	ended, far := fl.ended, fl.far
	if !ended && far == nil {
		for _, p := range packets {
			p.Each(func(data []byte) { fl.hold(data, p.ECN) })
		}
	}
	fl.mu.Unlock()
	switch {
	case ended:
		return true
	case far == nil:
		return false
	}
	packets = within(&fl.upload, packets)
	if _, direct := far.(*directFlow); !direct {
		for _, p := range packets {
			p.Each(func(data []byte) { _ = far.write(data, p.ECN) })
		}
		return false
	}
	sent, errno := fl.direct.Send(loop, packets, &fl.direct.up)
	if errno == 0 {
		return false
	}
	fl.failed(errno)
	if sent > 0 {
		fl.kill()
	}
	return sent == 0
}

// within leaves out the datagrams that are too many for a rate.
func within(rate *limit, packets []*engine.Packet) []*engine.Packet {
	if rate.Slice() == 0 {
		return packets
	}
	var kept []*engine.Packet
	for _, p := range packets {
		p.Each(func(data []byte) {
			if rate.allow(len(data)) {
				kept = append(kept, &engine.Packet{Data: data, ECN: p.ECN})
			}
		})
	}
	return kept
}

// Received carries answers of the target to the client.
func (d *directFlow) Received(loop *engine.Loop, packets []engine.Packet) {
	fl := d.fl
	fl.heard(fl.socket.relay.now())
	g := fl.socket.door.(*packetGate)
	if fl.download.Slice() == 0 {
		loop.Reply(g.PacketListener, packets, &d.down)
		return
	}
	for i := range packets {
		packets[i].Each(func(data []byte) {
			if fl.download.allow(len(data)) {
				loop.Reply(g.PacketListener, []engine.Packet{{Data: data, ECN: packets[i].ECN}}, &d.down)
			}
		})
	}
}

// ReceiveFailed ends the flow: nobody is there, or the socket is of no use any more.
func (d *directFlow) ReceiveFailed(err syscall.Errno) {
	d.fl.failed(err)
	d.fl.kill()
}

// Closed lets go of what is held for the flow.
func (d *directFlow) Closed() { d.fl.left() }
