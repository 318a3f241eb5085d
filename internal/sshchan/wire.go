package sshchan

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// readSize is how much is read at a time: x/crypto alone would take two system calls for each packet, which are of up to
// 35,000 bytes (RFC 4253, section 6.1).
const readSize = 128 << 10

// bulk is a read after which more will come, so that the kernel may acknowledge as it likes.
const bulk = 16 << 10

// A Wire is the connection that the SSH protocol is spoken over. It knows when the far end was heard of last, and whether the
// connection has ended.
type Wire struct {
	net.Conn
	began time.Time
	heard atomic.Int64 // when something came in last, in ns since began
	large atomic.Bool  // reads are
	ack   func()       // may be nil
	done  chan struct{}
	end   sync.Once

	// These belong to the one who reads.
	storage []byte
	ahead   []byte
}

// NewWire wraps a connection. To begin with it reads no more than it is asked for, so that a stranger costs little.
func NewWire(c net.Conn) *Wire {
	return &Wire{Conn: c, began: time.Now(), ack: acknowledger(c), done: make(chan struct{})}
}

// Enlarge has it read much at a time from now on: the far end has logged in.
func (w *Wire) Enlarge() { w.large.Store(true) }

// Heard is when the far end was heard of last.
func (w *Wire) Heard() time.Time { return w.began.Add(time.Duration(w.heard.Load())) }

// Done is closed when nothing will come in any more.
func (w *Wire) Done() <-chan struct{} { return w.done }

func (w *Wire) Read(p []byte) (int, error) {
	if len(w.ahead) == 0 {
		if !w.large.Load() || len(p) >= readSize {
			return w.receive(p)
		}
		if w.storage == nil {
			w.storage = make([]byte, readSize)
		}
		n, err := w.receive(w.storage)
		if w.ahead = w.storage[:n]; n == 0 {
			return 0, err
		}
	}
	n := copy(p, w.ahead)
	w.ahead = w.ahead[n:]
	return n, nil
}

func (w *Wire) receive(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.heard.Store(int64(time.Since(w.began)))
		if w.ack != nil && n < bulk {
			w.ack()
		}
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		w.ended()
	}
	return n, err
}

func (w *Wire) ended() { w.end.Do(func() { close(w.done) }) }

// Close ends the connection.
func (w *Wire) Close() error {
	w.ended()
	return w.Conn.Close()
}

// Keepalive watches over the far end until the connection ends. When that was silent for so long it is asked, by a request that
// wants any answer: one who does not know it says so, and lives. Who is silent still, after so many questions and as long after
// the last, is dead: dead has to close the connection.
func (w *Wire) Keepalive(every time.Duration, most int, ask func(), dead func(silent time.Duration)) {
	timer := time.NewTimer(every)
	defer timer.Stop()
	questions := make(chan struct{}, 1) // who answers none is not sent more of them
	var running sync.WaitGroup
	running.Go(func() {
		for range questions {
			ask() // may block as the connection does, and ends with it
		}
	})
	defer running.Wait()
	defer close(questions)
	asked, last := 0, w.Heard()
	for {
		select {
		case <-w.done:
			return
		case <-timer.C:
		}
		heard := w.Heard()
		if !heard.Equal(last) {
			asked, last = 0, heard
		}
		silent := time.Since(heard)
		switch {
		case silent < every:
			timer.Reset(every - silent)
		case asked < most:
			asked++
			notify(questions)
			timer.Reset(every)
		default:
			dead(silent)
			return
		}
	}
}
