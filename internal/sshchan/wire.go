package sshchan

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// bulk is a read after which more will come, so that the kernel may acknowledge as it likes.
const bulk = 16 << 10

// A Wire is the connection that the SSH protocol is spoken over. It knows when the far end was heard of last, and whether the
// connection has ended. And it reads ahead, while much comes in, and gathers what is written: x/crypto alone would take two
// system calls for each packet.
type Wire struct {
	net.Conn
	began time.Time
	heard atomic.Int64             // when something came in last, in ns since began
	out   atomic.Pointer[gatherer] // nil until the login is over
	ack   func()                   // may be nil
	done  chan struct{}
	end   sync.Once

	// These belong to the one who reads.
	class  int     // of the next buffer
	buffer *buffer // nil while there is nothing ahead
	ahead  []byte  // of buffer
}

// NewWire wraps a connection. To begin with it reads no more than it is asked for, so that a stranger costs little, and writes
// at once.
func NewWire(c net.Conn) *Wire {
	return &Wire{Conn: c, began: time.Now(), ack: acknowledger(c), done: make(chan struct{})}
}

// LoggedIn has it read ahead from now on, and gather what is written; nobody else may write at the same time, then or later, nor
// set a deadline. It has to be closed, then. It is called once.
func (w *Wire) LoggedIn() { w.out.Store(newGatherer(w.Conn)) }

// Heard is when the far end was heard of last.
func (w *Wire) Heard() time.Time { return w.began.Add(time.Duration(w.heard.Load())) }

// Done is closed when nothing will come in any more.
func (w *Wire) Done() <-chan struct{} { return w.done }

func (w *Wire) Read(p []byte) (int, error) {
	if len(w.ahead) == 0 {
		if w.out.Load() == nil {
			return w.receive(p)
		}
		into := newBuffer(w.class)
		n, err := w.receive(into.storage)
		if n == 0 {
			into.free()
			return 0, err
		}
		w.buffer, w.ahead = into, into.storage[:n]
		w.class = fitting(w.class, n, len(sizes)-1)
	}
	n := copy(p, w.ahead)
	if w.ahead = w.ahead[n:]; len(w.ahead) == 0 {
		w.buffer.free()
		w.buffer = nil
	}
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

func (w *Wire) Write(p []byte) (int, error) {
	if out := w.out.Load(); out != nil {
		return out.Write(p)
	}
	return w.Conn.Write(p)
}

// Close ends the connection. After the login it first writes what there is, for as long as that takes, and a second at most.
func (w *Wire) Close() error {
	w.ended()
	if out := w.out.Load(); out != nil {
		return out.close()
	}
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
	for wait := every; ; {
		due := time.Now().Add(wait)
		timer.Reset(wait)
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
			wait = every - silent
		case asked < most:
			asked++
			notify(questions)
			wait = every
		case time.Since(due) > every/2:
			wait = every // this program was held up, and an answer that is there may be, too
		default:
			dead(silent)
			return
		}
	}
}
