package relay

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/relay/engine"
)

// A gate decides about the clients of a listener that the engine accepts from. It is called in the engine's loops, so it
// never waits: who needs something that may take time (a name, a header to read, another node) gets a goroutine.
type gate struct {
	relay    *Relay
	listener *listener
	ctx      context.Context //nolint:containedctx // the listener's, which ends what its goroutines wait for
}

// Wait holds accepting back while the process is out of descriptors.
func (g *gate) Wait() time.Duration {
	if left := g.relay.pause.left(); left > 0 {
		return left
	}
	if g.relay.crowded() {
		return g.AcceptFailed(errCrowded)
	}
	return 0
}

// AcceptFailed decides what an error of the listening socket means.
func (g *gate) AcceptFailed(err error) time.Duration { return g.relay.waitAfter(g.listener, err) }

// Take finds the forward that serves a client, and the target to connect to.
func (g *gate) Take(loop *engine.Loop, fd int, client netip.AddrPort) *engine.Stream {
	r, l := g.relay, g.listener
	local := netip.AddrPortFrom(l.place.addr, l.place.port)
	if !local.Addr().IsValid() || local.Addr().IsUnspecified() {
		local = engine.LocalAddr(fd)
	}
	for {
		t, f := r.match(l, client.Addr(), local.Addr())
		if f == nil {
			t.refuse()
			engine.Reset(fd)
			return nil
		}
		dialer := r.quickDialer(f, client.Addr())
		if dialer == nil {
			switch g.lead(fd, client, local.Addr(), t, f) {
			case errChanged:
				continue
			case errNotLed:
				g.slow(fd)
			}
			return nil
		}
		q := &quick{relay: r, dialer: dialer, session: g.newSession(client, local.Addr())}
		switch t.enter(q, f) {
		case nil:
			return q.begin(loop, fd, local)
		case errFull:
			t.refuse()
			engine.Reset(fd)
			return nil
		}
	}
}

// newSession is what is known of a client that was just accepted.
func (g *gate) newSession(client netip.AddrPort, local netip.Addr) session {
	p := &g.listener.place
	return session{
		id: g.relay.nextID.Add(1), place: p, network: p.network, since: time.Now().UnixNano(),
		client: client, peer: client.Addr(), local: local,
	}
}

// slow gives a client a goroutine.
func (g *gate) slow(fd int) {
	conn, err := netConn(fd)
	if err != nil {
		return // it is closed
	}
	g.relay.goServe(g.ctx, g.listener, conn)
}

// quickDialer is the node that dials for f if that takes no waiting: its targets are addresses, reached with sockets of this
// machine, nothing has to be read, and none of them may have to be woken. (Once connected, the engine has the last, too.)
func (r *Relay) quickDialer(f *forward.Forward, client netip.Addr) node.SocketNode {
	if len(f.AcceptProxy) > 0 && trusts(f.AcceptProxy, client) || len(f.Wake.MACs) > 0 || f.Helper != forward.HelperNone {
		return nil
	}
	return r.socketDialer(f)
}

// socketDialer is the node that dials for f with sockets of this machine, if all of its targets are addresses.
func (r *Relay) socketDialer(f *forward.Forward) node.SocketNode {
	for i := range f.To {
		if f.To[i].Host != "" || f.To[i].Path != "" || f.To[i].Head != forward.HeadNone {
			return nil
		}
	}
	n, err := r.nodes(f.DialsFrom())
	if err != nil {
		return nil
	}
	dialer, _ := n.(node.SocketNode)
	return dialer
}

// A quick is a stream that the engine carries from accept to end.
type quick struct {
	engine.Stream
	session
	relay  *Relay
	dialer node.SocketNode
	order  []forward.Target // in which they are tried
	next   attempt
	hasty  int            // how many of order are tried for a moment, before the others get the full time
	brief  bool           // the attempt under way is for a moment
	far    netip.AddrPort // the address that is tried, or was reached

	refused bool   // counted as such
	resumed string // where the target is, of a session that an earlier process began
}

// An attempt counts the addresses to try: those of the first target, then those of the second, …
type attempt struct{ target, address int }

// begin starts the first attempt. Without any the client is turned away.
func (q *quick) begin(loop *engine.Loop, fd int, dest netip.AddrPort) *engine.Stream {
	q.relay.held.Add(2)
	q.relay.wg.Add(1)
	q.order = q.task.order(q.f, q.client.Addr(), forward.TCP)
	q.hasty = len(q.order)
	far, timeout, err := q.connect(errDraining)
	if err == nil {
		o := engine.Options{
			Owner: q, Loop: loop, Client: fd, Target: far, Timeout: timeout, Unix: [2]bool{q.place.path != ""},
			FastOpen: q.f.FastOpen, Idle: q.f.IdleTimeout, Limits: [2]engine.Limit{&q.upload, &q.download},
		}
		if q.f.SendProxy != 0 {
			o.Preamble, err = proxyHeader{client: q.client, dest: dest}.format(q.f.SendProxy)
		}
		if err == nil {
			q.Init(o)
			return &q.Stream
		}
		engine.Reset(far)
	}
	q.fail(err)
	engine.Reset(fd)
	q.Ended(nil)
	return nil
}

// connect starts the next attempt that can be started. Without any the error is the last one's, or last.
func (q *quick) connect(last error) (fd int, timeout time.Duration, err error) {
	for q.next.target < len(q.order) {
		target := &q.order[q.next.target]
		to := q.addresses(target)
		if q.next.address >= len(to) {
			q.next = attempt{target: q.next.target + 1}
			continue
		}
		q.far = to[q.next.address]
		q.next.address++
		fd, err := q.dialer.Connect(q.far, node.ConnectOptions{From: q.from(q.f), FastOpen: q.f.FastOpen, HoldACK: true})
		if err == nil {
			return fd, q.timeout(), nil
		}
		if last = (&DialError{Target: q.far.String(), Err: err}); isScarce(err) {
			return -1, 0, last // the next one needs a descriptor, too
		}
		q.failed(err)
	}
	return -1, 0, last
}

// timeout is how long an attempt may take. While there is another target, that is only its client's patience: a target that
// is dead without a word is to cost a moment.
func (q *quick) timeout() time.Duration {
	last := q.next.target == len(q.order)-1
	full := dialTime(q.f, last)
	q.brief = false
	if last || q.next.target >= q.hasty {
		return full
	}
	patience := q.task.patience(&q.order[q.next.target])
	q.brief = patience < full
	return min(patience, full)
}

// failed notes what became of the attempt. A target that was only given a moment comes again after all the others, for the
// case that none of them answers either.
func (q *quick) failed(err error) {
	to := &q.order[q.next.target]
	if q.brief && isTimeout(err) {
		q.order = append(slices.Clip(q.order), *to)
	}
	if q.next.address == len(q.addresses(to)) {
		q.task.failed(&q.session, to, err)
	}
}

// addresses are those of a target, in the order in which they are tried.
func (q *quick) addresses(t *forward.Target) []netip.AddrPort {
	port := q.f.TargetPort(*t, q.place.port)
	if t.Addr.IsValid() {
		return []netip.AddrPort{netip.AddrPortFrom(t.Addr, port)}
	}
	v4, v6 := netip.AddrPortFrom(loopback4, port), netip.AddrPortFrom(netip.IPv6Loopback(), port)
	if q.client.Addr().Is6() {
		return []netip.AddrPort{v6, v4}
	}
	return []netip.AddrPort{v4, v6}
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Connected is called when the target has answered.
func (q *quick) Connected(*engine.Stream) {
	q.task.reached(&q.session, &q.order[q.next.target])
}

// Failed goes on to the next address.
func (q *quick) Failed(_ *engine.Stream, cause error) (int, time.Duration) {
	q.failed(cause)
	fd, timeout, err := q.connect(&DialError{Target: q.far.String(), Err: cause})
	if err != nil {
		q.fail(err)
		return -1, 0
	}
	return fd, timeout
}

// fail counts a client whose target cannot be reached.
func (q *quick) fail(err error) {
	q.refused = true
	q.relay.noteDial(q.task, err)
}

// Ended lets go of what is held for the session. A client that did not wait for its target is counted as refused.
func (q *quick) Ended(*engine.Stream) {
	if !q.refused && q.target == nil {
		q.task.refuse()
	}
	q.task.leave(q)
	q.relay.held.Add(-2)
	q.relay.wg.Done()
}

func (q *quick) where() string {
	if q.resumed != "" {
		return q.resumed
	}
	return q.far.String()
}

func (q *quick) kill() { q.Kill() }

func (q *quick) bytes() (in, out uint64) { return q.Moved(engine.Client), q.Moved(engine.Target) }
