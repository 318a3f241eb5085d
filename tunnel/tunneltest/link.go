package tunneltest

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// Options say what a link is like; zero is one lane and no datagrams.
type Options struct {
	Agent, Hub tunnel.Key
	Transport  string // "": "tls", or "quic" with Lanes
	Lanes      bool   // as many as are wanted
	Datagrams  int    // the largest that fits; 0: there are none
	Buffer     int    // bytes that are under way in one direction of a lane; 0: 64 KiB
	CutAfter   int    // the link is cut when so many bytes have passed, both ways together; 0: it is not
}

// ErrCut is why a link ended that was cut.
var ErrCut = errors.New("the link was cut")

// A medium is what both ends of a link share.
type medium struct {
	o    Options
	done chan struct{}

	mu      sync.Mutex
	err     error
	left    int // until it is cut
	stalled bool
	pipes   []*pipe
}

// A Link is one end of a link in memory. It is a tunnel.Link.
type Link struct {
	*medium
	peer     tunnel.Key
	other    *Link
	arrivals chan tunnel.Lane
	packets  chan []byte
}

var _ tunnel.Link = (*Link)(nil)

// Pair makes a link, and returns the agent's end and the hub's.
func Pair(o Options) (agent, hub *Link) {
	if o.Buffer == 0 {
		o.Buffer = 64 << 10
	}
	if o.Transport == "" {
		o.Transport = "tls"
		if o.Lanes {
			o.Transport = "quic"
		}
	}
	m := &medium{o: o, done: make(chan struct{}), left: o.CutAfter}
	agent = &Link{medium: m, peer: o.Hub, arrivals: make(chan tunnel.Lane, 1<<10), packets: make(chan []byte, 128)}
	hub = &Link{medium: m, peer: o.Agent, arrivals: make(chan tunnel.Lane, 1<<10), packets: make(chan []byte, 128)}
	agent.other, hub.other = hub, agent
	return agent, hub
}

// Cut ends the link at both ends. What is under way is lost.
func (m *medium) Cut() { m.fail(ErrCut) }

// Stall has nothing come through any more, or again, without a word to either end.
func (m *medium) Stall(stalled bool) {
	m.mu.Lock()
	m.stalled = stalled
	pipes := m.pipes
	m.mu.Unlock()
	for _, p := range pipes {
		p.changed.Broadcast()
	}
}

// Lanes is how many lanes were opened, both ways together.
func (m *medium) Lanes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pipes) / 2
}

func (m *medium) isStalled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stalled
}

// passes is how many of n bytes get through before the link is cut.
func (m *medium) passes(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.o.CutAfter == 0 {
		return n
	}
	n = min(n, m.left)
	if m.left -= n; m.left == 0 {
		go m.fail(ErrCut)
	}
	return n
}

func (m *medium) fail(err error) {
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return
	}
	m.err = err
	pipes := m.pipes
	m.mu.Unlock()
	close(m.done)
	for _, p := range pipes {
		p.fail(err)
	}
}

func (m *medium) pipe() *pipe {
	p := newPipe(m, m.o.Buffer)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		p.err = m.err
	}
	m.pipes = append(m.pipes, p)
	return p
}

// Transport is that of tunnel.Link.
func (l *Link) Transport() string { return l.o.Transport }

// Peer is that of tunnel.Link.
func (l *Link) Peer() tunnel.Key { return l.peer }

// Remote is that of tunnel.Link.
func (l *Link) Remote() netip.AddrPort { return netip.MustParseAddrPort("192.0.2.1:443") }

// RTT is that of tunnel.Link: it is not known.
func (l *Link) RTT() time.Duration { return 0 }

// Done is that of tunnel.Link.
func (l *Link) Done() <-chan struct{} { return l.done }

// Err is that of tunnel.Link.
func (l *Link) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close is that of tunnel.Link. What was flushed and not read yet is lost, as with a reset.
func (l *Link) Close() error {
	l.fail(errors.New("the link was closed"))
	return nil
}

// Open is that of tunnel.Link.
func (l *Link) Open(context.Context) (tunnel.Lane, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	one := !l.o.Lanes && len(l.pipes) > 0
	l.mu.Unlock()
	if one {
		return nil, tunnel.ErrOneLane
	}
	there, back := l.pipe(), l.pipe()
	if l.o.Lanes {
		l.other.arrivals <- awaiter{&lane{in: there, out: back}}
		return awaiter{&lane{in: back, out: there}}, nil
	}
	l.other.arrivals <- &lane{in: there, out: back}
	return &lane{in: back, out: there}, nil
}

// Beside is both ends of a connection beside the link, which ends with it.
func (l *Link) Beside() (here, there tunnel.Lane) {
	out, back := l.pipe(), l.pipe()
	return &lane{in: back, out: out}, &lane{in: out, out: back}
}

// Accept is that of tunnel.Link.
func (l *Link) Accept(ctx context.Context) (tunnel.Lane, error) {
	select {
	case a := <-l.arrivals:
		return a, nil
	case <-l.done:
		return nil, l.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Datagram is that of tunnel.Link.
func (l *Link) Datagram(p []byte) error {
	switch {
	case l.o.Datagrams == 0:
		return errors.ErrUnsupported
	case len(p) > l.o.Datagrams:
		return &tunnel.TooLargeError{Max: l.o.Datagrams}
	case l.Err() != nil:
		return l.Err()
	case l.isStalled():
		return nil
	}
	select {
	case l.other.packets <- append([]byte(nil), p...):
	default:
	}
	return nil
}

// Datagrams is that of tunnel.Link.
func (l *Link) Datagrams(got func(p []byte)) error {
	if l.o.Datagrams == 0 {
		return errors.ErrUnsupported
	}
	for {
		select {
		case p := <-l.packets:
			got(p)
		case <-l.done:
			return l.Err()
		}
	}
}

// A lane is one end of two pipes.
type lane struct{ in, out *pipe }

// An awaiter is a lane of a transport with many, which says when there is something to be read.
type awaiter struct{ *lane }

var _ tunnel.Awaiter = awaiter{}

func (a awaiter) Await() { a.in.await() }

func (l *lane) Read(p []byte) (int, error)  { return l.in.read(p) }
func (l *lane) Write(p []byte) (int, error) { return l.out.write(p) }
func (l *lane) Flush() error                { return nil }

func (l *lane) SetReadDeadline(t time.Time) error {
	l.in.set(0, t)
	return nil
}

func (l *lane) SetWriteDeadline(t time.Time) error {
	l.out.set(1, t)
	return nil
}

func (l *lane) Close() error {
	l.out.end()
	l.in.end()
	return nil
}
