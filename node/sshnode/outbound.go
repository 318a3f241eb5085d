package sshnode

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// An outbound is what a conn has of the direction towards the server.
type outbound struct {
	mu       sync.Mutex    // one writer at a time
	empty    chan []byte   // room for both buffers, as full has
	stopped  chan struct{} // closed when the goroutine has ended
	failed   atomic.Value  // error
	deadline deadline

	state   sync.Mutex // guards what follows; held for moments
	full    chan []byte
	started bool
	ended   bool // nothing is sent to full any more
}

// Write returns when the bytes are taken, as that of a socket does. What goes wrong afterwards is told by the next call.
func (c *conn) Write(p []byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	total := 0
	for len(p) > 0 {
		b, err := c.room()
		if err != nil {
			return total, err
		}
		k := copy(b[:cap(b)], p)
		if err := c.send(b[:k]); err != nil {
			return total, err
		}
		p = p[k:]
		total += k
	}
	return total, nil
}

// ReadFrom spares a copy.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	var total int64
	for {
		b, err := c.room()
		if err != nil {
			return total, err
		}
		k, err := r.Read(b[:cap(b)])
		total += int64(k)
		if k == 0 {
			c.out.empty <- b
		} else if err := c.send(b[:k]); err != nil {
			return total, err
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// room waits for a buffer that is free. It wants out.mu.
func (c *conn) room() ([]byte, error) {
	if err := c.start(); err != nil {
		return nil, err
	}
	expired := c.out.deadline.wait()
	select {
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	default:
	}
	select {
	case b := <-c.out.empty:
		if err, ok := c.out.failed.Load().(error); ok {
			c.out.empty <- b
			return nil, err
		}
		return b, nil
	case <-expired:
		return nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return nil, net.ErrClosed
	}
}

// start has the goroutine run that writes, if the direction is open.
func (c *conn) start() error {
	c.out.state.Lock()
	defer c.out.state.Unlock()
	switch {
	case c.isClosed():
		return net.ErrClosed
	case c.out.ended:
		return io.ErrClosedPipe
	case !c.out.started:
		c.out.started = true
		c.out.empty <- make([]byte, writeChunk)
		go c.push()
	}
	return nil
}

// send hands a buffer over. There is room for both.
func (c *conn) send(b []byte) error {
	c.out.state.Lock()
	defer c.out.state.Unlock()
	if c.out.ended {
		return net.ErrClosed
	}
	c.out.full <- b
	return nil
}

// push writes to the channel what Write has taken, until full is closed.
func (c *conn) push() {
	defer close(c.out.stopped)
	made := 1
	for b := range c.out.full {
		if made < 2 {
			made++
			c.out.empty <- make([]byte, writeChunk)
		}
		if c.out.failed.Load() == nil {
			if _, err := c.ch.Write(b); err != nil {
				c.out.failed.Store(error(&net.OpError{Op: "write", Net: c.remote.Network(), Addr: c.remote, Err: reset(err)}))
			}
		}
		c.out.empty <- b
	}
}

// reset is what a writer learns whose reader has gone.
func reset(err error) error {
	if err == io.EOF {
		return errReset
	}
	return err
}

// CloseWrite sends what was written and ends that direction.
func (c *conn) CloseWrite() error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if !c.endWrite() {
		return nil
	}
	select {
	case <-c.out.stopped:
	case <-c.out.deadline.wait():
		return os.ErrDeadlineExceeded
	case <-c.closed:
		return net.ErrClosed
	}
	if err, ok := c.out.failed.Load().(error); ok {
		return err
	}
	return c.ch.CloseWrite()
}

// endWrite lets the goroutine end that writes, when it has written what it has; false if that was done before.
func (c *conn) endWrite() bool {
	c.out.state.Lock()
	defer c.out.state.Unlock()
	if c.out.ended {
		return false
	}
	c.out.ended = true
	if c.out.started {
		close(c.out.full)
	} else {
		close(c.out.stopped)
	}
	return true
}
