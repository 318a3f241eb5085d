package load

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// An exchange is a connection over which a message goes there and back: once, or over and over. With a proxy there is a handshake
// between connecting and waiting.
//
//	connecting ──► waiting ──► done: Connect resets and Close closes, and both connect anew; Request waits again
type exchange struct {
	fd      int // -1: none
	waiting bool
	missing int // bytes of the answer
	began   time.Time
	hello   handshake // with the proxy, if there is one
}

// errSilent is a connection that came to a halt.
var errSilent = errors.New("an answer did not come within a second")

// retryTime keeps a target that refuses from becoming a busy loop.
const retryTime = time.Millisecond

// exchanges works on all of the client's connections at once.
func (c *client) exchanges() error {
	p, err := newPoller()
	if err != nil {
		return err
	}
	buf := make([]byte, c.spec.Size)
	all := make([]exchange, c.connections())
	var broken []int // to be connected anew
	for i := range all {
		all[i].fd = -1
		broken = append(broken, i)
	}
	for next := (time.Time{}); ; {
		now := time.Now()
		if now.After(c.by) {
			break
		}
		if len(broken) > 0 && now.After(next) {
			for _, i := range broken {
				if err := c.connect(p, &all[i], i); err != nil {
					return err
				}
			}
			broken, next = broken[:0], now.Add(retryTime)
		}
		for _, ev := range p.wait(1) {
			i := int(ev.Fd)
			if err := c.step(p, &all[i], i, buf); err != nil {
				c.failed(err)
				c.failedInGroup(all[i].began, err)
				reset(all[i].fd)
				all[i].fd = -1
				broken = append(broken, i)
			}
		}
	}
	for i := range all {
		if e := &all[i]; e.fd >= 0 {
			if c.by.Sub(e.began) > time.Second {
				c.errors++
				c.err = errSilent
			}
			reset(e.fd)
		}
	}
	return nil
}

// connect begins a connection. It is watched by edges: one when it is there, one when the answer is.
func (c *client) connect(p *poller, e *exchange, id int) error {
	fd, errno := socket(unix.SOCK_STREAM | unix.SOCK_NONBLOCK)
	if errno != 0 {
		return check("socket", errno)
	}
	e.fd, e.waiting, e.began, e.hello = fd, false, time.Now(), handshake{}
	// A connection that fails at once is reported by the poller like one that fails later.
	_ = connect(fd, c.target(id, e.began))
	return check("epoll_ctl", p.add(fd, id, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLET))
}

// step takes an exchange on after something has happened on its connection.
func (c *client) step(p *poller, e *exchange, id int, buf []byte) error {
	if !e.waiting {
		if c.ask != nil {
			if done, err := e.hello.next(e.fd, c.ask[id]); !done {
				return err
			}
		}
		if err := c.send(e, buf); err != nil {
			return err
		}
	}
	n, errno := read(e.fd, buf[:e.missing])
	switch {
	case errno == unix.EAGAIN:
		return nil
	case errno != 0:
		return check("read", errno)
	case n == 0:
		return errors.New("read: closed before the answer")
	}
	if e.missing -= n; e.missing > 0 {
		return c.step(p, e, id, buf)
	}
	c.finished(time.Now(), e.began, 1)
	c.finishedInGroup(e.began)
	switch c.spec.Kind {
	case Request:
		e.began = time.Now()
		return c.send(e, buf)
	case Close:
		closeOrderly(e.fd)
	default:
		reset(e.fd)
	}
	return c.connect(p, e, id)
}

func (c *client) send(e *exchange, buf []byte) error {
	n, errno := write(e.fd, buf)
	if errno == 0 && n < len(buf) {
		return errors.New("write: a fresh connection takes less than one message")
	}
	e.waiting, e.missing = true, len(buf)
	return check("write", errno)
}
