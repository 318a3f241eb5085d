package tunnel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// A side is a session and what its handler does.
type side struct {
	*tunnel.Session
	opened func(*tunnel.Arrival)
	asked  func(name string, payload []byte, reply func([]byte, error))
}

func (s *side) Opened(a *tunnel.Arrival) { s.opened(a) }
func (s *side) Asked(name string, payload []byte, reply func([]byte, error)) {
	s.asked(name, payload, reply)
}

// A duo is a hub's session and its agent's.
type duo struct {
	t          *testing.T
	agent, hub *side
	link       tunneltest.Options
	cancel     context.CancelFunc
	ended      sync.WaitGroup
}

var agentKey, hubKey = tunnel.Key{1}, tunnel.Key{2}

// newDuo runs both sessions, and looks for goroutines that they leave.
func newDuo(t *testing.T, link tunneltest.Options, o tunnel.Options) *duo {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 200 {
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines are left of %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
	})
	return newDuoInBubble(t, link, o)
}

// newDuoInBubble is for tests of package synctest, which looks for goroutines itself.
func newDuoInBubble(t *testing.T, link tunneltest.Options, o tunnel.Options) *duo {
	t.Helper()
	link.Agent, link.Hub = agentKey, hubKey
	d := &duo{t: t, link: link}
	begin := func(which tunnel.Side) *side {
		s := &side{opened: echo, asked: func(name string, p []byte, reply func([]byte, error)) { reply(p, nil) }}
		o.Side, o.ID, o.Handler = which, tunnel.ID{7}, s
		s.Session = tunnel.New(o)
		return s
	}
	d.agent, d.hub = begin(tunnel.Agent), begin(tunnel.Hub)
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.ended.Go(func() { _ = d.agent.Run(ctx) })
	d.ended.Go(func() { _ = d.hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		d.ended.Wait()
	})
	return d
}

// echo accepts and sends back what comes.
func echo(a *tunnel.Arrival) {
	st, err := a.Accept(nil)
	if err != nil {
		return
	}
	go func() {
		if a.Network == "udp" {
			for b := make([]byte, 65507); ; { // and not io.Copy, which does not write what is empty
				n, err := st.Read(b)
				if err != nil {
					break
				}
				_, _ = st.Write(b[:n])
			}
		}
		_, _ = io.Copy(struct{ io.Writer }{st}, struct{ io.Reader }{st})
		_ = st.CloseWrite()
		_ = st.Close()
	}()
}

// connect attaches a new link.
func (d *duo) connect(o tunneltest.Options) (*tunneltest.Link, error) {
	o.Agent, o.Hub = agentKey, hubKey
	a, h := tunneltest.Pair(o)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	joined := make(chan error, 1)
	go func() {
		c, err := tunnel.Receive(ctx, h)
		if err == nil {
			err = c.Join(d.hub.Session, tunnel.Hello{Name: "hub"})
		}
		joined <- err
	}()
	_, err := d.agent.Attach(ctx, a, tunnel.Hello{Name: "agent"})
	return a, errors.Join(err, <-joined)
}

func (d *duo) mustConnect() *tunneltest.Link {
	d.t.Helper()
	l, err := d.connect(d.link)
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

func (d *duo) open(s *side, c tunnel.Call) *tunnel.Stream {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	st, err := s.Open(ctx, c)
	if err != nil {
		d.t.Fatal(err)
	}
	return st
}

func tcp(addr string) tunnel.Call {
	return tunnel.Call{Kind: tunnel.Dial, Network: "tcp", Address: addr}
}

// links is each kind of link.
func links(t *testing.T, test func(t *testing.T, o tunneltest.Options)) {
	for name, o := range map[string]tunneltest.Options{
		"one lane":   {},
		"many lanes": {Lanes: true, Datagrams: 1200},
	} {
		t.Run(name, func(t *testing.T) { test(t, o) })
	}
}

func TestStreamEchoes(t *testing.T) {
	links(t, func(t *testing.T, o tunneltest.Options) {
		d := newDuo(t, o, tunnel.Options{})
		d.mustConnect()
		for _, s := range []*side{d.hub, d.agent} {
			st := d.open(s, tcp("x:1"))
			data := bytes.Repeat([]byte("0123456789abcdef"), 200000)
			go func() {
				_, _ = st.Write(data)
				_ = st.CloseWrite()
			}()
			got, err := io.ReadAll(st)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d of %d bytes came back, %v", len(got), len(data), err)
			}
			_ = st.Close()
		}
		d.settles()
	})
}

// TestBulkHasItsOwnLane: of a transport with many, a stream that sends a lot has one of its own, which is closed with it.
func TestBulkHasItsOwnLane(t *testing.T) {
	d := newDuo(t, tunneltest.Options{Lanes: true}, tunnel.Options{})
	l := d.mustConnect()
	st := d.open(d.hub, tcp("x:1"))
	small := d.open(d.hub, tcp("x:1"))
	if _, err := small.Write([]byte("x")); err != nil || l.Lanes() != 1 {
		t.Errorf("%d lanes for what is small, %v", l.Lanes(), err)
	}
	go func() {
		_, _ = st.Write(make([]byte, 10<<20))
		_ = st.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{st}); n != 10<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	_, _ = small.Read(make([]byte, 1))
	_, _ = st.Close(), small.Close()
	d.settles()
	if n := l.Lanes(); n != 3 { // one for each direction
		t.Errorf("%d lanes", n)
	}
}

// settles waits until no stream is left.
func (d *duo) settles() {
	d.t.Helper()
	for range 1000 {
		if d.hub.Status().Streams == 0 && d.agent.Status().Streams == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	d.t.Fatalf("streams are left: %d at the hub, %d at the agent", d.hub.Status().Streams, d.agent.Status().Streams)
}

func TestStreamIsRefused(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.agent.opened = func(a *tunnel.Arrival) { a.Refuse(tunnel.Unreachable, "connection refused") }
	d.mustConnect()
	_, err := d.hub.Open(t.Context(), tcp("x:1"))
	var e *tunnel.Error
	if !errors.As(err, &e) || e.Code != tunnel.Unreachable || e.Text != "connection refused" || !errors.Is(err, node.ErrFar) {
		t.Errorf("%v", err)
	}
	d.settles()
}

func TestOpenWaitsForALink(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.hub.Open(ctx, tcp("x:1")); !errors.Is(err, node.ErrAway) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a link: %v", err)
	}
	opened := make(chan error, 1)
	go func() {
		st, err := d.hub.Open(context.Background(), tcp("x:1"))
		if err == nil {
			_, err = st.Write([]byte("hello"))
			b := make([]byte, 5)
			_, _ = io.ReadFull(st, b)
			if string(b) != "hello" {
				err = fmt.Errorf("%q", b)
			}
			_ = st.Close()
		}
		opened <- err
	}()
	time.Sleep(10 * time.Millisecond)
	d.mustConnect()
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestRequests(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.hub.asked = func(name string, p []byte, reply func([]byte, error)) {
		go func() {
			if name == "bad" {
				reply(nil, &tunnel.Error{Code: tunnel.Busy, Text: "taken"})
				return
			}
			reply(append([]byte(name+":"), p...), nil)
		}()
	}
	d.mustConnect()
	if got, err := d.agent.Ask(t.Context(), "listen", []byte("80")); err != nil || string(got) != "listen:80" {
		t.Errorf("%q, %v", got, err)
	}
	var e *tunnel.Error
	if _, err := d.agent.Ask(t.Context(), "bad", nil); !errors.As(err, &e) || e.Code != tunnel.Busy || e.Text != "taken" {
		t.Errorf("%v", err)
	}
	if got, err := d.hub.Ask(t.Context(), "to the agent", bytes.Repeat([]byte("x"), 64<<10)); err != nil || len(got) != 64<<10 {
		t.Errorf("%d, %v", len(got), err)
	}
}

func TestFlowsKeepDatagrams(t *testing.T) {
	links(t, func(t *testing.T, o tunneltest.Options) {
		d := newDuo(t, o, tunnel.Options{})
		d.mustConnect()
		st := d.open(d.hub, tunnel.Call{Kind: tunnel.Dial, Network: "udp", Address: "x:53"})
		for _, size := range []int{0, 1, 1200, 1500, 9000, 65507} {
			p := bytes.Repeat([]byte{byte(size)}, size)
			if _, err := st.Write(p); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 70000)
			_ = st.SetReadDeadline(time.Now().Add(5 * time.Second))
			n, err := st.Read(b)
			if err != nil || !bytes.Equal(b[:n], p) {
				t.Fatalf("a datagram of %d bytes came back as %d, %v", size, n, err)
			}
		}
		_ = st.Close()
	})
}

// keepCutting connects again and again, and has each link cut at a random point before so many bytes have passed, until there were enough cuts. It
// goes on until stop is closed, and then says how many there were.
func (d *duo) keepCutting(o tunneltest.Options, within, enough int, stop chan struct{}, cuts chan int) {
	seed := uint64(time.Now().UnixNano())
	d.t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	n := 0
	defer func() { cuts <- n }()
	var older []*tunneltest.Link
	for {
		older = slices.DeleteFunc(older, func(l *tunneltest.Link) bool {
			if errors.Is(l.Err(), tunneltest.ErrCut) {
				n++
			}
			return l.Err() != nil
		})
		if o.CutAfter = 0; n < enough {
			o.CutAfter = 1 + random.IntN(within)
		}
		l, err := d.connect(o)
		older = append(older, l)
		if err == nil && (n >= enough || random.IntN(3) > 0) { // now and then the next link comes before this one has ended
			select {
			case <-l.Done():
			case <-stop:
				return
			}
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// TestTransfersSurviveCuts cuts the link at a thousand random points while hash-checked bytes go both ways on several streams.
func TestTransfersSurviveCuts(t *testing.T) {
	links(t, func(t *testing.T, o tunneltest.Options) {
		d := newDuo(t, o, tunnel.Options{Window: 256 << 10})
		const streams, size, enough = 4, 4 << 20, 1000
		stop, cuts := make(chan struct{}), make(chan int)
		go d.keepCutting(o, streams*size/enough, enough, stop, cuts) // half of what goes both ways, at the most
		var all sync.WaitGroup
		for i := range streams {
			all.Go(func() {
				s := []*side{d.agent, d.hub}[i%2]
				st, err := s.Open(context.Background(), tcp("x:1"))
				if err != nil {
					t.Error(err)
					return
				}
				defer st.Close()
				sent, got := sha256.New(), sha256.New()
				seed := rand.New(rand.NewPCG(uint64(i), 3))
				var writing sync.WaitGroup
				writing.Go(func() {
					left := size
					b := make([]byte, 100000)
					for left > 0 {
						p := b[:min(left, 1+seed.IntN(len(b)))]
						for i := range p {
							p[i] = byte(seed.Uint32())
						}
						sent.Write(p)
						if _, err := st.Write(p); err != nil {
							t.Errorf("stream %d: %v", i, err)
							return
						}
						left -= len(p)
					}
					_ = st.CloseWrite()
				})
				n, err := io.Copy(got, struct{ io.Reader }{st})
				writing.Wait()
				if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
					t.Errorf("stream %d: %d of %d bytes came back, %v; the same: %v", i, n, size, err, bytes.Equal(sent.Sum(nil), got.Sum(nil)))
				}
			})
		}
		all.Wait()
		d.settles()
		close(stop)
		if n := <-cuts; n < enough {
			t.Errorf("%d cuts", n)
		}
	})
}

var _ net.Conn = (*tunnel.Stream)(nil)
