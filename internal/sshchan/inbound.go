package sshchan

import (
	"io"
	"net"
	"os"
	"sync"
)

// A channel that is silent holds a small buffer, one that is busy a large one.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

var large = sync.Pool{New: func() any { b := make([]byte, largeBuffer); return &b }}

// inbound is what comes from the far end: a goroutine reads one buffer ahead, so that a Read can be given up.
type inbound struct {
	source   io.Reader
	deadline deadline
	turn     chan struct{} // held by the one who reads
	start    sync.Once
	chunks   chan []byte   // closed after the last
	free     chan struct{} // the chunk was used up
	rest     []byte        // of the chunk; belongs to who has the turn
	ended    error         // set before chunks is closed
}

func (b *inbound) init(source io.Reader) {
	b.source, b.deadline = source, newDeadline()
	b.turn, b.chunks, b.free = make(chan struct{}, 1), make(chan []byte), make(chan struct{}, 1)
}

func (b *inbound) read(p []byte, closed <-chan struct{}) (int, error) {
	passed := b.deadline.wait()
	switch {
	case isClosed(closed):
		return 0, net.ErrClosed
	case isClosed(passed):
		return 0, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, nil
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
		// A deadline may have been moved after it had passed; then the wait goes on.
		now := b.deadline.wait()
		if now == passed {
			return 0, os.ErrDeadlineExceeded
		}
		passed = now
	}
}

// take copies from the chunk, and waits for one first. moved says that the deadline passed.
func (b *inbound) take(p []byte, closed, passed <-chan struct{}) (n int, moved bool, err error) {
	if len(b.rest) == 0 {
		b.start.Do(func() { go b.readAhead(closed) })
		select {
		case chunk, ok := <-b.chunks:
			if !ok {
				return 0, false, b.ended
			}
			b.rest = chunk
		case <-closed:
			return 0, false, net.ErrClosed
		case <-passed:
			return 0, true, nil
		}
	}
	n = copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		b.free <- struct{}{}
	}
	return n, false, nil
}

// readAhead reads one chunk after the other, each when the one before was used up.
func (b *inbound) readAhead(closed <-chan struct{}) {
	defer close(b.chunks)
	small := make([]byte, smallBuffer)
	var big *[]byte
	defer func() {
		if big != nil {
			large.Put(big)
		}
	}()
	for {
		buffer := small
		if big != nil {
			buffer = *big
		}
		n, err := b.source.Read(buffer)
		if n > 0 {
			select {
			case b.chunks <- buffer[:n]:
			case <-closed:
				big = nil // it may still be in use
				b.ended = net.ErrClosed
				return
			}
			select {
			case <-b.free:
			case <-closed:
				big = nil
				b.ended = net.ErrClosed
				return
			}
		}
		if err != nil {
			b.ended = err
			return
		}
		switch {
		case big == nil && n == len(buffer):
			big = large.Get().(*[]byte)
		case big != nil && n < smallBuffer:
			large.Put(big)
			big = nil
		}
	}
}
