package relay

import (
	"context"
	"net/netip"
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
				g.slow(fd, nil)
			}
			return nil
		}
		q := &quick{attempts: attempts{relay: r, dialer: dialer, session: g.newSession(client, local.Addr()), ahead: true}}
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

// slow gives a client a goroutine. begun is what was said already, or nil.
func (g *gate) slow(fd int, begun *talk) {
	conn, err := netConn(fd)
	if err != nil {
		return // it is closed
	}
	g.relay.goServe(g.ctx, g.listener, conn, begun)
}

// quickDialer is the node that dials for f if that takes no waiting: its targets are addresses, reached with sockets of this
// machine, nothing has to be read (a name that the client calls, say), and none of them may have to be woken. (Once connected, the engine has the last, too.)
func (r *Relay) quickDialer(f *forward.Forward, client netip.Addr) node.SocketNode {
	if f.ByName() || len(f.AcceptProxy) > 0 && trusts(f.AcceptProxy, client) || len(f.Wake.MACs) > 0 || f.Helper != forward.HelperNone {
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
	attempts
	resumed string // where the target is, of a session that an earlier process began
}

// begin starts the first attempt. Without any the client is turned away.
func (q *quick) begin(loop *engine.Loop, fd int, dest netip.AddrPort) *engine.Stream {
	far, timeout, err := q.start()
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

// Connected is called when the target has answered.
func (q *quick) Connected(*engine.Stream) { q.connected() }

// Failed goes on to the next address.
func (q *quick) Failed(_ *engine.Stream, cause error) (int, time.Duration) { return q.again(cause) }

// Ended lets go of what is held for the session.
func (q *quick) Ended(*engine.Stream) { q.end(q) }

func (q *quick) where() string {
	if q.resumed != "" {
		return q.resumed
	}
	return q.far.String()
}

func (q *quick) kill() { q.Kill() }

func (q *quick) bytes() (in, out uint64) { return q.Moved(engine.Client), q.Moved(engine.Target) }
