package link

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// A datagrams stands between agents and a hub, and passes on what mangle makes of each datagram of the agent's.
type datagrams struct {
	near   net.PacketConn // to the agent
	hub    net.Addr
	mangle func(p []byte) [][]byte
	wait   sync.WaitGroup

	mu   sync.Mutex
	far  map[string]net.Conn // to the hub, by whom for
	said [][]byte            // by agents
}

func newDatagrams(t *testing.T, b *bench, mangle func(p []byte) [][]byte) *datagrams {
	t.Helper()
	near, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hub, err := net.ResolveUDPAddr("udp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	d := &datagrams{near: near, hub: hub, mangle: mangle, far: map[string]net.Conn{}}
	d.wait.Go(d.run)
	t.Cleanup(func() {
		near.Close()
		d.mu.Lock()
		for _, c := range d.far {
			c.Close()
		}
		d.mu.Unlock()
		d.wait.Wait()
	})
	return d
}

func (d *datagrams) run() {
	buf := make([]byte, 2048)
	for {
		n, from, err := d.near.ReadFrom(buf)
		if err != nil {
			return
		}
		d.mu.Lock()
		c := d.far[from.String()]
		if c == nil {
			if c, err = net.Dial("udp", d.hub.String()); err != nil {
				d.mu.Unlock()
				return
			}
			d.far[from.String()] = c
			d.wait.Go(func() { d.back(c, from) })
		}
		d.said = append(d.said, slices.Clone(buf[:n]))
		d.mu.Unlock()
		for _, p := range d.mangle(slices.Clone(buf[:n])) {
			_, _ = c.Write(p)
		}
	}
}

func (d *datagrams) back(c net.Conn, to net.Addr) {
	buf := make([]byte, 2048)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		_, _ = d.near.WriteTo(buf[:n], to)
	}
}

func (d *datagrams) recorded() [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.said)
}

// TestMangledPackets: packets of an agent come twice, in another order, cut off, or with a byte changed. The link comes about all the same, and
// what is said on it is what was said.
func TestMangledPackets(t *testing.T) {
	chance := rand.New(rand.NewPCG(7, 8))
	var held []byte
	for name, mangle := range map[string]func(p []byte) [][]byte{
		"twice": func(p []byte) [][]byte { return [][]byte{p, p} },
		"in another order": func(p []byte) [][]byte {
			if held == nil && chance.IntN(2) == 0 {
				held = p
				return nil
			}
			out := [][]byte{p}
			if held != nil {
				out = append(out, held)
				held = nil
			}
			return out
		},
		"beside what is cut off": func(p []byte) [][]byte { return [][]byte{p[:len(p)/2], p[:1], p} },
		"beside what was changed": func(p []byte) [][]byte {
			q := slices.Clone(p)
			q[chance.IntN(len(q))] ^= 1 << chance.IntN(8)
			return [][]byte{q, p}
		},
	} {
		t.Run(name, func(t *testing.T) {
			leaks(t)
			b := hub(t, nil)
			between := newDatagrams(t, b, mangle)
			d := dialer(t, b, func(o *DialOptions) {
				o.Transports, o.Hub = []string{QUIC}, []string{between.near.LocalAddr().String()}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			agent, err := d.Redial(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer agent.Close()
			hubEnd, err := b.Accept(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer hubEnd.Close()
			a, h := lanes(t, agent, hubEnd)
			for range 20 {
				converseSlowly(t, a, h)
			}
		})
	}
}

// converseSlowly is converse, for links on which packets are lost.
func converseSlowly(t *testing.T, a, h tunnel.Lane) {
	t.Helper()
	a.SetReadDeadline(time.Now().Add(60 * time.Second))
	h.SetReadDeadline(time.Now().Add(60 * time.Second))
	say(t, a, "are you there?")
	hear(t, h, "are you there?")
	say(t, h, "yes")
	hear(t, a, "yes")
}

// TestReplayedPackets: who says again the packets of an agent's handshake, in whatever order, whole or not, is nobody.
func TestReplayedPackets(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	between := newDatagrams(t, b, func(p []byte) [][]byte { return [][]byte{p} })
	d := dialer(t, b, func(o *DialOptions) {
		o.Transports, o.Hub = []string{QUIC}, []string{between.near.LocalAddr().String()}
	})
	agent, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hubEnd, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, h := lanes(t, agent, hubEnd)
	converseSlowly(t, a, h)
	said := between.recorded()
	if len(said) < 3 {
		t.Fatalf("%d packets were recorded", len(said))
	}
	nobody(t, b) // but for the one who is there
	chance := rand.New(rand.NewPCG(9, 10))
	again := func(packets [][]byte) {
		c, err := net.Dial("udp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, p := range packets {
			_, _ = c.Write(p)
		}
	}
	again(said)
	for range 50 {
		mixed := slices.Clone(said)
		chance.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		for i, p := range mixed {
			switch p = slices.Clone(p); chance.IntN(3) {
			case 0:
				p = p[:1+chance.IntN(len(p))]
			case 1:
				p[chance.IntN(len(p))] ^= byte(1 + chance.IntN(255))
			}
			mixed[i] = p
		}
		again(mixed)
	}
	converseSlowly(t, a, h) // the agent notices nothing
	agent.Close()
	hubEnd.Close()
}

// A tamperer is a connection on which one byte of what is written is changed, or two records change places.
type tamperer struct {
	net.Conn
	at   int // which byte; below 0: none
	done int
	swap bool
	kept []byte
}

func (c *tamperer) Write(p []byte) (int, error) {
	q := slices.Clone(p)
	if i := c.at - c.done; c.at >= 0 && i >= 0 && i < len(q) {
		q[i] ^= 0x20
	}
	c.done += len(p)
	if c.swap && c.done > len(p) { // what is behind the ClientHello
		if c.kept == nil {
			c.kept = q
			if records := split(q); len(records) > 1 {
				slices.Reverse(records)
				_, err := c.Conn.Write(slices.Concat(records...))
				return len(p), err
			}
			return len(p), nil
		}
		q = append(q, c.kept...)
	}
	_, err := c.Conn.Write(q)
	return len(p), err
}

// split is the records of TLS in b.
func split(b []byte) (records [][]byte) {
	for len(b) >= 5 {
		n := min(len(b), 5+int(b[3])<<8+int(b[4]))
		records = append(records, b[:n])
		b = b[n:]
	}
	return records
}

// TestTamperedHandshakes: an agent's handshake of which somebody changes a byte, or the order of what comes, does not succeed.
func TestTamperedHandshakes(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	length := len(recorded(t, b))
	nobody(t, b)
	try := func(what string, c *tamperer) {
		conn, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c.Conn = conn
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		secure := tls.Client(c, agentTLS(identity(t), b.Identity.Key()))
		if err := secure.Handshake(); err != nil {
			return
		}
		if _, err := secure.Read(make([]byte, 1)); err == nil || timeout(err) {
			t.Errorf("%s: the hub goes on: %v", what, err)
		}
	}
	for at := 0; at < length-30; at += 1 + length/150 {
		try("byte changed", &tamperer{at: at})
	}
	try("records change places", &tamperer{at: -1, swap: true})
}
