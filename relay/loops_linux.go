package relay

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/relay/engine"
)

// loops is the engine, started by the first listener that it can serve.
type loops struct {
	off bool

	mu     sync.Mutex
	engine *engine.Engine
}

// get returns nil when there is no engine, because nobody wants one or it could not be started.
func (l *loops) get() *engine.Engine {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.engine == nil && !l.off {
		l.engine, _ = engine.New() // out of descriptors: as on other systems, then
	}
	return l.engine
}

func (l *loops) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.engine != nil {
		l.engine.Close()
		l.engine = nil
	}
	l.off = true
}

// A socketDoor is a listening socket that the engine accepts from.
type socketDoor struct {
	*engine.Listener
	unlink string // the socket file that goes with it
}

func (d *socketDoor) Close() error {
	if d.unlink != "" {
		_ = os.Remove(d.unlink)
	}
	d.Listener.Close()
	return nil
}

func (d *socketDoor) SyscallConn() (syscall.RawConn, error) { return rawSocket(d.FD()), nil }

// rawSocket is a descriptor whose options can be set.
type rawSocket int

func (s rawSocket) Control(f func(fd uintptr)) error { f(uintptr(s)); return nil }

func (rawSocket) Read(func(fd uintptr) bool) error  { return syscall.EINVAL }
func (rawSocket) Write(func(fd uintptr) bool) error { return syscall.EINVAL }

// fastOpenQueue is how many clients may wait whose first bytes came with the SYN and whose address is not proven yet (RFC 7413,
// section 5.1).
const fastOpenQueue = 256

// takeOver has the engine accept the clients of l where that is a socket of this machine's kernel; nil: it is not. The
// listener of package net is closed, because the runtime would be woken for every client, too.
func (r *Relay) takeOver(ctx context.Context, l *listener) door {
	d := &socketDoor{}
	switch ln := l.stream.(type) {
	case *net.TCPListener:
	case *net.UnixListener:
		ln.SetUnlinkOnClose(false)
		d.unlink = l.place.path
	case node.Greeter:
		ln.Greet((&gate{relay: r, listener: l, ctx: ctx}).meet)
		return nil
	default:
		return nil
	}
	e := r.loops.get()
	if e == nil {
		return nil
	}
	fd, err := duplicate(l.stream)
	if err != nil {
		return nil
	}
	_ = l.stream.Close()
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // those that are accepted inherit it
	l.offerFastOpen(fd)
	d.Listener = e.Listen(fd, &gate{relay: r, listener: l, ctx: ctx})
	return d
}

// wishesChanged is called when other forwards than before use l.
func (l *listener) wishesChanged() {
	if d, ok := l.door.(*socketDoor); ok {
		l.offerFastOpen(d.FD())
	}
}

// offerFastOpen has the listening socket take bytes with the SYN while a forward that uses it wants that. Where the system
// refuses, or has it switched off (net.ipv4.tcp_fastopen), there is an ordinary handshake.
func (l *listener) offerFastOpen(fd int) {
	if l.place.network != forward.TCP {
		return
	}
	queue := 0
	for t := range l.users {
		if t.f.FastOpen {
			queue = fastOpenQueue
		}
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, queue)
}

// duplicate is another descriptor of a socket of package net's.
func duplicate(c any) (fd int, err error) {
	fd, err = -1, syscall.EINVAL
	s, ok := c.(syscall.Conn)
	if !ok {
		return fd, err
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return fd, err
	}
	if outer := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); outer != nil {
		return -1, outer
	}
	return fd, err
}

// netConn makes a connection of package net's out of an accepted socket, which it takes over.
func netConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close()
	return net.FileConn(f)
}

// A handed is a stream that was dialled with the means of package net and is carried by the engine.
type handed struct {
	engine.Stream
	relay  *Relay
	stream *stream
}

// handOver has the engine carry a stream whose connections are sockets, or a node's connection where one is, and reports
// whether either does.
func (r *Relay) handOver(s *stream) bool {
	if r.bear(s) {
		return true
	}
	e := r.loops.get()
	if e == nil || !isSocket(s.near) || !isSocket(s.far) {
		return false
	}
	near, err := duplicate(s.near)
	if err != nil {
		return false
	}
	far, err := duplicate(s.far)
	if err != nil {
		_ = unix.Close(near)
		return false
	}
	h := &handed{relay: r, stream: s}
	h.Init(engine.Options{
		Owner: h, Client: near, Target: far, Unix: [2]bool{isUnix(s.near), isUnix(s.far)}, Idle: s.f.IdleTimeout,
		Limits: [2]engine.Limit{&s.upload, &s.download},
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed {
		_ = unix.Close(near)
		_ = unix.Close(far)
		return false
	}
	_ = s.near.Close() // the duplicates are still open
	_ = s.far.Close()
	r.wg.Add(1)
	s.handed = h
	e.Start(&h.Stream)
	return true
}

func isSocket(c net.Conn) bool {
	_, tcp := c.(*net.TCPConn)
	return tcp || isUnix(c)
}

func isUnix(c net.Conn) bool {
	_, ok := c.(*net.UnixConn)
	return ok
}

func (h *handed) kill() { h.Kill() }

func (h *handed) bytes() (in, out uint64) { return h.Moved(engine.Client), h.Moved(engine.Target) }

// Connected is not called: the target had answered before.
func (h *handed) Connected(*engine.Stream) {}

// Failed is not called, either.
func (h *handed) Failed(*engine.Stream, error) (int, time.Duration) { return -1, 0 }

// Ended lets go of what is held for the stream.
func (h *handed) Ended(*engine.Stream) {
	h.stream.task.leave(h.stream)
	h.relay.held.Add(-2)
	h.relay.wg.Done()
}
