package hub

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/node/nodetest"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A town is a network in memory, for tests of package synctest, whose clock stands still while somebody waits for the kernel.
type town struct {
	mu   sync.Mutex
	last int
	open map[int]*stall
}

// A stall is a listener of a town.
type stall struct {
	town  *town
	port  int
	queue chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (t *town) Listen(_ context.Context, _, addr string) (net.Listener, error) {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open, t.last = map[int]*stall{}, 20000
	}
	if port == 0 {
		t.last++
		port = t.last
	}
	if t.open[port] != nil {
		return nil, syscall.EADDRINUSE
	}
	s := &stall{town: t, port: port, queue: make(chan net.Conn), done: make(chan struct{})}
	t.open[port] = s
	return s, nil
}

func (t *town) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	s := t.open[port]
	t.mu.Unlock()
	if s == nil {
		return nil, syscall.ECONNREFUSED
	}
	near, far := net.Pipe()
	select {
	case s.queue <- far:
		return near, nil
	case <-s.done:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (*town) ListenPacket(context.Context, string, string) (net.PacketConn, error) {
	return nil, errors.ErrUnsupported
}

func (*town) DialPacket(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (s *stall) Accept() (net.Conn, error) {
	select {
	case c := <-s.queue:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *stall) Close() error {
	s.once.Do(func() {
		close(s.done)
		s.town.mu.Lock()
		defer s.town.mu.Unlock()
		delete(s.town.open, s.port)
	})
	return nil
}

func (s *stall) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.port} }

// days is a world in which time passes at once.
func days(t *testing.T, test func(w *world, at *town)) {
	synctest.Test(t, func(t *testing.T) {
		at := &town{}
		w := &world{T: t, store: store.Memory(), doors: &nodetest.Forwards{At: at}, nodes: node.NewSet(at, nil, nil)}
		t.Cleanup(w.doors.Close)
		w.begin(nil)
		t.Cleanup(func() { w.stop() })
		test(w, at)
	})
}

// client connects to a listener of a town, whose other end echoes.
func (w *world) client(at *town, l net.Listener) net.Conn {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := at.Dial(ctx, "tcp", l.Addr().String())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	if err := says(c); err != nil {
		w.Fatal(err)
	}
	_ = c.SetDeadline(time.Time{})
	return c
}

// A road is how an agent gets to its hub: not at all while it is closed.
type road struct {
	mu     sync.Mutex
	closed bool
	tries  int
}

func (r *road) close(closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = closed
}

func (r *road) tried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

// by has an agent take the road.
func (r *road) by(o *agent.HubOptions) {
	connect := o.Connect
	o.Connect = func(ctx context.Context, failed func(error)) (tunnel.Link, error) {
		r.mu.Lock()
		closed := r.closed
		r.tries++
		r.mu.Unlock()
		if closed {
			return nil, errors.New("the road is closed")
		}
		return connect(ctx, failed)
	}
}

// TestADay is a day of an agent whose link is cut or falls silent every hour, whose line is down for some minutes now and then, and whose hub restarts once.
// One connection is open all the time, until the agent was away for longer than sessions are kept.
func TestADay(t *testing.T) {
	days(t, func(w *world, at *town) {
		began := time.Now()
		w.enrol(anna, "anna", Limits{})
		var r road
		m := w.run(anna, r.by)
		l := w.listen(m, "127.0.0.1:0")
		place := l.Addr().String()
		c := w.client(at, l)
		back := func(what string) {
			w.Helper()
			if err := says(c); err != nil {
				w.Fatalf("%s, %v after the beginning: %v", what, time.Since(began), err)
			}
			_ = c.SetDeadline(time.Time{})
		}
		for hour := range 22 {
			time.Sleep(time.Hour)
			if !m.State().Up {
				t.Fatalf("an idle link has ended: %s", m.State().Why)
			}
			switch hour % 4 {
			case 0:
				m.cut()
			case 1:
				silent := time.Now()
				m.stall()
				<-m.Session().Changed()
				if took := time.Since(silent); took > 10*time.Second {
					t.Errorf("a silent link was noticed after %v", took)
				}
			case 2:
				r.close(true)
				m.cut()
				time.Sleep(4*time.Minute + 30*time.Second)
				r.close(false)
				time.Sleep(23 * time.Second) // the longest from one try to the next
			}
			back("the open connection")
			w.client(at, l).Close()
		}
		w.eventually("one connection is left", func() bool { return w.hub.Agents()[0].Sessions == 1 })
		if n := w.hub.Agents()[0].Resumed; n < 15 {
			t.Errorf("it has resumed %d times", n)
		}

		r.close(true) // for longer than sessions are kept
		m.cut()
		time.Sleep(6 * time.Minute)
		w.ends("after six minutes", c)
		tries := r.tried()
		time.Sleep(time.Hour)
		if n := r.tried() - tries; n < 3600/30 || n > 3600/7 { // every 7.5 to 22.5 s
			t.Errorf("%d tries in an hour", n)
		}
		r.close(false)
		time.Sleep(23 * time.Second)
		w.eventually("the agent is back", func() bool { return m.State().Up && l.(node.Stated).State().Up })
		if l.Addr().String() != place {
			t.Errorf("it listens at %s, and did at %s", l.Addr(), place)
		}
		c = w.client(at, l)

		w.stop()
		time.Sleep(time.Minute)
		w.ends("after the hub's end", c)
		w.begin(nil)
		time.Sleep(23 * time.Second)
		w.eventually("the agent is back", func() bool { return m.State().Up && l.(node.Stated).State().Up })
		if l.Addr().String() != place {
			t.Errorf("after the restart it listens at %s, and did at %s", l.Addr(), place)
		}
		w.client(at, l)
	})
}

// TestADayAway: for a day nobody else gets the place of an agent that is away.
func TestADayAway(t *testing.T) {
	days(t, func(w *world, at *town) {
		w.enrol(anna, "anna", Limits{})
		w.enrol(ben, "ben", Limits{})
		m := w.run(anna, nil)
		place := w.listen(m, "127.0.0.1:0").Addr().String()
		time.Sleep(time.Hour)
		m.stop()
		gone := time.Now()
		b := w.run(ben, nil)
		l, err := b.Listen(w.Context(), "tcp", place)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(hold - 2*time.Minute) // it was last noted some seconds before
		if l.(node.Stated).State().Up {
			t.Errorf("another has the place after %v", time.Since(gone))
		}
		time.Sleep(time.Hour)
		if !l.(node.Stated).State().Up {
			t.Errorf("another does not get the place after %v: %s", time.Since(gone), l.(node.Stated).State().Why)
		}
	})
}

// TestWhatExpires: a token that nobody uses, and what an agent may, in time.
func TestWhatExpires(t *testing.T) {
	days(t, func(w *world, at *town) {
		w.enrol(anna, "anna", Limits{Expires: time.Now().Add(24 * time.Hour)})
		m := w.run(anna, nil)
		l := w.listen(m, "127.0.0.1:0")
		c := w.client(at, l)
		unused, err := w.hub.NewToken(TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		used, err := w.hub.NewToken(TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		if _, err := w.join(ben, used.Secret(), "ben"); err != nil {
			t.Errorf("after 59 minutes: %v", err)
		}
		time.Sleep(2 * time.Minute)
		var said *tunnel.Error
		if _, err := w.join(tunnel.Key{3}, unused.Secret(), "carl"); !errors.As(err, &said) || said.Code != tunnel.Secret {
			t.Errorf("after 61 minutes: %v", err)
		}
		time.Sleep(22*time.Hour + 55*time.Minute)
		if err := says(c); err != nil {
			t.Errorf("some minutes before the end: %v", err)
		}
		_ = c.SetDeadline(time.Time{})
		time.Sleep(10 * time.Minute)
		w.ends("expired", c)
		if open := w.doors.Open(); len(open) > 0 {
			t.Errorf("it listens at %v", open)
		}
	})
}
