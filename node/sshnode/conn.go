package sshnode

import (
	"net"
	"sync"
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

// Close ends both directions and everybody who waits in them. What was written is sent first, in the background.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = nil
		close(c.closed)
		c.endWrite()
		go c.lingerOn() // even the word that it is closed may have to wait for a connection that is stuck
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
