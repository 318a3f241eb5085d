package tunnel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// take takes the descriptor out of a connection.
func take(t testing.TB, c net.Conn) int {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if err := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || fd < 0 {
		t.Fatal(err)
	}
	_ = c.Close()
	return fd
}

// pair is two ends of a TCP connection over the loopback interface.
func pair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// A bearing is a client whose socket the hub carries, and a server whose socket the agent does.
type bearing struct {
	client, server *net.TCPConn
	hub, agent     node.Borne
	ended          chan node.Borne
}

func (d *duo) bear(t testing.TB, o node.BearOptions) *bearing {
	t.Helper()
	ended := make(chan node.Borne, 2)
	o.Ended = func(b node.Borne) { ended <- b }
	b := &bearing{ended: ended}
	near, server := pair(t)
	b.server = server
	carried := make(chan node.Borne, 1)
	d.agent.opened = func(a *tunnel.Arrival) {
		st, err := a.Accept(near.LocalAddr())
		if err != nil {
			t.Error(err)
			return
		}
		go func() {
			fd := take(t, near)
			borne, ok := st.Bear(fd, o)
			if !ok {
				t.Error("the agent cannot carry the socket")
			}
			carried <- borne
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	st, err := d.hub.Open(ctx, tcp("server:1"))
	if err != nil {
		t.Fatal(err)
	}
	client, near2 := pair(t)
	b.client = client
	var ok bool
	if b.hub, ok = st.Bear(take(t, near2), o); !ok {
		t.Fatal("the hub cannot carry the socket")
	}
	b.agent = <-carried
	t.Cleanup(func() {
		_ = b.client.Close()
		_ = b.server.Close()
	})
	return b
}

func (b *bearing) end(t testing.TB) {
	t.Helper()
	for range 2 {
		select {
		case <-b.ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a socket did not end")
		}
	}
}

func TestSocketsAreCarried(t *testing.T) {
	links(t, func(t *testing.T, o tunneltest.Options) {
		d := newDuo(t, o, tunnel.Options{})
		d.mustConnect()
		b := d.bear(t, node.BearOptions{})
		data := bytes.Repeat([]byte("the quick brown fox "), 300000)
		go func() {
			_, _ = b.client.Write(data)
			_ = b.client.CloseWrite()
		}()
		got, err := io.ReadAll(b.server)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("the server has %d of %d bytes, %v", len(got), len(data), err)
		}
		// The other direction is still open.
		go func() {
			_, _ = b.server.Write(data[:1000000])
			_ = b.server.Close()
		}()
		got, err = io.ReadAll(b.client)
		if err != nil || !bytes.Equal(got, data[:1000000]) {
			t.Fatalf("the client has %d bytes, %v", len(got), err)
		}
		b.end(t)
		from, to := b.hub.Moved()
		if from != uint64(len(data)) || to != 1000000 {
			t.Errorf("the hub has counted %d and %d", from, to)
		}
		d.settles()
	})
}

func TestResetsPassOn(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.mustConnect()
	b := d.bear(t, node.BearOptions{})
	_, _ = b.client.Write([]byte("x"))
	_, _ = b.server.Read(make([]byte, 1))
	_ = b.client.SetLinger(0)
	_ = b.client.Close()
	if _, err := b.server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the client's reset: %v", err)
	}
	b.end(t)

	b = d.bear(t, node.BearOptions{})
	answer := bytes.Repeat([]byte("y"), 100000)
	_, _ = b.server.Write(answer) // what came before a reset arrives
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, to := b.hub.Moved(); to == uint64(len(answer)) {
			break
		}
	}
	b.agent.Kill()
	n, err := io.Copy(io.Discard, b.client)
	if n != int64(len(answer)) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after kill: %d bytes, %v", n, err)
	}
	if _, err := b.server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after kill: %v", err)
	}
	b.end(t)
	d.settles()
}

func TestIdleSocketsEnd(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.mustConnect()
	b := d.bear(t, node.BearOptions{Idle: 50 * time.Millisecond})
	_, _ = b.client.Write([]byte("x"))
	if _, err := io.Copy(io.Discard, b.client); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	b.end(t)
}

// A tithe lets a few bytes pass at a time.
type tithe struct{ paid atomic.Int64 }

func (l *tithe) Slice() int { return 1000 }
func (l *tithe) Pay(n int64) time.Duration {
	l.paid.Add(n)
	return 2 * time.Millisecond
}

func TestSocketsAreHeldToLimits(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.mustConnect()
	var from, to tithe
	b := d.bear(t, node.BearOptions{From: &from, To: &to})
	go func() { _, _ = b.client.Write(make([]byte, 50000)) }()
	if n, err := io.ReadFull(b.server, make([]byte, 50000)); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for range 1000 { // the last is paid for after it was written
		if from.paid.Load() == 50000 && to.paid.Load() == 50000 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d and %d were paid for", from.paid.Load(), to.paid.Load())
}

// TestSlowReaderCostsOnlyItsWindow has a server that reads nothing beside one that does.
func TestSlowReaderCostsOnlyItsWindow(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{Window: 128 << 10})
	d.mustConnect()
	slow, fast := d.bear(t, node.BearOptions{}), d.bear(t, node.BearOptions{})
	_ = slow.server.SetReadBuffer(4096)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		_ = slow.client.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for {
			if _, err := slow.client.Write(make([]byte, 65536)); err != nil {
				return
			}
		}
	}()
	<-stop
	data := make([]byte, 8<<20)
	go func() { _, _ = fast.client.Write(data) }()
	if n, err := io.ReadFull(fast.server, make([]byte, len(data))); err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

// TestCarriedSocketsSurviveCuts is TestTransfersSurviveCuts with the sockets of a client and a server.
func TestCarriedSocketsSurviveCuts(t *testing.T) {
	links(t, func(t *testing.T, o tunneltest.Options) {
		d := newDuo(t, o, tunnel.Options{})
		d.mustConnect()
		const streams, size, enough = 3, 4 << 20, 1000
		var bearings []*bearing
		for range streams {
			bearings = append(bearings, d.bear(t, node.BearOptions{}))
		}
		stop, cuts := make(chan struct{}), make(chan int)
		go d.keepCutting(o, streams*size/enough, enough, stop, cuts)
		var all sync.WaitGroup
		for i, b := range bearings {
			for j, c := range []*net.TCPConn{b.client, b.server} {
				seed := func() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{byte(i), byte(j)}) }
				other := []*net.TCPConn{b.server, b.client}[j]
				all.Go(func() {
					_, _ = io.CopyN(struct{ io.Writer }{c}, seed(), size)
					_ = c.CloseWrite()
				})
				all.Go(func() {
					want, got := sha256.New(), sha256.New()
					_, _ = io.CopyN(want, seed(), size)
					n, err := io.Copy(got, struct{ io.Reader }{other})
					if err != nil || n != size || !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
						t.Errorf("stream %d.%d: %d of %d bytes, %v", i, j, n, size, err)
					}
				})
			}
		}
		all.Wait()
		for _, b := range bearings {
			b.end(t)
		}
		d.settles()
		close(stop)
		if n := <-cuts; n < enough {
			t.Errorf("%d cuts", n)
		}
	})
}

// TestSessionGoesOnInAnotherProcess freezes the hub's session again and again while bytes go both ways.
func TestSessionGoesOnInAnotherProcess(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.mustConnect()
	const size = 4 << 20
	b := d.bear(t, node.BearOptions{})
	var all sync.WaitGroup
	for j, c := range []*net.TCPConn{b.client, b.server} {
		seed := func() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{byte(j)}) }
		other := []*net.TCPConn{b.server, b.client}[j]
		all.Go(func() {
			_, _ = io.CopyN(struct{ io.Writer }{c}, seed(), size)
			_ = c.CloseWrite()
		})
		all.Go(func() {
			want, got := sha256.New(), sha256.New()
			_, _ = io.CopyN(want, seed(), size)
			n, err := io.Copy(got, slowly{other})
			if err != nil || n != size || !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
				t.Errorf("%d: %d of %d bytes, %v", j, n, size, err)
			}
		})
	}
	answer := make(chan struct{})
	d.hub.asked = func(string, []byte, func([]byte, error)) { close(answer) }
	asked := make(chan error, 1)
	go func() {
		_, err := d.agent.Ask(context.Background(), "what is lost", nil)
		asked <- err
	}()
	<-answer
	for range 5 {
		time.Sleep(5 * time.Millisecond)
		d.restart(t, b)
	}
	all.Wait()
	b.end(t)
	if from, to := b.hub.Moved(); from != size || to != size {
		t.Errorf("the hub has counted %d and %d", from, to)
	}
	var e *tunnel.Error
	if err := <-asked; !errors.As(err, &e) || e.Code != tunnel.Shutdown {
		t.Errorf("the request: %v", err)
	}
	d.settles()
}

// slowly reads little at a time.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(50 * time.Microsecond)
	return s.Reader.Read(p[:min(len(p), 20000)])
}

// restart has another hub go on.
func (d *duo) restart(t *testing.T, b *bearing) {
	t.Helper()
	f, err := d.hub.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	var g tunnel.Frozen
	if err := errors.Join(gob.NewEncoder(&file).Encode(f), gob.NewDecoder(&file).Decode(&g), g.Renumber(f.Descriptors())); err != nil {
		t.Fatal(err)
	}
	o := tunnel.Options{Side: tunnel.Hub, ID: tunnel.ID{7}, Handler: d.hub}
	s, borne, err := tunnel.Thaw(o, &g, func(uint64, tunnel.Call) (node.BearOptions, bool) {
		return node.BearOptions{Ended: func(n node.Borne) { b.ended <- n }}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range borne {
		b.hub = n
	}
	d.hub.Session = s
	ctx, cancel := context.WithCancel(context.Background())
	d.ended.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(cancel)
	d.mustConnect()
}

// TestFlowsCarrySockets has a flow carry the UDP socket of a target.
func TestFlowsCarrySockets(t *testing.T) {
	links(t, func(t *testing.T, o tunneltest.Options) {
		d := newDuo(t, o, tunnel.Options{})
		server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		go func() {
			for b := make([]byte, 65507); ; {
				n, from, err := server.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = server.WriteToUDPAddrPort(b[:n], from)
			}
		}()
		ended := make(chan node.Borne, 1)
		d.agent.opened = func(a *tunnel.Arrival) {
			c, err := net.Dial("udp", server.LocalAddr().String())
			if err != nil {
				t.Error(err)
				return
			}
			st, err := a.Accept(c.LocalAddr())
			if err != nil {
				t.Error(err)
				return
			}
			if _, ok := st.Bear(take(t, c), node.BearOptions{Ended: func(b node.Borne) { ended <- b }}); !ok {
				t.Error("not carried")
			}
		}
		d.mustConnect()
		st := d.open(d.hub, tunnel.Call{Kind: tunnel.Dial, Network: "udp", Address: "x:53"})
		for _, size := range []int{0, 1, 1200, 9000, 65507} {
			p := bytes.Repeat([]byte{byte(size)}, size)
			_, _ = st.Write(p)
			b := make([]byte, 70000)
			_ = st.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := st.Read(b); err != nil || !bytes.Equal(b[:n], p) {
				t.Fatalf("a datagram of %d bytes came back as %d, %v", size, n, err)
			}
		}
		_ = st.Close()
		b := <-ended
		if from, to := b.Moved(); from != 75708 || to != 75708 {
			t.Errorf("%d and %d bytes", from, to)
		}
	})
}
