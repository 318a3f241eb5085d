// Package sshchan makes a net.Conn of an SSH channel, for those who open channels and those who accept them.
//
// A channel knows no deadlines and no addresses, and its Write waits for the window of the far end. Conn adds what is
// missing the way a socket has it: a small buffer in each direction, so that waiting can end. Which channels are opened, and
// what goes through them, does not belong here.
package sshchan

import (
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Conn is one channel. Write returns when the bytes are in the buffer, as it does on a socket; Close and CloseWrite send
// what is still there first.
type Conn struct {
	channel       ssh.Channel
	local, remote net.Addr
	closed        chan struct{}
	close         sync.Once
	in            inbound
	out           outbound
}

// New wraps an open channel and answers the requests that come on it: with no. Nil are requests that the caller answers.
func New(channel ssh.Channel, requests <-chan *ssh.Request, local, remote net.Addr) *Conn {
	c := &Conn{channel: channel, local: local, remote: remote, closed: make(chan struct{})}
	c.in.init(channel)
	c.out.init(channel)
	if requests != nil {
		go ssh.DiscardRequests(requests)
	}
	return c
}

// Read is that of net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p, c.closed)
	if err != nil && err != io.EOF {
		err = c.failed("read", err)
	}
	return n, err
}

// Write is that of net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p, c.closed)
	if err != nil {
		err = c.failed("write", err)
	}
	return n, err
}

// CloseWrite ends this direction; the other one goes on.
func (c *Conn) CloseWrite() error {
	if isClosed(c.closed) {
		return c.failed("close", net.ErrClosed)
	}
	c.out.end(false)
	return nil
}

// Close ends both directions. What was written is still sent, as far as the far end takes it.
func (c *Conn) Close() error {
	err := c.failed("close", net.ErrClosed)
	c.close.Do(func() {
		close(c.closed)
		c.out.end(true)
		err = nil
	})
	return err
}

// LocalAddr is the address that New was given.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the address that New was given.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline is that of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.in.deadline, t) }

// SetWriteDeadline is that of net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.out.deadline, t) }

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	if isClosed(c.closed) {
		return c.failed("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

func (c *Conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "ssh", Source: c.local, Addr: c.remote, Err: err}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
