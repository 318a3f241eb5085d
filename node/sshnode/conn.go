package sshnode

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// How much a connection reads at once: little until there is more, so that idle ones are cheap.
const (
	firstChunk = 4 << 10
	mostChunk  = 128 << 10
	writeChunk = 64 << 10
	// linger is how long what was written before Close is given to leave, while the far end takes nothing.
	linger = 10 * time.Second
)

// A conn is a channel as a net.Conn. The library's channels cannot be interrupted, so each direction has a goroutine that
// waits in the library, and callers wait for the goroutine: they can leave at a deadline or at Close. A direction has one
// buffer in the caller's hands and one in the goroutine's, so that encryption and the caller's own work overlap.
type conn struct {
	link          *link
	ch            ssh.Channel
	local, remote net.Addr
	in            inbound
	out           outbound
	closed        chan struct{} // by Close
	gone          chan struct{} // closed when the channel has ended on both sides
	once          sync.Once
	reading       sync.Once
}

type inbound struct {
	mu       sync.Mutex // one reader at a time
	full     chan []byte
	empty    chan []byte
	rest     []byte // of whole, not read yet
	whole    []byte
	err      error // once full is closed
	deadline deadline
}

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

func newConn(l *link, ch ssh.Channel, reqs <-chan *ssh.Request, local, remote net.Addr) *conn {
	c := &conn{link: l, ch: ch, local: local, remote: remote, closed: make(chan struct{}), gone: make(chan struct{})}
	c.in.full, c.in.empty, c.in.err = make(chan []byte), make(chan []byte, 2), net.ErrClosed
	c.out.full, c.out.empty, c.out.stopped = make(chan []byte, 2), make(chan []byte, 2), make(chan struct{})
	go func() {
		ssh.DiscardRequests(reqs)
		close(c.gone)
	}()
	c.in.deadline.init()
	c.out.deadline.init()
	return c
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.in.deadline.set(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	if c.isClosed() {
		return net.ErrClosed
	}
	c.out.deadline.set(t)
	return nil
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
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

// Close ends both directions and everybody who waits in them. What was written is sent first, in the background.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = nil
		close(c.closed)
		c.endWrite()
		select {
		case <-c.out.stopped:
			c.finish()
		default:
			go c.lingerOn()
		}
	})
	return err
}

func (c *conn) lingerOn() {
	t := time.NewTimer(linger)
	defer t.Stop()
	select {
	case <-c.out.stopped:
	case <-c.gone:
	case <-t.C:
	}
	c.finish()
}

func (c *conn) finish() {
	_ = c.ch.Close()
	c.in.deadline.set(time.Time{})
	c.out.deadline.set(time.Time{})
	c.link.release()
}
