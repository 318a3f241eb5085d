package link

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// quick has a dialer look all the time.
func quick(d *Dialer) *Dialer {
	d.pace = pace{first: 5 * time.Millisecond, last: 20 * time.Millisecond, settle: time.Millisecond, blocked: time.Millisecond, limit: 700 * time.Millisecond}
	return d
}

// accepted takes links of a hub and has them stay until the test ends.
func accepted(t *testing.T, b *bench) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			l, err := b.Accept(ctx)
			if err != nil {
				return
			}
			defer l.Close()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// A crawling listener's connections are read slowly.
type crawling struct{ net.Listener }

func (l crawling) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return crawl{c}, nil
}

type crawl struct{ net.Conn }

func (c crawl) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return c.Conn.Read(p[:min(len(p), 2048)])
}

// TestUpgrade: what is better is taken. It is never the slower one, as it may well be on a machine that has much else to do.
func TestUpgrade(t *testing.T) {
	leaks(t)
	b := hub(t, func(o *ListenOptions) { o.TCP[0] = crawling{o.TCP[0]} })
	accepted(t, b)
	d := quick(dialer(t, b, func(o *DialOptions) { o.Transports = []string{WSS, TLS, QUIC} }))
	d.pace.limit = 1500 * time.Millisecond
	for _, step := range [][]string{{WSS, QUIC}, {TLS, QUIC}} {
		have, err := d.by(t.Context(), step[0])
		if err != nil {
			t.Fatal(err)
		}
		better, err := d.Upgrade(t.Context(), have)
		if err != nil {
			t.Fatal(err)
		}
		if better.Transport() != step[1] || have.Err() != nil {
			t.Errorf("from %s to %s; the old one: %v", step[0], better.Transport(), have.Err())
		}
		better.Close()
		have.Close()
	}
}

func TestUpgradeEnds(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	accepted(t, b)
	d := quick(dialer(t, b, nil))
	have, err := d.by(t.Context(), QUIC)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if l, err := d.Upgrade(ctx, have); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v: there is nothing better", l, err)
	}
	upgraded := make(chan error)
	go func() {
		_, err := d.Upgrade(t.Context(), have)
		upgraded <- err
	}()
	have.Close()
	if err := <-upgraded; err == nil {
		t.Error("the link in use has ended, and Upgrade has found a better one")
	}
}

// A narrow is a UDP socket that lets few packets in.
type narrow struct {
	net.PacketConn
	next time.Time
}

func (n *narrow) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		k, from, err := n.PacketConn.ReadFrom(p)
		now := time.Now()
		if err != nil || now.After(n.next) || k < 100 { // acknowledgements pass
			n.next = now.Add(8 * time.Millisecond)
			return k, from, err
		}
	}
}

// TestSlow: UDP is let through by drops, so QUIC is left, and not taken again while it is so.
func TestSlow(t *testing.T) {
	leaks(t)
	b := hub(t, func(o *ListenOptions) { o.UDP[0] = &narrow{PacketConn: o.UDP[0]} })
	accepted(t, b)
	d := quick(dialer(t, b, func(o *DialOptions) { o.Transports = []string{QUIC, TLS} }))
	have, err := d.by(t.Context(), QUIC)
	if err != nil {
		t.Fatal(err)
	}
	defer have.Close()
	better, err := d.Upgrade(t.Context(), have)
	if err != nil {
		t.Fatal(err)
	}
	defer better.Close()
	if better.Transport() != TLS || have.Err() != nil {
		t.Errorf("to %s; the old one: %v", better.Transport(), have.Err())
	}
	d.memory[QUIC] = &memory{}
	if l := d.better(t.Context(), TLS); l != nil {
		t.Errorf("back to %s, which is slow", l.Transport())
		l.Close()
	}
	if !d.blocked(QUIC, time.Now()) && d.memory[QUIC].fails == 0 {
		t.Error("it is forgotten that QUIC is slow")
	}
}

func TestSlower(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		a, b time.Duration
		want bool
	}{{10 * ms, 1 * ms, false}, {250 * ms, 10 * ms, true}, {600 * ms, 250 * ms, false}, {800 * ms, 250 * ms, true}, {10 * time.Second, time.Second, true}} {
		if got := slower(c.a, c.b); got != c.want {
			t.Errorf("%v is slower than %v: %v", c.a, c.b, got)
		}
	}
}

// TestBlocked: UDP does not get through. The first dial finds that out, the next ones do not wait for it.
func TestBlocked(t *testing.T) {
	leaks(t)
	b := hub(t, func(o *ListenOptions) {
		o.UDP[0].Close()
		o.UDP = nil
	})
	silent, err := net.ListenPacket("udp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	accepted(t, b)
	d := dialer(t, b, nil)
	for range 2 {
		l, err := d.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if l.Transport() != TLS {
			t.Errorf("by %s", l.Transport())
		}
		l.Close()
		if !d.blocked(QUIC, time.Now()) || d.blocked(TLS, time.Now()) || d.blocked(WSS, time.Now()) {
			t.Error("what is blocked is not remembered")
		}
	}
}

// TestRedialWaits: there is no hub; then there is.
func TestRedialWaits(t *testing.T) {
	leaks(t)
	tcp, udp := sockets(t)
	addr := tcp.Addr().String()
	tcp.Close()
	udp.Close()
	b := &bench{addr: addr, Listener: &Listener{ListenOptions: ListenOptions{Identity: identity(t)}}}
	d := dialer(t, b, nil)
	type result struct {
		l   tunnel.Link
		err error
	}
	done := make(chan result)
	go func() {
		l, err := d.Redial(t.Context(), nil)
		done <- result{l, err}
	}()
	time.Sleep(300 * time.Millisecond)
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skip("the port was taken meanwhile: ", err)
	}
	late := hub(t, func(o *ListenOptions) {
		o.TCP[0].Close()
		o.UDP[0].Close()
		o.TCP, o.UDP, o.Identity = []net.Listener{tcp}, nil, b.Identity
	})
	accepted(t, late)
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	late.stop()
	if _, err := d.Redial(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Redial without a hub: %v", err)
	}
}
