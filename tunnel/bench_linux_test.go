package tunnel_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// A plainLink is a TCP connection without encryption, for measuring the session alone.
type plainLink struct {
	conn   *net.TCPConn
	peer   tunnel.Key
	done   chan struct{}
	once   sync.Once
	opened atomic.Bool
}

func (l *plainLink) Transport() string      { return "plain" }
func (l *plainLink) Peer() tunnel.Key       { return l.peer }
func (l *plainLink) Remote() netip.AddrPort { return netip.AddrPort{} }
func (l *plainLink) Open(context.Context) (tunnel.Lane, error) {
	if l.opened.Swap(true) {
		return nil, tunnel.ErrOneLane
	}
	return plainLane{l.conn}, nil
}
func (l *plainLink) Accept(ctx context.Context) (tunnel.Lane, error) { return l.Open(ctx) }
func (l *plainLink) Datagram([]byte) error                           { return errors.ErrUnsupported }
func (l *plainLink) Datagrams(func([]byte)) error                    { return errors.ErrUnsupported }
func (l *plainLink) RTT() time.Duration                              { return 0 }
func (l *plainLink) Done() <-chan struct{}                           { return l.done }
func (l *plainLink) Err() error                                      { return nil }
func (l *plainLink) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.conn.Close()
}

type plainLane struct{ *net.TCPConn }

func (plainLane) Flush() error { return nil }

// ends is both ends of a link.
func ends(b *testing.B, transport string) (agent, hub tunnel.Link) {
	if transport == "plain" {
		x, y := pair(b)
		return &plainLink{conn: x, peer: hubKey, done: make(chan struct{})}, &plainLink{conn: y, peer: agentKey, done: make(chan struct{})}
	}
	var keys [2]*link.Identity
	for i := range keys {
		_, private, _ := ed25519.GenerateKey(rand.Reader)
		keys[i], _ = link.NewIdentity(private)
	}
	t, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	u, err := net.ListenPacket("udp", t.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	l := link.NewListener(link.ListenOptions{Identity: keys[0], TCP: []net.Listener{t}, UDP: []net.PacketConn{u}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = l.Run(ctx)
		close(ended)
	}()
	b.Cleanup(func() {
		cancel()
		<-ended
	})
	d, err := link.NewDialer(link.DialOptions{
		Identity: keys[1], Hub: []string{t.Addr().String()}, Key: keys[0].Key(), Proxy: link.NoProxy, Transports: []string{transport},
	})
	if err != nil {
		b.Fatal(err)
	}
	if agent, err = d.Dial(ctx); err != nil {
		b.Fatal(err)
	}
	if hub, err = l.Accept(ctx); err != nil {
		b.Fatal(err)
	}
	return agent, hub
}

// transports has a benchmark run over each.
func transports(b *testing.B, run func(b *testing.B, transport string)) {
	for _, transport := range []string{"plain", link.TLS, link.QUIC} {
		b.Run(transport, func(b *testing.B) { run(b, transport) })
	}
}

// over is a duo over a link.
func over(b *testing.B, transport string, opened func(*tunnel.Arrival)) (agent, hub *side) {
	begin := func(which tunnel.Side) *side {
		s := &side{opened: opened}
		s.Session = tunnel.New(tunnel.Options{Side: which, ID: tunnel.ID{7}, Handler: s})
		return s
	}
	agent, hub = begin(tunnel.Agent), begin(tunnel.Hub)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { _ = agent.Run(ctx) })
	ended.Go(func() { _ = hub.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	x, y := ends(b, transport)
	joined := make(chan struct{})
	go func() {
		c, err := tunnel.Receive(ctx, y)
		if err == nil {
			err = c.Join(hub.Session, tunnel.Hello{})
		}
		if err != nil {
			b.Error(err)
		}
		close(joined)
	}()
	if _, err := agent.Attach(ctx, x, tunnel.Hello{}); err != nil {
		b.Fatal(err)
	}
	<-joined
	return agent, hub
}

// tunnelled is a client and a server whose sockets both ends carry.
func tunnelled(b *testing.B, hub *side, targets chan net.Conn) (client, server net.Conn) {
	near, server := pair(b)
	targets <- near
	client, far := pair(b)
	st, err := hub.Open(b.Context(), tcp("x:1"))
	if err != nil {
		b.Fatal(err)
	}
	if _, ok := st.Bear(take(b, far), node.BearOptions{Ended: func(node.Borne) {}}); !ok {
		b.Fatal("not carried")
	}
	return client, server
}

func bearTargets(b *testing.B, targets chan net.Conn) func(a *tunnel.Arrival) {
	return func(a *tunnel.Arrival) {
		go func() {
			near := <-targets
			fd := take(b, near)
			st, err := a.Accept(nil)
			if err == nil {
				st.Bear(fd, node.BearOptions{Ended: func(node.Borne) {}})
			}
		}()
	}
}

func BenchmarkBulk(b *testing.B) { transports(b, bulk) }

func bulk(b *testing.B, transport string) {
	targets := make(chan net.Conn, 1)
	_, hub := over(b, transport, bearTargets(b, targets))
	client, server := tunnelled(b, hub, targets)
	const size = 256 << 10
	b.SetBytes(size)
	b.ResetTimer()
	go func() {
		p := make([]byte, size)
		for range b.N {
			_, _ = client.Write(p)
		}
	}()
	p := make([]byte, size)
	for range b.N {
		if _, err := io.ReadFull(server, p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequests has 32 clients ask and wait for the answer, of 64 bytes each.
func BenchmarkRequests(b *testing.B) { transports(b, requests) }

func requests(b *testing.B, transport string) {
	targets := make(chan net.Conn, 1)
	_, hub := over(b, transport, bearTargets(b, targets))
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	var clients []net.Conn
	for range 32 {
		client, server := tunnelled(b, hub, targets)
		clients = append(clients, client)
		go func() {
			p := make([]byte, 64)
			for {
				if _, err := io.ReadFull(server, p); err != nil {
					return
				}
				_, _ = server.Write(p)
			}
		}()
	}
	b.ResetTimer()
	for _, client := range clients {
		all.Go(func() {
			p := make([]byte, 64)
			for left.Add(-1) >= 0 {
				_, _ = client.Write(p)
				if _, err := io.ReadFull(client, p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	for _, c := range clients {
		_ = c.Close()
	}
}

// BenchmarkStreams opens streams, 32 at a time, says a byte each way, and closes them.
func BenchmarkStreams(b *testing.B) { transports(b, streams) }

func streams(b *testing.B, transport string) {
	_, hub := over(b, transport, echo)
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for range 32 {
		all.Go(func() {
			p := make([]byte, 1)
			for left.Add(-1) >= 0 {
				st, err := hub.Open(b.Context(), tcp("x:1"))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = st.Write(p)
				_ = st.CloseWrite()
				_, _ = io.ReadAll(st)
				_ = st.Close()
			}
		})
	}
	all.Wait()
}

// BenchmarkBesideBulk is how long one request takes beside four streams in bulk, in the slowest of a hundred cases.
func BenchmarkBesideBulk(b *testing.B) { transports(b, besideBulk) }

func besideBulk(b *testing.B, transport string) {
	targets := make(chan net.Conn, 1)
	_, hub := over(b, transport, bearTargets(b, targets))
	for range 4 {
		client, server := tunnelled(b, hub, targets)
		defer client.Close()
		go func() {
			for p := make([]byte, 256<<10); ; {
				if _, err := client.Write(p); err != nil {
					return
				}
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{server}) }()
	}
	client, server := tunnelled(b, hub, targets)
	defer client.Close()
	go func() { _, _ = io.Copy(struct{ io.Writer }{server}, struct{ io.Reader }{server}) }()
	p := make([]byte, 64)
	var all []time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		_, _ = client.Write(p)
		if _, err := io.ReadFull(client, p); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}
