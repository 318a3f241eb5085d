package link

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// ListenOptions is what a Listener is made of.
type ListenOptions struct {
	Identity *Identity
	TCP      []net.Listener   // for agents by TLS and WebSocket, and for visitors
	UDP      []net.PacketConn // for agents by QUIC
	// Other is given each connection that is not an agent's. If it returns false, which it does at once, the connection is not wanted, and the
	// listener speaks HTTP with it: it answers agents that come by WebSocket, and has no other page. nil: none are wanted.
	Other func(v *Visitor, first First) bool
	Log   *slog.Logger // nil: none
}

// A Listener is the one port of a hub. It is made with NewListener.
type Listener struct {
	ListenOptions
	agents  *tls.Config
	gate    *gate
	links   chan tunnel.Link
	web     *web
	ended   chan struct{} // Run has
	besides besides

	greeting atomic.Int64 // those of whom it is not known yet who they are

	mu       sync.Mutex
	guests   sync.WaitGroup // of those who are not agents yet; nobody is added when stopping is closed
	stopping chan struct{}

	fails struct {
		sync.Mutex
		burst
	}
}

// errEnded is that a Listener does not run any more.
var errEnded = errors.New("the hub does not listen any more")

// NewListener makes a listener. It takes nobody before Run.
func NewListener(o ListenOptions) *Listener {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Listener{
		ListenOptions: o,
		agents:        hubTLS(o.Identity),
		gate:          newGate(maxWaiting, maxPerSource, o.Log),
		links:         make(chan tunnel.Link),
		ended:         make(chan struct{}),
		besides:       besides{all: map[sideID]*sides{}},
		stopping:      make(chan struct{}),
	}
	l.web = newWeb(l)
	return l
}

// Accept waits for an agent. Its key is proven; whose it is has to be asked yet.
func (l *Listener) Accept(ctx context.Context) (tunnel.Link, error) {
	select {
	case link := <-l.links:
		return link, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ended:
		return nil, errEnded
	}
}

// Run listens until ctx ends. Then it closes what it listens at; links by TLS and WebSocket that Accept returned stay, those by QUIC end.
func (l *Listener) Run(ctx context.Context) error {
	defer close(l.ended)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loops sync.WaitGroup
	var once sync.Once
	var failed error
	loop := func(run func(context.Context) error) {
		loops.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				once.Do(func() { failed = err })
				cancel()
			}
		})
	}
	for _, listener := range l.TCP {
		loop(func(ctx context.Context) error { return l.acceptTCP(ctx, listener) })
	}
	for _, socket := range l.UDP {
		loop(func(ctx context.Context) error { return l.acceptQUIC(ctx, socket) })
	}
	loop(l.web.run)
	<-ctx.Done()
	l.mu.Lock()
	close(l.stopping)
	l.mu.Unlock()
	loops.Wait()
	l.guests.Wait()
	return failed
}

// acceptTCP lets visitors in, until the listener fails for good.
func (l *Listener) acceptTCP(ctx context.Context, listener net.Listener) error {
	l.greeting.Add(1) // whoever was just accepted counts in a moment
	defer l.greeting.Add(-1)
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	defer listener.Close()
	for wait := time.Duration(0); ; {
		c, err := listener.Accept()
		if err == nil {
			wait = 0
			l.let(ctx, c)
			continue
		}
		if errors.Is(err, net.ErrClosed) { // by its owner, perhaps: who has come is served
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		// Descriptors or memory have run out, or the client has gone again: others will come.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		l.Log.Warn("a connection could not be accepted", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// let has a visitor in, if there is room.
func (l *Listener) let(ctx context.Context, c net.Conn) {
	from := addrPort(c.RemoteAddr())
	guest := l.gate.enter(from.Addr(), func() { c.Close() })
	if guest == nil {
		reset(c)
		return
	}
	if !l.join() {
		guest.leave()
		c.Close()
		return
	}
	l.greeting.Add(1)
	go func() {
		defer l.guests.Done()
		defer l.greeting.Add(-1)
		l.greet(ctx, c, guest)
	}()
}

// AwaitGuests waits until it is known of all who have come who they are, or for so long. What they came by has been closed.
func (l *Listener) AwaitGuests(d time.Duration) {
	for end := time.Now().Add(d); l.greeting.Load() > 0 && time.Now().Before(end); {
		time.Sleep(guestStep)
	}
}

// guestStep is how often AwaitGuests looks.
const guestStep = 2 * time.Millisecond

// join counts one more who is waited for, if the listener goes on.
func (l *Listener) join() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.stopping:
		return false
	default:
		l.guests.Add(1)
		return true
	}
}

// greet finds out who a visitor is.
func (l *Listener) greet(ctx context.Context, c net.Conn, guest *guest) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	v := &Visitor{Conn: c}
	conn, beneath, first, err := peek(ctx, v, l.agents)
	switch {
	case errors.Is(err, errOther):
		if !stop() {
			guest.leave()
			return
		}
		if l.Other != nil {
			guest.leave()
			if l.Other(v, first) {
				return
			}
			guest = l.gate.enter(addrPort(c.RemoteAddr()).Addr(), func() { c.Close() })
		}
		l.web.visit(v, first, guest)
	case err != nil:
		guest.leave()
		l.failed(c.RemoteAddr(), err)
		c.Close()
	default:
		tcp, _ := c.(*net.TCPConn)
		beneath.readAhead(tcp)
		if tcp != nil {
			tune(tcp)
		}
		protocol := conn.ConnectionState().NegotiatedProtocol
		if protocol == sideALPN {
			defer guest.leave()
			if tcp != nil {
				giveUpAfter(tcp, sideTimeout)
			}
			if err := l.beside(&records{conn, beneath}, stop); err != nil {
				l.failed(c.RemoteAddr(), err)
				c.Close()
			}
			return
		}
		link, err := newOneLane(TLS, conn, beneath, tcp, false)
		if err != nil || !stop() {
			guest.leave()
			c.Close()
			return
		}
		if protocol == measureALPN {
			defer guest.leave()
		} else {
			link.admit = sync.OnceFunc(guest.leave)
			link.sides = l.besides.make(conn.ConnectionState(), link.peer)
		}
		l.hand(ctx, link, protocol)
	}
}

// beside takes in a lane of a link that is there. stop ends the time that its agent has to say of which.
func (l *Listener) beside(r *records, stop func() bool) error {
	peer, err := peerKey(r.conn.ConnectionState())
	if err != nil {
		return err
	}
	return l.besides.came(r, peer, stop)
}

// hand gives a link to who waits for one.
func (l *Listener) hand(ctx context.Context, link tunnel.Link, protocol string) {
	switch protocol {
	case ALPN:
	case measureALPN:
		l.reflect(ctx, link)
		return
	default: // a lane beside a link has TLS of its own
		link.Close()
		return
	}
	select {
	case l.links <- link:
	case <-ctx.Done():
		link.Close()
	}
}

// failed tells of a handshake that failed. Strangers scan every port, so that is of little interest.
func (l *Listener) failed(from net.Addr, err error) {
	l.fails.Lock()
	n, say := l.fails.count(time.Now())
	l.fails.Unlock()
	if say {
		l.Log.Info("somebody who came showed no key", "source", from.String(), "error", err, "before", n)
	}
}

// reset closes a connection without a goodbye, which costs nothing afterwards.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}
