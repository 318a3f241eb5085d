package sshwire

import (
	"fmt"
	"io"
)

const (
	outBulk  = 512 << 10 // with as much to send, bulk waits
	outMost  = 4 << 20   // with as much, nothing is read that might want an answer
	heldMost = 1 << 20   // of what waits for the end of a key exchange
	reads    = 4         // of the SSH socket in a turn
)

// unsent is how much the socket has not taken yet.
func (c *Conn) unsent() int { return len(c.outgoing) - c.sent }

// mark has turn called before the loop waits.
func (c *Conn) mark() {
	if !c.busy && !c.ended {
		c.busy = true
		c.loop.busy = append(c.loop.busy, c)
	}
}

// enqueue has a channel send when it is its turn.
func (c *Conn) enqueue(ch *Channel) {
	if !ch.queued && !c.ended {
		ch.queued = true
		c.queue = append(c.queue, ch)
	}
	c.mark()
}

// ready takes in what has become possible with the SSH socket.
func (c *Conn) ready(events uint32) {
	if events&evOut != 0 {
		c.full = false
	}
	if events&(evIn|evEnd|evHangup|evError) != 0 {
		c.in = true
	}
	if events&(evEnd|evHangup|evError) != 0 {
		c.hangup = true
	}
	if c.in {
		c.receive()
	}
	c.mark()
}

// turn sends what there is: what is small has been put there already; those in bulk get one turn each.
func (c *Conn) turn() {
	if c.ended {
		return
	}
	if c.in {
		c.receive()
	}
	c.flush()
	for n := len(c.queue); n > 0 && !c.ended && c.mayBulk(); n-- {
		ch := c.queue[0]
		c.queue = c.queue[1:]
		ch.queued = false
		ch.side.fill()
	}
	if c.ended {
		return
	}
	c.rekeyIfDue()
	c.flush()
	if len(c.held) > heldMost {
		c.fail(broken("it asks for ever more while keys are exchanged"))
		return
	}
	if len(c.queue) > 0 && c.mayBulk() || c.in && c.unsent() < outMost {
		c.mark()
	}
}

// mayBulk reports whether there is room for those in the queue.
func (c *Conn) mayBulk() bool { return c.unsent() < outBulk && !c.exchange.blocks() }

// flush writes as much as the socket takes.
func (c *Conn) flush() {
	for c.sent < len(c.outgoing) && !c.full {
		n, errno := sysWrite(c.fd, c.outgoing[c.sent:])
		switch {
		case errno == errnoAgain:
			c.full = true
			return
		case errno != 0:
			c.full = true
			c.outgoing, c.sent = c.outgoing[:0], 0
			c.die(fmt.Errorf("the SSH connection broke: %w", errno))
			return
		}
		c.sent += n
	}
	if c.sent == len(c.outgoing) && c.outgoing != nil {
		c.buffers.give(c.outgoing)
		c.outgoing, c.sent = nil, 0
	}
}

// receive reads what has come, and does what it says.
func (c *Conn) receive() {
	l := c.loop
	for range reads {
		if c.ended || c.unsent() >= outMost {
			return // goes on when the peer has taken something
		}
		n := copy(l.in, c.rest)
		r, errno := sysRead(c.fd, l.in[n:])
		switch {
		case errno == errnoAgain:
			c.in = false
			return
		case errno != 0:
			c.die(fmt.Errorf("the SSH connection broke: %w", errno))
			return
		case r == 0:
			c.die(fmt.Errorf("the SSH peer has closed the connection: %w", io.ErrUnexpectedEOF))
			return
		}
		c.heard, c.asked = l.now, 0
		if err := c.packets(l.in[:n+r]); err != nil {
			c.fail(err)
			return
		}
		if n+r < len(l.in) && !c.hangup {
			c.in = false // an edge comes with more
			return
		}
	}
}

// maxRun is how many packets for one channel are written to its socket by one call.
const maxRun = 64

// A run is data for one channel, in packets that followed each other.
type run struct {
	ch    *Channel
	parts [maxRun][]byte
	n     int
	size  int
}

// packets takes the packets in b, and keeps the beginning of one that is not complete.
func (c *Conn) packets(b []byte) error {
	run := &c.loop.run
	for {
		p, size, err := c.transport.in.open(b)
		if err != nil {
			c.deliver() // what came before was authentic, and the run is the loop's: nothing of it may be left for others
			return err
		}
		if size == 0 {
			break
		}
		b = b[size:]
		if p[0] == msgChannelData && c.exchange == nil {
			ch, data, err := c.dataOf(p)
			if err != nil {
				c.deliver()
				return err
			}
			if ch == nil {
				continue
			}
			if run.ch != ch || run.n == maxRun {
				c.deliver()
				run.ch = ch
			}
			run.parts[run.n] = data
			run.n++
			run.size += len(data)
			continue
		}
		c.deliver()
		if c.ended {
			return nil
		}
		if err := c.dispatch(p); err != nil || c.ended {
			return err
		}
	}
	c.deliver()
	if len(b) == 0 && cap(c.rest) > outSize/4 {
		c.rest = nil
	}
	c.rest = append(c.rest[:0], b...)
	return nil
}

// deliver gives the run to its channel.
func (c *Conn) deliver() {
	run := &c.loop.run
	if run.n == 0 {
		return
	}
	ch, parts, size := run.ch, run.parts[:run.n], run.size
	run.ch, run.n, run.size = nil, 0, 0
	if ch.sentClose {
		return // nobody wants it any more
	}
	ch.side.take(parts, size)
}
