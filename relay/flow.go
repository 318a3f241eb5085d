package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

const (
	// Idle times of a flow, as the kernel's conntrack has them for UDP (nf_conntrack_udp_timeout and ..._stream): 30 s until
	// the target has answered, so that one-way floods cost little; 180 s from then on, above the 120 s that RFC 4787
	// (REQ-5) asks of a NAT.
	flowIdleFirst = 30 * time.Second
	flowIdle      = 180 * time.Second

	// pendingMax is how many datagrams a flow holds while its target's name is looked up. A client that gets no answer
	// sends again.
	pendingMax = 16
)

// A flowKey tells flows of one socket apart. The address that the client used is part of it: the answer has to come from
// there.
type flowKey struct {
	client netip.AddrPort
	local  netip.Addr
}

// A flow is a session of datagrams: a client and the connected socket to the target that stands for it.
type flow struct {
	session
	key    flowKey
	socket *packetListener
	to     netip.AddrPort // as the socket names the client, perhaps an IPv4 address in IPv6
	from   []byte         // control message that makes an answer leave from key.local; empty where it does anyway
	cancel context.CancelFunc

	reachedAt string // guarded by task.mu

	lastSeen atomic.Int64 // nanoseconds since the relay began
	answered atomic.Bool

	mu      sync.Mutex
	far     net.Conn // nil until dialled
	ended   bool
	pending [][]byte
}

// serveFlow reaches the target and carries its answers to the client, until the flow is killed or the target says that
// nobody is there.
func (r *Relay) serveFlow(ctx context.Context, fl *flow) {
	defer fl.task.leave(fl)
	defer fl.kill()
	r.held.Add(1)
	defer r.held.Add(-1)
	var target dialled
	var err error = syscall.EMFILE
	if !r.crowded() {
		target, err = r.dialTargets(ctx, &fl.session, fl.f)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.noteDial(fl.task, err)
		}
		return
	}
	fl.reachedAt = target.where
	fl.task.reached(&fl.session, target.target)
	if !fl.attach(target.conn) {
		_ = target.conn.Close()
		return
	}
	err = fl.answers(r, target.conn)
	if errors.Is(err, syscall.ECONNREFUSED) && !fl.answered.Load() {
		fl.task.refusedFlow(&fl.session, target.where)
	}
}

// attach sends what has waited for the target.
func (fl *flow) attach(far net.Conn) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.ended {
		return false
	}
	fl.far = far
	for _, data := range fl.pending {
		_ = fl.sendLocked(data) // an error comes again when reading the answer
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
		if len(fl.pending) < pendingMax {
			fl.pending = append(fl.pending, append([]byte(nil), data...))
		}
		return true
	}
	if errors.Is(fl.sendLocked(data), syscall.ECONNREFUSED) {
		if !fl.answered.Load() {
			fl.task.refusedFlow(&fl.session, fl.far.RemoteAddr().String())
		}
		return false
	}
	return true
}

func (fl *flow) sendLocked(data []byte) error {
	if !fl.task.upload.allow(len(data)) {
		return nil
	}
	n, err := fl.far.Write(data)
	fl.in.Add(uint64(n))
	return err
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
		fl.lastSeen.Store(r.now())
		if !fl.answered.Load() {
			fl.answered.Store(true)
		}
		if fl.task.download.allow(len(data)) && fl.socket.conn.writeTo(data, fl.to, fl.from) == nil {
			fl.out.Add(uint64(len(data)))
		}
		in.release()
	}
}

// idle reports whether the flow has been quiet for too long.
func (fl *flow) idle(now int64) bool {
	limit := flowIdleFirst
	if fl.answered.Load() {
		limit = flowIdle
	}
	return time.Duration(now-fl.lastSeen.Load()) > limit
}

// kill ends the flow; the client's next datagram begins a new one at once.
func (fl *flow) kill() {
	fl.socket.forget(fl)
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.ended, fl.pending = true, nil
	fl.cancel()
	if fl.far != nil {
		_ = fl.far.Close()
	}
}

func (fl *flow) where() string { return fl.reachedAt }

func (fl *flow) bytes() (in, out uint64) { return fl.in.Load(), fl.out.Load() }

// sameWay reports whether a flow of f is carried by g just as well: the target, and how it is picked and reached.
func sameWay(f, g *forward.Forward) bool {
	if f == g {
		return true
	}
	if f.DialsFrom() != g.DialsFrom() || f.Balance != g.Balance || len(f.To) != len(g.To) {
		return false
	}
	for i := range f.To {
		if f.To[i] != g.To[i] {
			return false
		}
	}
	return true
}
