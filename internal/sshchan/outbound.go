package sshchan

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// outbound is what goes to the far end: a goroutine sends what is in the buffer, so that a Write can be given up.
type outbound struct {
	channel  ssh.Channel
	deadline deadline
	turn     chan struct{} // held by the one who writes
	room     chan struct{} // something left the buffer
	work     chan struct{} // there is something to send, or an end
	start    sync.Once

	mu      sync.Mutex
	buffer  []byte  // waits to be sent
	storage *[]byte // the array of buffer
	failed  error
	ended   bool // no more is written
	closed  bool // nor read
}

func (b *outbound) init(channel ssh.Channel) {
	b.channel, b.deadline = channel, newDeadline()
	b.turn, b.room, b.work = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
}

func (b *outbound) write(p []byte, closed <-chan struct{}) (int, error) {
	passed := b.deadline.wait()
	switch {
	case isClosed(closed):
		return 0, net.ErrClosed
	case isClosed(passed):
		return 0, os.ErrDeadlineExceeded
	}
	for written, mine := 0, false; ; {
		turn, room := b.turn, b.room
		if mine {
			turn = nil
			n, err := b.put(p[written:])
			if written += n; err != nil || written == len(p) {
				<-b.turn
				return written, err
			}
		} else {
			room = nil
		}
		select {
		case turn <- struct{}{}:
			mine = true
			continue
		case <-room:
			continue
		case <-closed:
			if mine {
				<-b.turn
			}
			return written, net.ErrClosed
		case <-passed:
		}
		// A deadline may have been moved after it had passed; then the wait goes on.
		now := b.deadline.wait()
		if now == passed {
			if mine {
				<-b.turn
			}
			return written, os.ErrDeadlineExceeded
		}
		passed = now
	}
}

// put takes as much of p into the buffer as has room.
func (b *outbound) put(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.failed != nil:
		return 0, b.failed
	case b.ended:
		return 0, io.ErrClosedPipe
	}
	if b.storage == nil {
		b.storage = large.Get().(*[]byte)
		b.buffer = (*b.storage)[:0]
	}
	n := min(len(p), cap(b.buffer)-len(b.buffer))
	b.buffer = append(b.buffer, p[:n]...)
	b.wake()
	return n, nil
}

// end says that nothing more is written and, when closed is set, that the channel is to be closed.
func (b *outbound) end(closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended, b.closed = true, b.closed || closed
	b.wake()
}

// wake has the sender look again; b.mu is held.
func (b *outbound) wake() {
	b.start.Do(func() { go b.send() })
	notify(b.work)
}

// send sends the buffer, then the ends, until the channel is closed.
func (b *outbound) send() {
	said := false
	for range b.work {
		b.mu.Lock()
		data, storage, ended, closed, failed := b.buffer, b.storage, b.ended, b.closed, b.failed
		b.buffer, b.storage = nil, nil
		b.mu.Unlock()
		if len(data) > 0 && failed == nil {
			notify(b.room)
			if _, failed = b.channel.Write(data); failed != nil {
				if errors.Is(failed, io.EOF) {
					failed = io.ErrClosedPipe // the channel is gone; EOF is nothing that a writer expects
				}
				b.mu.Lock()
				b.failed = failed
				b.mu.Unlock()
				notify(b.room)
			}
		}
		if storage != nil {
			large.Put(storage)
		}
		if ended && !said {
			_ = b.channel.CloseWrite() // fails when the channel is gone, and then the far end knows
			said = true
		}
		if closed {
			_ = b.channel.Close()
			return
		}
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
