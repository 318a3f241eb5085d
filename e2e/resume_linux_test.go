package e2e

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A transfer is connections over which both ends send numbers that the other end knows, until they are told to stop.
type transfer struct {
	t     testing.TB
	ln    net.Listener
	stop  chan struct{}
	conns []*twoWay
	tasks sync.WaitGroup

	mu     sync.Mutex
	open   []net.Conn
	closed bool
}

// A twoWay is one connection, with what each end has done: the visitor's first.
type twoWay struct {
	ends [2]transferEnd
}

type transferEnd struct {
	conn     net.Conn
	sent     atomic.Int64
	received atomic.Int64
	err      error // the first that went wrong; to be read after the tasks
	once     sync.Once
}

// startTransfer opens n connections, up to 256, to an address that leads to the port of a host, where this process listens.
func startTransfer(t testing.TB, visitor *netlab.Node, addr string, host *netlab.Node, port, n int) *transfer {
	t.Helper()
	ln, err := host.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	x := &transfer{t: t, ln: ln, stop: make(chan struct{}), conns: make([]*twoWay, n)}
	for i := range x.conns {
		x.conns[i] = &twoWay{}
	}
	x.tasks.Go(x.serve)
	t.Cleanup(func() {
		x.closeAll()
		x.tasks.Wait()
	})
	for i, c := range x.conns {
		conn, err := visitor.Dial(t.Context(), "tcp", addr)
		if err == nil {
			_, err = conn.Write([]byte{byte(i)})
		}
		if err != nil {
			t.Fatal(err)
		}
		x.run(c, i, 0, conn)
	}
	return x
}

// serve takes the connections, of which each says which one it is.
func (x *transfer) serve() {
	defer x.ln.Close()
	for range x.conns {
		conn, err := x.ln.Accept()
		if err != nil {
			return
		}
		which := make([]byte, 1)
		if _, err := io.ReadFull(conn, which); err != nil || int(which[0]) >= len(x.conns) {
			x.t.Errorf("a connection is number %d: %v", which, err)
			_ = conn.Close()
			continue
		}
		x.run(x.conns[which[0]], int(which[0]), 1, conn)
	}
}

// run sends and checks at one end.
func (x *transfer) run(c *twoWay, which, side int, conn net.Conn) {
	x.mu.Lock()
	x.open = append(x.open, conn)
	if x.closed {
		_ = conn.Close()
	}
	x.mu.Unlock()
	e := &c.ends[side]
	e.conn = conn
	x.tasks.Go(func() { e.failed("send", x.send(e, numbers(which, side))) })
	x.tasks.Go(func() { e.failed("receive", e.receive(numbers(which, 1-side))) })
}

// numbers is what one end of a connection sends.
func numbers(which, side int) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(which), byte(side)})
}

// failed keeps the first error.
func (e *transferEnd) failed(what string, err error) {
	if err != nil {
		e.once.Do(func() { e.err = fmt.Errorf("%s: %w", what, err) })
	}
}

const transferEach = 64 << 10

// errWrongByte is that something else came than what was sent.
var errWrongByte = errors.New("not what was sent")

// send sends pieces of any length, about two megabytes in a second, and says when that was all.
func (x *transfer) send(e *transferEnd, from *rand.ChaCha8) error {
	lengths := rand.New(rand.NewPCG(from.Uint64(), 0)) //nolint:gosec // nobody has to be unable to guess it
	buf := make([]byte, transferEach)
	for {
		select {
		case <-x.stop:
			return e.conn.(*net.TCPConn).CloseWrite()
		case <-time.After(16 * time.Millisecond):
		}
		b := buf[:1+lengths.IntN(len(buf))]
		_, _ = from.Read(b) // never fails
		n, err := e.conn.Write(b)
		e.sent.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// receive holds what comes to what was to come.
func (e *transferEnd) receive(from *rand.ChaCha8) error {
	from.Uint64() // which the sender has used
	got, want := make([]byte, transferEach), make([]byte, transferEach)
	for {
		n, err := e.conn.Read(got)
		_, _ = from.Read(want[:n])
		for i := range n {
			if got[i] != want[i] {
				return fmt.Errorf("%w: byte %d", errWrongByte, e.received.Load()+int64(i))
			}
		}
		e.received.Add(int64(n))
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (x *transfer) closeAll() {
	_ = x.ln.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for _, conn := range x.open {
		_ = conn.Close()
	}
}

// moved is how many bytes have come, of all connections, each way.
func (x *transfer) moved() (up, down int64) {
	for _, c := range x.conns {
		up += c.ends[1].received.Load()
		down += c.ends[0].received.Load()
	}
	return up, down
}

// flows reports whether something has come over every connection, each way.
func (x *transfer) flows() bool {
	for _, c := range x.conns {
		if c.ends[0].received.Load() == 0 || c.ends[1].received.Load() == 0 {
			return false
		}
	}
	return true
}

// ended waits until every end of every connection has noticed that it is over, with whatever error, and checks that what had come by then
// is what was sent.
func (x *transfer) ended() {
	x.t.Helper()
	_ = x.ln.Close() // a connection that has not come by now does not come
	over := make(chan struct{})
	go func() { defer close(over); x.tasks.Wait() }()
	select {
	case <-over:
	case <-time.After(30 * time.Second):
		x.t.Error("somebody still waits for a program that was killed")
		x.closeAll()
		<-over
	}
	for i, c := range x.conns {
		for side := range c.ends {
			if err := c.ends[side].err; errors.Is(err, errWrongByte) {
				x.t.Errorf("connection %d, end %d: %v", i, side, err)
			}
		}
	}
}

// finish has both ends of all connections stop, and checks that all that was sent has come, once and in order.
func (x *transfer) finish() {
	x.t.Helper()
	close(x.stop)
	ended := make(chan struct{})
	go func() { defer close(ended); x.tasks.Wait() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		x.t.Error("not all that was sent has come")
		x.closeAll()
		<-ended
	}
	for i, c := range x.conns {
		for side := range c.ends {
			e, other := &c.ends[side], &c.ends[1-side]
			if e.err != nil {
				x.t.Errorf("connection %d, end %d: %v after %d bytes of %d", i, side, e.err, e.received.Load(), other.sent.Load())
			} else if e.received.Load() != other.sent.Load() {
				x.t.Errorf("connection %d, end %d: %d bytes of %d came", i, side, e.received.Load(), other.sent.Load())
			}
		}
	}
}

// TestTunnelResumes interrupts the home's line twenty times at random, in three of them giving the home another address, while data
// goes both ways over several connections: none notices more than a pause.
func TestTunnelResumes(t *testing.T) {
	needs(t, "ip")
	for _, transport := range []string{"", "quic", "tls", "wss"} {
		name, text := transport, fmt.Sprintf("transports = %q\n", transport)
		if transport == "" {
			name, text = "any", ""
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newTunnelLab(t)
			hub := up(t, l.hub, hubFile)
			agent := agentUp(t, hub, l.home, "home", text+webAtHub)
			waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8000) })
			x := startTransfer(t, l.visitor, hubAddr+":8000", l.home, 8080, 8)
			l.interrupt(20, 3)
			x.finish()
			up, down := x.moved()
			t.Logf("%d kB up, %d kB down, %d links were lost", up>>10, down>>10, hub.agents()["home"].Resumed)
			if up < 1<<20 || down < 1<<20 {
				t.Errorf("%d bytes up, %d down", up, down)
			}
			if t.Failed() {
				t.Logf("hub:\n%s\nagent:\n%s", tail(hub.proc.Output()), tail(agent.proc.Output()))
			}
		})
	}
}

// TestTunnelKilledAtRandom kills the hub and the agent in the middle of transfers. Their connections end at both ends, what came of them is
// what was sent, and those that come later are served.
func TestTunnelKilledAtRandom(t *testing.T) {
	l := newTunnelLab(t)
	hub := up(t, l.hub, hubFile)
	agent := agentUp(t, hub, l.home, "home", webAtHub)
	chance := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // so that it can be done again
	for i := range 6 {
		waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8000) })
		x := startTransfer(t, l.visitor, hubAddr+":8000", l.home, 8080, 4)
		waitFor(t, "data goes both ways over all connections", x.flows) // or some would end before they have said which they are
		time.Sleep(time.Duration(100+chance.IntN(500)) * time.Millisecond)
		killed := [2]*daemon{hub, agent}[i%2]
		killed.proc.Kill()
		killed.start()
		x.ended()
	}
}

// interrupt cuts the home's line so often, in some of the cuts with another address for the home.
func (l *tunnelLab) interrupt(times, readdressed int) {
	l.t.Helper()
	var moves []int
	for i := range readdressed {
		moves = append(moves, (i+1)*times/readdressed-1)
	}
	chance := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // so that it can be done again
	last := 10
	for i := range times {
		time.Sleep(time.Duration(50+chance.IntN(500)) * time.Millisecond)
		if chance.IntN(3) == 0 {
			l.line.Unplug()
		} else {
			l.line.Cut()
		}
		time.Sleep(time.Duration(20+chance.IntN(600)) * time.Millisecond)
		if slices.Contains(moves, i) {
			last++
			l.home.Readdress(l.t, "eth0", fmt.Sprintf("100.64.0.%d/24", last))
		}
		l.line.Plug()
	}
}
