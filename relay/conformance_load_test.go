package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// bulkBothWays sends 1 GB each way at once to readers of different speed.
func bulkBothWays(t *testing.T, g *rig) {
	size := int64(64 << 20)
	if g.isMain() && !testing.Short() && !underRace {
		size = 1 << 30
	}
	client, target := g.open(t)
	for _, e := range []*end{client, target} {
		_ = e.SetDeadline(time.Now().Add(12 * patience))
	}
	together(t,
		func() error { return sendPayload(client, 1, size) },
		func() error { return sendPayload(target, 2, size) },
		func() error { return expectPayload(target, 1, size, 256<<10) },
		func() error { return expectPayload(client, 2, size, 3000) })
	g.ends(t, 1)
	g.carried(t, uint64(size), uint64(size))
}

// A flood writes until it is stopped or fails.
type flood struct {
	conn net.Conn
	n    atomic.Int64 // bytes taken
	err  chan error   // why it ended
}

var floodPiece = make([]byte, 64<<10)

func startFlood(c net.Conn) *flood {
	f := &flood{conn: c, err: make(chan error, 1)}
	go func() {
		for {
			n, err := c.Write(floodPiece)
			f.n.Add(int64(n))
			if err != nil {
				f.err <- err
				return
			}
		}
	}()
	return f
}

// stop ends the flood and returns why it had ended before, if it had.
func (f *flood) stop() error {
	_ = f.conn.SetWriteDeadline(time.Unix(1, 0))
	err := <-f.err
	_ = f.conn.SetDeadline(time.Now().Add(patience))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("a write failed: %w", err)
}

// stuck waits until nobody takes anything of the floods any more.
func stuck(t *testing.T, floods ...*flood) {
	t.Helper()
	last, same := int64(0), 0
	eventually(t, "the buffers to be full", func() bool {
		sum := taken(floods)
		if same++; sum != last {
			last, same = sum, 0
		}
		return last > 0 && same > 20
	})
}

func taken(floods []*flood) int64 {
	sum := int64(0)
	for _, f := range floods {
		sum += f.n.Load()
	}
	return sum
}

// neverReading has clients and targets that take nothing while the other sends all it can. That costs no more than a bounded
// buffer each, others do not notice, and nothing is lost when the reading begins.
func neverReading(t *testing.T, g *rig) {
	const (
		n          = 60        // each fills 8 MB of the kernel's buffers, and TCP may be given no more than 2 GB (tcp_mem)
		eachMayUse = 128 << 10 // bytes
		base       = 8 << 20   // what a process gathers by the way
	)
	before := memory()
	floods, readers := make([]*flood, n), make([]*end, n)
	for i := range n {
		client, target := g.open(t)
		writer := client
		if readers[i] = target; i%2 == 1 {
			writer, readers[i] = target, client
		}
		shrink(writer)
		shrink(readers[i])
		floods[i] = startFlood(writer.Conn)
	}
	stuck(t, floods...)
	grown := memory() - before
	t.Logf("%d sessions whose reader reads nothing take %d kB each; %d kB were written to each", n, grown/n>>10, taken(floods)/n>>10)
	if grown > n*eachMayUse+base {
		t.Errorf("%d sessions whose reader reads nothing take %d kB", n, grown>>10)
	}
	client, target := g.open(t)
	exchange(client, target)
	client.fin()
	target.fin()

	for i, f := range floods {
		if err := f.stop(); err != nil {
			t.Fatal(err)
		}
		_ = readers[i].SetDeadline(time.Now().Add(patience))
		_ = fin(f.conn)
		if got, err := io.Copy(io.Discard, readers[i]); err != nil || got != f.n.Load() {
			t.Errorf("%d of %d bytes came when the reader began to read, then %v", got, f.n.Load(), orEOF(err))
		}
		readers[i].fin()
	}
	g.ends(t, n+1)
}

// shrink takes most of the kernel's buffers from e. It would let the sockets of stuck sessions grow until TCP is out of memory
// (tcp_mem), and that stalls everybody.
func shrink(e *end) {
	c := e.Conn.(interface {
		SetReadBuffer(n int) error
		SetWriteBuffer(n int) error
	})
	_ = c.SetReadBuffer(32 << 10)
	_ = c.SetWriteBuffer(32 << 10)
}

// smallBesideBulk has small exchanges finish while others send all they can. Most of the small sessions are there before; some
// are opened amid the bulk.
func smallBesideBulk(t *testing.T, g *rig) {
	before, amid := 1000, 20
	if underRace {
		before = 200
	}
	var all []func() error
	open := func(n int) {
		for range n {
			client, target := g.open(t)
			all = append(all, func() error {
				_ = target.SetDeadline(time.Now().Add(patience))
				go echo(target.Conn)
				return echoes(client.Conn, 10)
			})
		}
	}
	open(before)
	var floods []*flood
	for i := range 8 {
		from, to := g.open(t)
		if i%2 == 1 {
			from, to = to, from
		}
		_ = from.SetDeadline(time.Time{})
		_ = to.SetDeadline(time.Time{})
		floods = append(floods, startFlood(from.Conn))
		go func() {
			to.sink()
			to.Close()
		}()
	}
	open(amid)
	together(t, all...)
	for i, f := range floods {
		if err := f.stop(); err != nil {
			t.Errorf("bulk stream %d: %v", i, err)
		}
		abort(f.conn)
	}
	g.ends(t, uint64(len(all)+len(floods)))
}

// echoes asks for 64 bytes back n times, within patience, and ends the session.
func echoes(c net.Conn, n int) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	question, answer := text(1, 64), make([]byte, 64)
	for range n {
		if _, err := io.WriteString(c, question); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != question {
			return fmt.Errorf("of %d small exchanges one failed: %w", n, orEOF(err))
		}
	}
	return fin(c)
}

// idleClients are many that send nothing, or one byte and no more (Slowloris). What each may take covers both ends that the
// test itself holds open, which are connections of this process, too.
func idleClients(t *testing.T, g *rig) {
	const eachMayUse = 24 << 10 // bytes; two stacks of goroutines fit in
	n := 2000
	if limit := descriptorLimit(); limit > 0 && limit < 10_000 { // four descriptors a session
		n = int(limit / 8)
	}
	clients, targets := make([]net.Conn, 0, n), make([]net.Conn, 0, n)
	closeAll := func() {
		for _, c := range append(clients, targets...) {
			c.Close()
		}
	}
	defer closeAll()
	before := memory()
	for i := range n {
		client, target, err := g.pair()
		if err != nil {
			t.Fatal(err)
		}
		if clients, targets = append(clients, client), append(targets, target); i%2 == 0 {
			continue
		}
		if _, err := client.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := target.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	grown := memory() - before
	t.Logf("%d idle sessions take %d bytes each, the ends of the test included", n, grown/int64(n))
	if !underRace && grown > int64(n)*eachMayUse {
		t.Errorf("%d idle sessions take %d kB", n, grown>>10)
	}
	// The target has accepted before the relay knows that it is connected.
	eventually(t, fmt.Sprintf("%d sessions to be open", n), func() bool { return g.stats().Open == n })
	closeAll()
	g.ends(t, uint64(n))
	g.carried(t, uint64(n/2), 0)
}
