package sshnode

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// An inbound is what a conn has of the direction towards us.
type inbound struct {
	mu       sync.Mutex // one reader at a time
	full     chan []byte
	empty    chan []byte
	rest     []byte // of whole, not read yet
	whole    []byte
	err      error // once full is closed
	deadline deadline
}

func (c *conn) Read(p []byte) (int, error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if err := c.fill(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	k := copy(p, c.in.rest)
	c.in.rest = c.in.rest[k:]
	return k, nil
}

// WriteTo spares a copy.
func (c *conn) WriteTo(w io.Writer) (int64, error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	var total int64
	for {
		if err := c.fill(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		k, err := w.Write(c.in.rest)
		c.in.rest = c.in.rest[k:]
		total += int64(k)
		if err != nil {
			return total, err
		}
	}
}

// fill waits until rest has something. It wants in.mu.
func (c *conn) fill() error {
	if c.isClosed() {
		return net.ErrClosed
	}
	expired := c.in.deadline.wait()
	select {
	case <-expired:
		return os.ErrDeadlineExceeded
	default:
	}
	if len(c.in.rest) > 0 {
		return nil
	}
	c.reading.Do(func() { go c.pump() })
	if c.in.whole != nil {
		c.in.empty <- c.in.whole // has room for both buffers
		c.in.whole = nil
	}
	for {
		select {
		case b, ok := <-c.in.full:
			if !ok {
				return c.in.err
			}
			c.in.whole, c.in.rest = b, b
			return nil
		case <-expired:
			return os.ErrDeadlineExceeded
		case <-c.closed:
			return net.ErrClosed
		}
	}
}

// pump reads from the channel until it ends.
func (c *conn) pump() {
	defer close(c.in.full)
	size, made := firstChunk, 0
	for {
		var b []byte
		select {
		case b = <-c.in.empty:
		default:
			if made < 2 {
				made++
				b = make([]byte, size)
				break
			}
			select {
			case b = <-c.in.empty:
			case <-c.closed:
				return
			}
		}
		if b = b[:cap(b)]; len(b) < size {
			b = make([]byte, size)
		}
		k, err := c.ch.Read(b)
		if k > 0 {
			if k == len(b) && size < mostChunk {
				size *= 4
			}
			select {
			case c.in.full <- b[:k]:
			case <-c.closed:
				return
			}
		}
		if err != nil {
			c.in.err = c.ending(err)
			return
		}
	}
}

// settling is how long the library takes at most between ending the channels of a connection and telling of its end.
const settling = 2 * time.Millisecond

// ending tells the end of a channel from the end of its connection, after which nobody knows what else would have come. The
// library calls both io.EOF. A channel that has only ended this direction is still there; one that is not may have gone with
// its connection, which is known in a moment.
func (c *conn) ending(err error) error {
	if err != io.EOF {
		return err
	}
	select {
	case <-c.gone:
		if c.link.alive() {
			select {
			case <-c.link.done:
			case <-time.After(settling):
			}
		}
	default:
	}
	if !c.link.alive() {
		return &net.OpError{Op: "read", Net: c.remote.Network(), Addr: c.remote, Err: errLinkDied}
	}
	return err
}
