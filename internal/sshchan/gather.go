package sshchan

import (
	"net"
	"runtime"
	"sync"
	"time"
)

// gatherSize is how much waits at most to be written. Then writers wait.
const gatherSize = 256 << 10

// flushTime is how long Close gives what was written before, while the far end takes nothing.
const flushTime = time.Second

var gathers = sync.Pool{New: func() any { return new([gatherSize]byte) }}

// A gatherer writes to a connection what has gathered while it was writing: x/crypto writes each packet by itself, and large ones
// in two pieces. It holds a buffer only while something is in it.
type gatherer struct {
	conn net.Conn
	over chan struct{} // closed when the goroutine has ended
	once sync.Once     // of close

	mu     sync.Mutex
	more   sync.Cond         // there is something, or an end
	room   sync.Cond         // there is room, or an end
	buffer *[gatherSize]byte // nil while there is nothing
	filled int               // of it
	failed error             // by which the connection failed, for all who write later
	closed bool
}

// newGatherer starts a goroutine, which ends with close, or when the connection fails.
func newGatherer(conn net.Conn) *gatherer {
	g := &gatherer{conn: conn, over: make(chan struct{})}
	g.more.L, g.room.L = &g.mu, &g.mu
	go g.flush()
	return g
}

// Write returns when p is in the buffer, which is when there is room. What goes wrong afterwards is told by the next call.
func (g *gatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for written := 0; ; {
		switch {
		case g.failed != nil:
			return written, g.failed
		case g.closed:
			return written, net.ErrClosed
		case written == len(p):
			return written, nil
		case g.filled == gatherSize:
			g.room.Wait()
			continue
		}
		if g.buffer == nil {
			g.buffer = gathers.Get().(*[gatherSize]byte)
			g.more.Signal()
		}
		n := copy(g.buffer[g.filled:], p[written:])
		g.filled += n
		written += n
	}
}

// flush writes what there is, until the end.
func (g *gatherer) flush() {
	defer close(g.over)
	for {
		buffer, filled := g.take()
		if buffer == nil {
			return
		}
		_, err := g.conn.Write(buffer[:filled])
		gathers.Put(buffer)
		if err != nil {
			g.fail(err)
			return
		}
	}
}

// take waits for something to write; nil is the end.
func (g *gatherer) take() (*[gatherSize]byte, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.buffer == nil && !g.closed {
		g.more.Wait()
	}
	if g.buffer != nil && !g.closed {
		g.mu.Unlock()
		runtime.Gosched() // those who run may have more
		g.mu.Lock()
	}
	buffer, filled := g.buffer, g.filled
	g.buffer, g.filled = nil, 0
	g.room.Broadcast()
	return buffer, filled
}

func (g *gatherer) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = err
	g.room.Broadcast()
}

// close ends writing, and waits until what was written is with the connection, though no longer than flushTime; then it closes
// that.
func (g *gatherer) close() (err error) {
	g.mu.Lock()
	g.closed = true
	g.more.Signal()
	g.room.Broadcast()
	g.mu.Unlock()
	g.once.Do(func() {
		timer := time.NewTimer(flushTime)
		defer timer.Stop()
		select {
		case <-g.over:
		case <-timer.C:
		}
		err = g.conn.Close()
		<-g.over
	})
	return err
}
