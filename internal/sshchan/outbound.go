package sshchan

import (
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/deadline"
)

// outbound is what goes to the far end. A goroutine sends, so that a Write can be given up: it sends one buffer while the next
// one is filled. A buffer is held only while something is in it.
type outbound struct {
	channel  ssh.Channel
	explain  func(error) error // of the channel's errors
	deadline deadline.Deadline
	turn     chan struct{} // held by the one who writes
	room     chan struct{} // something left the buffer
	work     chan struct{} // there is something to send, or an end
	over     chan struct{} // closed when the channel was closed
	start    sync.Once

	mu     sync.Mutex
	buffer *buffer // waits to be sent; may be nil
	filled int     // of it
	failed error
	ended  bool // no more is written
	closed bool // nor read
}

func (b *outbound) init(channel ssh.Channel, explain func(error) error) {
	b.channel, b.explain, b.deadline = channel, explain, deadline.New()
	b.turn, b.room, b.work = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	b.over = make(chan struct{})
}

func (b *outbound) write(p []byte, closed <-chan struct{}) (int, error) {
	passed, err := begin(&b.deadline, closed)
	if err != nil {
		return 0, err
	}
	for written, mine := 0, false; ; {
		turn, room := b.turn, b.room
		if mine {
			turn = nil
			n, err := b.put(p[written:])
			if written += n; err != nil || written == len(p) {
				<-b.turn
				if err != nil && isClosed(closed) {
					err = net.ErrClosed
				}
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
		now := b.deadline.Wait()
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
	if b.buffer == nil {
		b.buffer, b.filled = newBuffer(largest), 0
	}
	n := copy(b.buffer.storage[b.filled:], p)
	b.filled += n
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
	defer close(b.over)
	said := false
	for range b.work {
		b.mu.Lock()
		buffer, filled, ended, closed, failed := b.buffer, b.filled, b.ended, b.closed, b.failed
		b.buffer = nil
		b.mu.Unlock()
		if buffer != nil {
			notify(b.room)
			if failed == nil {
				_, failed = b.channel.Write(buffer.storage[:filled])
			}
			buffer.free()
			if failed != nil {
				b.fail(failed)
			}
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

// fail has all writers learn of the first error.
func (b *outbound) fail(err error) {
	err = b.explain(err)
	b.mu.Lock()
	if b.failed == nil {
		b.failed = err
	}
	b.mu.Unlock()
	notify(b.room)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
