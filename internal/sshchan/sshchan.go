// Package sshchan is what both ends of an SSH connection need to forward: a net.Conn made of a channel, the connection beneath
// it, which is read in large pieces and knows whether the far end lives, and the messages of the protocol.
//
// A channel knows no deadlines and no addresses, its Write waits for the window of the far end, and when its connection dies
// it says that all is well and has ended. Conn adds what is missing the way a socket has it: a small buffer in each direction,
// so that waiting can end. Which channels are opened, who may, and what goes through them, does not belong here.
package sshchan

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/deadline"
)

var (
	// ErrLost is that the connection of a channel ended before the channel did. What else would have come is not known.
	ErrLost = errors.New("the SSH connection ended")
	// ErrReset is that something is written that the far end will not take: it has closed the channel.
	ErrReset = errors.New("the far end closed the channel")
)

// linger is how long what was written before Close is given to leave, while the far end takes nothing.
const linger = 10 * time.Second

// settling is how long x/crypto takes at most between ending the channels of a connection and closing it.
const settling = 2 * time.Millisecond

// A Conn is one channel. Write returns when the bytes are in the buffer, as it does on a socket; Close and CloseWrite send
// what is still there first.
type Conn struct {
	channel ssh.Channel
	ends    Ends
	closed  chan struct{}
	gone    chan struct{} // closed when the far end has let go of the channel
	close   sync.Once
	in      inbound
	out     outbound
}

// Ends is what is known of a channel besides.
type Ends struct {
	Local, Remote net.Addr
	Wire          *Wire  // that the channel runs over; nil: the connection's end looks like the channel's
	Gone          func() // called when the far end has let go of the channel, which may be before Close; may be nil
}

// New wraps an open channel and answers the requests that come on it: with no.
func New(channel ssh.Channel, requests <-chan *ssh.Request, ends Ends) *Conn {
	c := &Conn{channel: channel, ends: ends, closed: make(chan struct{}), gone: make(chan struct{})}
	c.in.init(channel, c.explain)
	c.out.init(channel, c.explain)
	go c.answer(requests)
	return c
}

// answer ends with the channel.
func (c *Conn) answer(requests <-chan *ssh.Request) {
	ssh.DiscardRequests(requests)
	close(c.gone)
	if c.ends.Gone != nil {
		c.ends.Gone()
	}
}

// Read is that of net.Conn. The error is io.EOF only if the far end has ended this direction.
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
	if errors.Is(err, io.EOF) {
		err = ErrReset
	}
	if err != nil {
		err = c.failed("write", err)
	}
	return n, err
}

// explain tells the end of a channel from the end of its connection. The library mostly calls both io.EOF. A channel that has
// only ended one direction is still there; one that is not may have gone with its connection, which is known in a moment.
func (c *Conn) explain(err error) error {
	if err != io.EOF {
		return fmt.Errorf("%w: %s", ErrLost, err.Error()) // not %w: it may be an ErrClosed, which is not this Conn's
	}
	wire := c.ends.Wire
	if wire == nil {
		return err
	}
	if isClosed(c.gone) {
		select {
		case <-wire.Done():
		case <-time.After(settling):
		}
	}
	if isClosed(wire.Done()) {
		return ErrLost
	}
	return err
}

// CloseWrite ends this direction; the other one goes on.
func (c *Conn) CloseWrite() error {
	if isClosed(c.closed) {
		return c.failed("close", net.ErrClosed)
	}
	c.out.end(false)
	return nil
}

// Close ends both directions, and everybody who waits in them. What was written is still sent, as far as the far end takes it.
func (c *Conn) Close() error {
	err := c.failed("close", net.ErrClosed)
	c.close.Do(func() {
		close(c.closed)
		c.out.end(true)
		c.in.deadline.Set(time.Time{})
		c.out.deadline.Set(time.Time{})
		time.AfterFunc(linger, c.giveUp)
		err = nil
	})
	return err
}

// giveUp closes a channel whose far end takes nothing.
func (c *Conn) giveUp() {
	if !isClosed(c.out.over) {
		_ = c.channel.Close()
	}
}

// LocalAddr is the one of Ends.
func (c *Conn) LocalAddr() net.Addr { return c.ends.Local }

// RemoteAddr is the one of Ends.
func (c *Conn) RemoteAddr() net.Addr { return c.ends.Remote }

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

func (c *Conn) setDeadline(d *deadline.Deadline, t time.Time) error {
	if isClosed(c.closed) {
		return c.failed("set", net.ErrClosed)
	}
	d.Set(t)
	return nil
}

func (c *Conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "ssh", Source: c.ends.Local, Addr: c.ends.Remote, Err: err}
}
