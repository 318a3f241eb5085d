package sshchan

import (
	"io"
	"net"
	"os"
	"sync"

	"github.com/fairlead-net/fairlead/internal/deadline"
)

// inbound is what comes from the far end. A goroutine reads ahead, so that a Read can be given up: it fills one buffer while
// the one before is read out of.
type inbound struct {
	source   io.Reader
	explain  func(error) error // of the source's errors
	deadline deadline.Deadline
	turn     chan struct{} // held by the one who reads
	start    sync.Once
	chunks   chan chunk // closed after the last
	ended    error      // set before chunks is closed

	// These belong to who has the turn.
	buffer *buffer
	rest   []byte // of the buffer
}

type chunk struct {
	buffer *buffer
	n      int
}

func (b *inbound) init(source io.Reader, explain func(error) error) {
	b.source, b.explain, b.deadline = source, explain, deadline.New()
	b.turn, b.chunks, b.ended = make(chan struct{}, 1), make(chan chunk), net.ErrClosed
}

func (b *inbound) read(p []byte, closed <-chan struct{}) (int, error) {
	passed, err := begin(&b.deadline, closed)
	if err != nil || len(p) == 0 {
		return 0, err
	}
	for {
		select {
		case b.turn <- struct{}{}:
			n, moved, err := b.take(p, closed, passed)
			<-b.turn
			if !moved {
				return n, err
			}
		case <-closed:
			return 0, net.ErrClosed
		case <-passed:
		}
		now := b.deadline.Wait()
		if now == passed {
			return 0, os.ErrDeadlineExceeded
		}
		passed = now
	}
}

// take copies from the buffer, and waits for one first. moved says that the deadline passed.
func (b *inbound) take(p []byte, closed, passed <-chan struct{}) (n int, moved bool, err error) {
	if len(b.rest) == 0 {
		b.start.Do(func() { go b.readAhead(closed) })
		select {
		case c, ok := <-b.chunks:
			if !ok {
				return 0, false, b.ended
			}
			b.buffer, b.rest = c.buffer, c.buffer.storage[:c.n]
		case <-closed:
			return 0, false, net.ErrClosed
		case <-passed:
			return 0, true, nil
		}
	}
	n = copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		b.buffer.free()
		b.buffer = nil
	}
	return n, false, nil
}

// readAhead reads until the source or the connection ends. What it has then that nobody took, nobody will.
func (b *inbound) readAhead(closed <-chan struct{}) {
	defer close(b.chunks)
	for class := 0; ; {
		into := newBuffer(class)
		n, err := b.source.Read(into.storage)
		if n == 0 {
			into.free()
		} else {
			select {
			case b.chunks <- chunk{into, n}:
			case <-closed:
				into.free()
				return
			}
		}
		if err != nil {
			b.ended = b.explain(err)
			return
		}
		class = fitting(class, n, largest)
	}
}
