package link

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead-net/fairlead/tunnel"
)

// A quicLink is a link over QUIC. Its lanes are bidirectional streams.
type quicLink struct {
	*sides
	conn  *quic.Conn
	peer  tunnel.Key
	admit func() // as in oneLane

	silence  silence
	watching sync.WaitGroup // for changes of the network; an agent's

	once sync.Once
	done chan struct{}
	err  error // before done is closed

	mu      sync.Mutex
	sockets []*quicSocket // of an agent; all it ever had
	flushed time.Time
	out     chan []byte // datagrams; nil: there was none yet
}

var (
	_ tunnel.Link    = (*quicLink)(nil)
	_ tunnel.Awaiter = (*quicLane)(nil)
)

// newQUICLink makes a link of a connection whose handshake is over. s is its socket, if it is the link's own; beside may be nil.
func newQUICLink(conn *quic.Conn, peer tunnel.Key, s *quicSocket, beside *sides, admit func()) *quicLink {
	l := &quicLink{sides: beside, conn: conn, peer: peer, admit: admit, done: make(chan struct{})}
	if s != nil {
		l.sockets = []*quicSocket{s}
	}
	l.silence.link = l
	context.AfterFunc(conn.Context(), func() {
		l.silence.stop()
		l.end(quicCause(context.Cause(conn.Context())))
		_ = conn.CloseWithError(0, "") // a guest of the gate's is evicted by its context alone, of which quic-go takes no notice
		l.mu.Lock()
		sockets := l.sockets
		l.sockets = nil
		l.mu.Unlock()
		for _, s := range sockets {
			s.close()
		}
	})
	return l
}

// quicCause says why a connection ended.
func quicCause(err error) error {
	var app *quic.ApplicationError
	if errors.As(err, &app) && app.Remote {
		return errPeerClosed
	}
	return err
}

func (l *quicLink) Transport() string      { return QUIC }
func (l *quicLink) Peer() tunnel.Key       { return l.peer }
func (l *quicLink) Remote() netip.AddrPort { return addrPort(l.conn.RemoteAddr()) }
func (l *quicLink) Done() <-chan struct{}  { return l.done }
func (l *quicLink) RTT() time.Duration     { return l.conn.ConnectionStats().SmoothedRTT }

func (l *quicLink) Open(ctx context.Context) (tunnel.Lane, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	s, err := l.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return &quicLane{link: l, s: s}, nil
}

func (l *quicLink) Accept(ctx context.Context) (tunnel.Lane, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	s, err := l.conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return &quicLane{link: l, s: s}, nil
}

func (l *quicLink) Err() error {
	select {
	case <-l.done:
		return l.err
	default:
		return nil
	}
}

// The time that what was flushed has to arrive in when the link is closed.
const (
	lingerLeast = 30 * time.Millisecond
	lingerMost  = 500 * time.Millisecond
)

// Close ends the link. QUIC forgets what was not delivered yet when a connection is closed, so one on which something was just
// said is closed a little later.
func (l *quicLink) Close() error {
	l.end(errClosed)
	l.mu.Lock()
	flushed := l.flushed
	l.flushed = time.Time{}
	l.mu.Unlock()
	linger := min(max(3*l.RTT(), lingerLeast), lingerMost)
	if time.Since(flushed) >= linger {
		return l.conn.CloseWithError(0, "")
	}
	stop := time.AfterFunc(linger, func() { _ = l.conn.CloseWithError(0, "") })
	context.AfterFunc(l.conn.Context(), func() { stop.Stop() })
	return nil
}

func (l *quicLink) end(why error) {
	l.once.Do(func() {
		l.err = why
		l.sides.end()
		close(l.done)
		if l.admit != nil {
			l.admit()
		}
	})
}

func (l *quicLink) said() {
	if l.admit != nil {
		l.admit()
	}
	l.mu.Lock()
	l.flushed = time.Now()
	l.mu.Unlock()
}

// laneSize is how much a lane holds back.
const laneSize = 32 << 10

var lanePool pool

// A quicLane is a stream of QUIC. What is written is held back until Flush, because each write to a stream wakes quic-go.
type quicLane struct {
	link *quicLink
	s    *quic.Stream

	mu     sync.Mutex // writes
	held   []byte     // nil: nothing
	used   int
	closed bool

	peeked [1]byte // by the one that reads

	deadline sync.Mutex
	over     bool // deadlines are not changed any more
}

func (l *quicLane) Read(p []byte) (int, error) {
	n, err := l.s.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && l.link.Err() != nil {
		err = l.link.Err()
	}
	return n, err
}

// Await is that of tunnel.Awaiter.
func (l *quicLane) Await() { _, _ = l.s.Peek(l.peeked[:]) }

func (l *quicLane) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return 0, err
	}
	if l.used+len(p) > laneSize {
		if err := l.flushLocked(); err != nil {
			return 0, err
		}
	}
	if len(p) >= laneSize {
		return l.s.Write(p)
	}
	if l.held == nil {
		l.held = lanePool.get(laneSize)
	}
	l.used += copy(l.held[l.used:], p)
	return len(p), nil
}

func (l *quicLane) usable() error {
	if l.closed {
		return errClosed
	}
	return l.link.Err()
}

func (l *quicLane) Flush() error {
	l.link.said()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	return l.flushLocked()
}

func (l *quicLane) flushLocked() error {
	if l.held == nil {
		return nil
	}
	_, err := l.s.Write(l.held[:l.used])
	lanePool.put(l.held)
	l.held, l.used = nil, 0
	return err
}

func (l *quicLane) SetReadDeadline(t time.Time) error { return l.s.SetReadDeadline(t) }

func (l *quicLane) SetWriteDeadline(t time.Time) error {
	l.deadline.Lock()
	defer l.deadline.Unlock()
	if l.over {
		return errClosed
	}
	return l.s.SetWriteDeadline(t)
}

// Close ends the lane. What was flushed is delivered yet.
func (l *quicLane) Close() error {
	l.deadline.Lock()
	l.over = true
	_ = l.s.SetWriteDeadline(time.Unix(1, 0)) // a write that waits ends, because Close must not come beside one
	l.deadline.Unlock()
	l.s.CancelRead(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.held != nil {
		lanePool.put(l.held)
		l.held, l.used = nil, 0
	}
	return l.s.Close()
}
