package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// otherInterfaces is no interface's name (one has no '/'). It stands for where a client of a listener without an
// interface came in: a listener that is held to an interface gets all clients from there.
const otherInterfaces = "/"

// A listener is one open place. The forwards that share it are told apart client by client.
type listener struct {
	place   place
	node    node.Node       // that opened it, where that is not this host; another may have its name by now
	stream  net.Listener    // for TCP and unix
	door    door            // what became of stream when the engine took it over
	packets *packetListener // for UDP
	stated  node.Stated     // knows whether it listens at the moment; nil: it does
	stop    context.CancelFunc
	started bool        // guarded by Relay.applyMu
	broken  atomic.Bool // ended by itself; the next Apply opens the place again

	// Guarded by Relay.mu.
	users map[*task]bool
	blame *task // counts the clients that none of users serves: the least specific one
}

// open opens p. The listener is idle until it is started.
func (r *Relay) open(ctx context.Context, p place) (*listener, error) {
	fail := func(err error) (*listener, error) {
		return nil, &ListenError{Place: p.String(), Port: p.port, Err: err}
	}
	if p.network == forward.UDP {
		if inherited := r.inherited.takePackets(p); inherited != nil {
			return &listener{place: p, users: map[*task]bool{}, packets: newPacketListener(inherited, p.addr)}, nil
		}
	}
	if inherited := r.inherited.take(p); inherited != nil {
		return &listener{place: p, users: map[*task]bool{}, stream: inherited}, nil
	}
	n, err := r.nodes(p.node)
	if err != nil {
		return fail(err)
	}
	l, err := openOn(ctx, n, p, node.Binding{Interface: p.iface})
	if errors.Is(err, syscall.EADDRINUSE) && p.shared() {
		if others := r.beside(p); len(others) > 0 {
			l, err = openOn(ctx, n, p, node.Binding{Interface: p.iface, Beside: others})
		}
	}
	if err != nil {
		return fail(err)
	}
	if p.node != forward.Host {
		l.node = n
	}
	return l, nil
}

// beside lists the sockets that are open on the port of p for another address or interface.
func (r *Relay) beside(p place) []syscall.Conn {
	var others []syscall.Conn
	for q, l := range r.places {
		if q == p || !q.samePort(p) {
			continue
		}
		if c, ok := l.socket().(syscall.Conn); ok {
			others = append(others, c)
		}
	}
	return others
}

func openOn(ctx context.Context, n node.Node, p place, b node.Binding) (*listener, error) {
	if b.Interface != "" || len(b.Beside) > 0 {
		binder, ok := n.(node.Binder)
		if !ok {
			return nil, fmt.Errorf("node %s cannot listen on one interface", p.node)
		}
		n = binder.Bind(b)
	}
	l := &listener{place: p, users: map[*task]bool{}}
	network, addr := p.dialect()
	var err error
	if p.called.hosts != "" {
		namer, ok := n.(node.Namer)
		if !ok {
			return nil, fmt.Errorf("node %s cannot tell clients apart by name", p.node)
		}
		l.stream, err = namer.ListenNamed(ctx, p.door())
		l.stated, _ = l.stream.(node.Stated)
		return l, err
	}
	if p.network != forward.UDP {
		l.stream, err = n.Listen(ctx, network, addr)
		l.stated, _ = l.stream.(node.Stated)
		return l, err
	}
	packets, ok := n.(node.PacketNode)
	if !ok {
		return nil, fmt.Errorf("node %s carries no udp", p.node)
	}
	conn, err := packets.ListenPacket(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.packets = newPacketListener(conn, p.addr)
	l.stated, _ = conn.(node.Stated)
	return l, nil
}

// start begins to take clients in.
func (r *Relay) start(ctx context.Context, l *listener) {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.started = true
	switch {
	case l.packets != nil:
		r.startPackets(ctx, l)
	default:
		if l.door = r.takeOver(ctx, l); l.door == nil {
			r.wg.Go(func() { r.acceptStreams(ctx, l) })
		}
	}
}

// close ends the listener, and the flows that only its socket could answer. Streams go on.
func (l *listener) close() {
	if l.stop != nil {
		l.stop()
	}
	switch {
	case l.door != nil:
		_ = l.door.Close()
		return
	case l.packets == nil:
		_ = l.stream.Close()
		return
	}
	l.packets.close()
}

func (l *listener) socket() any {
	switch {
	case l.packets != nil:
		return l.packets.socket()
	case l.door != nil:
		return l.door
	}
	return l.stream
}

// A door is a listening socket that the engine accepts from.
type door interface {
	io.Closer
	syscall.Conn
}

// acceptStreams takes clients in until the listener is closed.
func (r *Relay) acceptStreams(ctx context.Context, l *listener) {
	for r.pause.wait(ctx) {
		if r.crowded() {
			if !r.retryAfter(ctx, l, errCrowded) {
				return
			}
			continue
		}
		conn, err := l.stream.Accept()
		if err == nil {
			conn, begun := takeOpened(conn)
			r.goServe(ctx, l, conn, begun)
			continue
		}
		if ctx.Err() != nil || !r.retryAfter(ctx, l, err) {
			return
		}
	}
}

// An opened connection is one of which the listener has read something, to find out for whom it is. Take is the socket, with what was
// read of it.
type opened interface {
	Take() (conn net.Conn, read []byte)
}

// takeOpened is a connection that can be carried without a wrapper, and what was read of it before, nil for nothing.
func takeOpened(conn net.Conn) (net.Conn, *talk) {
	o, ok := conn.(opened)
	if !ok {
		return conn, nil
	}
	conn, read := o.Take()
	if len(read) == 0 {
		return conn, nil
	}
	return conn, &talk{said: read}
}

// goServe gives a client a goroutine. begun is what was said on conn before, or nil.
func (r *Relay) goServe(ctx context.Context, l *listener, conn net.Conn, begun *talk) {
	r.held.Add(2)
	r.slow.Add(1)
	r.wg.Go(func() {
		defer r.slow.Add(-1)
		if !r.serveStream(ctx, l, conn, begun) {
			r.held.Add(-2)
		}
	})
}

// retryAfter waits as long as an error of a listening socket asks for: true to go on, false when the listener has ended.
func (r *Relay) retryAfter(ctx context.Context, l *listener, err error) bool {
	wait := r.waitAfter(l, err)
	return wait >= 0 && sleep(ctx, wait)
}

// waitAfter decides what an error of a listening socket means: how long to wait before the next try, or a negative time when
// the listener has ended and the next Apply is to open it again.
func (r *Relay) waitAfter(l *listener, err error) time.Duration {
	var errno syscall.Errno
	switch {
	case isScarce(err):
		if r.pause.begin(err) {
			r.log.Warn("accepting is paused", keyListen, l.place.String(), keyError, err)
		}
		return r.pause.left()
	case errors.As(err, &errno) && errno != syscall.EBADF && errno != syscall.EINVAL:
		// The trouble of one client or datagram, such as ECONNABORTED (accept(2), "Error handling"). Should it last, the
		// pause keeps the loop from spinning.
		return minPause
	case isTimeout(err):
		return minPause
	}
	l.broken.Store(true)
	r.anyBroken.Store(true)
	r.mu.RLock()
	for t := range l.users {
		t.listenerEnded(l.place, err)
	}
	r.mu.RUnlock()
	level := slog.LevelError
	if errors.Is(err, node.ErrClosed) {
		level = slog.LevelInfo // its node is no longer declared, or is another one now
	}
	r.log.Log(context.Background(), level, "a listener ended by itself", keyListen, l.place.String(), keyError, err)
	return -1
}

// match finds the forward that serves this client, and its task. Without one the task is whom to count the refusal for.
func (r *Relay) match(l *listener, client, local netip.Addr) (*task, *forward.Forward) {
	return r.matchCalled(l, client, local, calling{})
}

// matchCalled is match for a client of whom it may be known whom it calls. While that is not known, a forward with names stands for
// all that share its port.
func (r *Relay) matchCalled(l *listener, client, local netip.Addr, c calling) (*task, *forward.Forward) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !l.place.shared() {
		if t := l.blame; t == nil || client.IsValid() && !t.f.Admits(client) {
			return t, nil
		}
		return l.blame, l.blame.f
	}
	from := l.place.iface
	if from == "" {
		from = otherInterfaces
	}
	f := r.index.Match(forward.Packet{
		Network: l.place.network, Client: client, Addr: local, Local: true, Port: l.place.port, Interface: from,
		Called: c.known, Host: c.host,
	})
	if f == nil {
		return l.blame, nil
	}
	return r.owners[f], f
}

// pickBlame finds the user that serves the most clients. The caller holds Relay.mu.
func (l *listener) pickBlame() {
	l.blame = nil
	for t := range l.users {
		if l.blame == nil || broader(t.f, l.blame.f) {
			l.blame = t
		}
	}
}

// broader reports whether f is less specific than g about who calls; ties go by name, to have one answer.
func broader(f, g *forward.Forward) bool {
	a, b := widest(f), widest(g)
	if a != b {
		return a < b
	}
	return f.Name < g.Name
}

func widest(f *forward.Forward) int {
	bits := 128
	for _, p := range f.From {
		bits = min(bits, p.Bits())
	}
	if len(f.From) == 0 {
		bits = 0
	}
	return bits
}
