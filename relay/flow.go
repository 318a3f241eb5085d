package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unique"

	"github.com/fairlead-net/fairlead/forward"
)

const (
	// Idle times of a flow that udp_idle says nothing of, as the kernel's conntrack has them for UDP (nf_conntrack_udp_timeout
	// and ..._stream): until the target has answered, so that one-way floods cost little, and from then on, which is above the
	// 120 s that RFC 4787 (REQ-5) asks of a NAT.
	flowIdleFirst = forward.DefaultUDPUnanswered
	flowIdle      = forward.DefaultUDPAnswered

	// pendingMax is how many datagrams a flow holds while its target's name is looked up. A client that gets no answer
	// sends again.
	pendingMax = 16
)

// A flowKey tells flows of one socket apart. The address that the client used is part of it: the answer has to come from
// there.
type flowKey struct {
	peer  netip.AddrPort
	local netip.Addr
	named unique.Handle[netip.AddrPort] // whom a trusted peer speaks for, perhaps itself; zero for any other peer
}

// A flow is a session of datagrams: a client and the connected socket to the target that stands for it.
//
//	entered ─► target dialled ─► carried ─► killed (idle, port unreachable, changed) ─► left
//	   └─ pending datagrams ──┘
type flow struct {
	session
	key    flowKey
	socket *packetListener
	header []byte     // that stands in front of each datagram to the target
	back   *wayBack   // of a socket that the engine does not read
	direct directFlow // of one that it does

	reachedAt string // guarded by task.mu

	lastSeen  atomic.Int64 // nanoseconds since the relay began
	idleAfter atomic.Int64 // nanoseconds; 0: the defaults
	answered  atomic.Bool

	rousing *rousing // of a target that may be asleep; nil: of no other; set before far

	mu      sync.Mutex
	far     farSide // nil until dialled
	cancel  context.CancelFunc
	ended   bool
	pending []pendingPacket
}

// A wayBack is how answers reach a client.
type wayBack struct {
	to   netip.AddrPort // as the socket names the client, perhaps an IPv4 address in IPv6
	from []byte         // control message that makes an answer leave from key.local; empty where it does anyway
}

// A farSide is a flow's connected socket. A datagram is one write.
type farSide interface {
	write(data []byte, ecn uint8) error
	Close() error
}

type pendingPacket struct {
	data []byte
	ecn  uint8
}

// connFar is a connection of package net's, or of another kind of node.
type connFar struct {
	net.Conn
	fl *flow
}

func (c *connFar) write(data []byte, _ uint8) error {
	if len(c.fl.header) == 0 {
		n, err := c.Write(data)
		c.fl.in.Add(uint64(n))
		return err
	}
	n, err := c.Write(slices.Concat(c.fl.header, data))
	c.fl.in.Add(uint64(max(0, n-len(c.fl.header))))
	return err
}

// goServeFlow gives a flow a goroutine, for as long as it takes to reach its target, and until its end where the engine does
// not carry it. The flow outlives the ctx of its listener.
func (r *Relay) goServeFlow(ctx context.Context, fl *flow) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	fl.mu.Lock()
	if fl.cancel = cancel; fl.ended {
		cancel()
	}
	fl.mu.Unlock()
	go func() { // r.wg counts the flow already
		defer cancel()
		if !r.serveFlow(ctx, fl) {
			fl.kill()
			fl.left()
		}
	}()
}

// left lets go of what is held for a flow that entered.
func (fl *flow) left() {
	fl.task.leave(fl)
	fl.socket.relay.held.Add(-1)
	fl.socket.relay.wg.Done()
}

// serveFlow reaches the target and carries its answers to the client, until the flow is killed or the target says that
// nobody is there. It reports whether the engine carries the flow on.
func (r *Relay) serveFlow(ctx context.Context, fl *flow) bool {
	var target dialled
	var err error = errCrowded
	if !r.crowded() {
		target, err = r.dialTargets(ctx, &fl.session, fl.f)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.noteDial(fl.task, err)
		}
		return false
	}
	fl.reachedAt = target.where
	fl.task.reached(&fl.session, target.target)
	if len(fl.f.Wake.MACs) == 0 && r.handOverFlow(fl, target.conn) {
		return true
	}
	if fl.rousing = r.rouse(ctx, &fl.session, *target.target); fl.rousing != nil {
		tellUndelivered(target.conn)
	}
	defer fl.rousing.end()
	if !fl.attach(&connFar{target.conn, fl}) {
		_ = target.conn.Close()
		return false
	}
	for {
		err := fl.answers(r, target.conn)
		again, wait, ok := fl.rousing.lost(ctx, err, r.now())
		if !ok || !sleep(ctx, wait) {
			fl.failed(err)
			return false
		}
		clearUndelivered(target.conn)
		fl.resend(again)
	}
}

// resend sends datagrams again that the network did not deliver.
func (fl *flow) resend(list [][]byte) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, data := range list {
		if !fl.ended {
			_ = fl.far.write(data, 0) // an error comes again when reading the answer
		}
	}
}

// failed notes that the target said that nobody is there.
func (fl *flow) failed(err error) {
	if errors.Is(err, syscall.ECONNREFUSED) && !fl.answered.Load() {
		fl.task.refusedFlow(&fl.session, fl.reachedAt)
	}
}

// attach makes the target part of the flow and sends what has waited for it, unless the flow has ended.
func (fl *flow) attach(far farSide) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.ended {
		return false
	}
	fl.far = far
	for _, p := range fl.pending {
		_ = fl.sendLocked(p.data, p.ecn) // an error comes again when reading the answer
	}
	fl.pending = nil
	return true
}

// send carries one datagram to the target. False means that the flow has ended and the datagram needs another one. The
// ICMP error for an earlier datagram may come up here instead of where answers are read.
func (fl *flow) send(data []byte, now int64) bool {
	fl.lastSeen.Store(now)
	fl.mu.Lock()
	defer fl.mu.Unlock()
	switch {
	case fl.ended:
		return false
	case fl.far == nil:
		fl.hold(data, 0)
		return true
	}
	err := fl.sendLocked(data, 0)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return true
	}
	fl.failed(err)
	return false
}

// hold keeps a datagram until the target is reached. The caller holds fl.mu.
func (fl *flow) hold(data []byte, ecn uint8) {
	if len(fl.pending) < pendingMax {
		fl.pending = append(fl.pending, pendingPacket{slices.Clone(data), ecn})
	}
}

func (fl *flow) sendLocked(data []byte, ecn uint8) error {
	if !fl.upload.allow(len(data)) {
		return nil
	}
	fl.rousing.keep(data)
	return fl.far.write(data, ecn)
}

// answers carries what the target sends to the client, and returns why it ended.
func (fl *flow) answers(r *Relay, far net.Conn) error {
	in := newReader(far, &r.buffers)
	defer in.release()
	for {
		data, err := in.read(bufferSize)
		if err != nil {
			return err
		}
		now := r.now()
		fl.heard(now)
		fl.rousing.answered(now)
		if fl.download.allow(len(data)) {
			fl.answer(data)
		}
		in.release()
	}
}

// answer sends one datagram to the client.
func (fl *flow) answer(data []byte) {
	if fl.socket.door != nil {
		_ = fl.socket.door.answer(fl, data) // it counts
		return
	}
	if fl.socket.conn.writeTo(data, fl.back.to, fl.back.from) == nil {
		fl.out.Add(uint64(len(data)))
	}
}

// heard notes an answer of the target.
func (fl *flow) heard(now int64) {
	fl.lastSeen.Store(now)
	if !fl.answered.Load() {
		fl.answered.Store(true)
	}
}

// idle reports whether the flow has been quiet for too long.
func (fl *flow) idle(now int64) bool {
	limit := time.Duration(fl.idleAfter.Load())
	switch {
	case limit > 0:
	case fl.answered.Load():
		limit = flowIdle
	default:
		limit = flowIdleFirst
	}
	return time.Duration(now-fl.lastSeen.Load()) > limit
}

// kill ends the flow; the client's next datagram begins a new one at once.
func (fl *flow) kill() {
	fl.socket.forget(fl)
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.ended {
		return
	}
	fl.ended, fl.pending = true, nil
	if fl.cancel != nil {
		fl.cancel()
	}
	if fl.far != nil {
		_ = fl.far.Close()
	}
}

func (fl *flow) where() string { return fl.reachedAt }

func (fl *flow) bytes() (in, out uint64) { return fl.in.Load(), fl.out.Load() }

// staysWith reports whether the flow is carried by f just as well, and takes on from f what can change while it lives.
func (fl *flow) staysWith(f *forward.Forward) bool {
	trusted := fl.key.named != (unique.Handle[netip.AddrPort]{})
	if !sameWay(fl.f, f) || fl.f.SendProxy != f.SendProxy || trusted != trusts(f.AcceptProxy, fl.peer) {
		return false
	}
	fl.idleAfter.Store(int64(f.UDPIdle))
	return true
}

// sameWay reports whether a flow of f is carried by g just as well: the target, and how it is picked and reached.
func sameWay(f, g *forward.Forward) bool {
	if f == g {
		return true
	}
	if f.DialsFrom() != g.DialsFrom() || f.Balance != g.Balance || f.Source != g.Source || len(f.To) != len(g.To) {
		return false
	}
	for i := range f.To {
		if f.To[i] != g.To[i] {
			return false
		}
	}
	return true
}
