package relay

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/vhost"
)

// A stream is a session of TCP or of unix sockets.
//
//	matched ─► header read, if the peer is trusted ─► entered ─► target dialled ─► carried ─► left
//	   └─ refused      └─ refused                       └─ refused     └─ refused (client reset)
type stream struct {
	session
	near     net.Conn // to the client
	calling  calling  // whom the client called, where that matters
	begun    *talk    // what was said on near before, in a loop; nil: nothing
	up, down half     // client to target, target to client

	reachedAt string // as people see it; guarded by task.mu

	mu     sync.Mutex
	far    net.Conn // to the target; nil until it is dialled
	handed mover    // who has both connections now; nil: copyHalf does
	killed bool
	cancel context.CancelFunc

	control *ftpControl // what reads it, where that is done
}

// A mover moves the bytes of a stream by itself: the engine, or a connection of a node.
type mover interface {
	kill()
	bytes() (in, out uint64)
}

// serveStream carries one client from accept to end, or until the engine does, which then also lets go of what is held for
// it. ctx is the listener's; a session that has entered outlives it.
func (r *Relay) serveStream(ctx context.Context, l *listener, near net.Conn, begun *talk) (handed bool) {
	said := proxyHeader{client: addrPort(near.RemoteAddr()), dest: addrPort(near.LocalAddr())}
	s := &stream{near: near, begun: begun}
	s.id, s.place, s.network, s.since = r.nextID.Add(1), &l.place, l.place.network, time.Now().UnixNano()
	s.client, s.peer, s.local = said.client, said.client.Addr(), said.dest.Addr()
	sessionCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.cancel = cancel

	f, site := r.admit(ctx, l, s, &said)
	switch {
	case f != nil:
	case s.calling.begun == nil:
		turnAway(near)
		return false
	case site != nil, s.calling.begun.Protocol == vhost.HTTP:
		r.serveSites(sessionCtx, l, s, said, site)
		return false
	default:
		if s.calling.begun.Protocol == vhost.TLS {
			_, _ = near.Write(vhost.Unrecognized())
			partWith(near)
			return false
		}
		turnAway(near)
		return false
	}
	defer func() {
		if !handed {
			s.task.leave(s)
		}
	}()
	if f.Dynamic() != forward.HeadNone {
		if s.calling.begun != nil {
			s.begun = &talk{said: s.calling.begun.Said}
		}
		handed = r.serveDynamic(sessionCtx, s, f)
		return handed
	}
	target, err := r.reach(sessionCtx, &s.session, f, s.endIfLeft)
	if err == nil {
		err = s.attach(target, f, said)
	}
	if err == nil {
		err = s.sendBegun(target)
	}
	if err != nil {
		if sessionCtx.Err() == nil {
			r.noteDial(s.task, err)
		}
		turnAway(near)
		return false
	}
	s.reachedAt = target.where
	s.task.reached(&s.session, target.target)
	if f.Helper == forward.HelperFTP {
		r.serveFTP(sessionCtx, s, target)
		return false
	}
	return r.carry(sessionCtx, s)
}

// carry moves bytes between both connections of s. Where both are sockets the engine does, and a node's connection may where
// one is; they have the stream from then on.
func (r *Relay) carry(ctx context.Context, s *stream) (handed bool) {
	if r.handOver(s) {
		return true
	}
	s.up.dst, s.up.src, s.up.count, s.up.limit = s.far, s.near, &s.in, &s.upload
	s.down.dst, s.down.src, s.down.count, s.down.limit = s.near, s.far, &s.out, &s.download
	r.slow.Add(-1)
	defer r.slow.Add(1)
	defer s.watchIdle()()
	carryStream(ctx, &s.up, &s.down, &r.buffers)
	return false
}

// idleSteps is how often a stream is looked at in the time that it may be idle.
const idleSteps = 8

// watchIdle ends a stream that the engine does not carry when nothing has moved for as long as its forward lets it be idle. The
// returned function ends the watching.
func (s *stream) watchIdle() (stop func()) {
	if s.f.IdleTimeout == 0 {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(max(s.f.IdleTimeout/idleSteps, time.Millisecond))
		defer tick.Stop()
		moved, since := s.activity(), time.Now()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				if n := s.activity(); n != moved {
					moved, since = n, now
				} else if now.Sub(since) >= s.f.IdleTimeout {
					s.kill()
					return
				}
			}
		}
	}()
	return func() { close(done) }
}

// activity is how many bytes have moved, those of data connections included.
func (s *stream) activity() uint64 {
	n := s.in.Load() + s.out.Load()
	s.mu.Lock()
	c := s.control
	s.mu.Unlock()
	if c != nil {
		n += c.activity()
	}
	return n
}

// lead notes where the stream leads now, which for a client of a proxy may change.
func (s *stream) lead(where string) {
	s.task.mu.Lock()
	s.reachedAt = where
	s.task.mu.Unlock()
}

// admit finds the forward that takes the client in, and enters the session there; nil means that it was refused. said
// becomes what a trusted peer says of its client; which forward it is depends on the connection itself.
//
// On a port that is shared by name the client is heard first. Where its HTTP is to be ended here, no forward takes it in yet, for
// each request does that, and there is no forward; nor is there one where the name leads nowhere. site is what ends its TLS.
func (r *Relay) admit(ctx context.Context, l *listener, s *stream, said *proxyHeader) (f *forward.Forward, site *vhost.Site) {
	introduced := false // by a PROXY protocol header
	for {
		t, f := r.matchCalled(l, s.peer, s.local, s.calling)
		if f == nil {
			t.refuse()
			return nil, nil
		}
		if !introduced && trusts(f.AcceptProxy, s.peer) {
			stop := context.AfterFunc(ctx, func() { _ = s.near.Close() })
			h, err := acceptProxyHeader(s.near)
			if !stop() || err != nil {
				t.refuse()
				r.log.Debug("client refused", keyForward, t.name, keyClient, s.peer.String(), keyError, err)
				return nil, nil
			}
			if introduced = true; h.client.IsValid() {
				s.client, said.client, said.dest = h.client, h.client, h.dest
			}
			said.extensions = h.extensions
		}
		if f.ByName() {
			if !s.calling.known {
				if err := s.listenTo(ctx); err != nil {
					t.refuse()
					r.log.Debug("client refused", keyListen, l.place.String(), keyClient, s.peer.String(), keyError, err)
					return nil, nil
				}
				if s.calling.begun.Protocol == vhost.HTTP {
					return nil, nil
				}
				continue
			}
			switch site := t.siteOf(f); {
			case site == nil:
				continue // it has changed
			case site.EndsTLS() && s.calling.begun.Protocol == vhost.TLS:
				return nil, site
			}
		}
		switch t.enter(s, f) {
		case nil:
			return f, nil
		case errFull:
			t.refuse()
			return nil, nil
		}
	}
}

// endIfLeft ends a stream that waits for its target when the client does not: nobody was turned away.
func (s *stream) endIfLeft() {
	if hasLeft(s.near) {
		s.cancel()
	}
}

// attach makes the target part of the stream, unless that was killed meanwhile, and sends the header that the target
// expects.
func (s *stream) attach(d dialled, f *forward.Forward, said proxyHeader) error {
	s.mu.Lock()
	killed := s.killed
	s.far = d.conn
	s.mu.Unlock()
	if killed {
		reset(d.conn)
		return context.Canceled
	}
	if f.SendProxy == 0 {
		return nil
	}
	if err := sendProxyHeader(d.conn, f.SendProxy, said); err != nil {
		reset(d.conn)
		return &DialError{Target: d.where, Err: err}
	}
	return nil
}

// sendBegun sends the target what was read of the client before, to find whom it calls.
func (s *stream) sendBegun(d dialled) error {
	var said []byte
	switch {
	case s.calling.begun != nil:
		said = s.calling.begun.Said
	case s.begun != nil:
		said = s.begun.said
	default:
		return nil
	}
	n, err := d.conn.Write(said)
	s.in.Add(uint64(n))
	s.calling.begun, s.begun = nil, nil // it may be large, and the session long
	if err != nil {
		return &DialError{Target: d.where, Err: err}
	}
	return nil
}

func (s *stream) where() string { return s.reachedAt }

func (s *stream) kill() {
	s.mu.Lock()
	s.killed = true
	s.cancel()
	control, mover := s.control, s.handed
	if mover == nil {
		reset(s.near)
		if s.far != nil {
			reset(s.far)
		}
	}
	s.mu.Unlock()
	if mover != nil {
		mover.kill() // which may end the stream at once, and asks it for its bytes then
	}
	if control != nil {
		control.kill()
	}
}

// mover is who has both connections now, or nil.
func (s *stream) mover() mover {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handed
}

func (s *stream) bytes() (in, out uint64) {
	if handed := s.mover(); handed != nil {
		in, out = handed.bytes()
		return in + s.in.Load(), out + s.out.Load() // a head may have moved some before
	}
	return s.in.Load(), s.out.Load()
}

// addrPort is the address of a TCP connection, zero for any other.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		if a == nil || a.Network() == "unix" {
			return netip.AddrPort{}
		}
		ap, _ := netip.ParseAddrPort(a.String()) // another node's kind of address
		return unmap(ap)
	}
	return unmap(t.AddrPort())
}
