package sshwire

import (
	"errors"
	"time"
)

const (
	// kexTime is how long the peer may be silent while keys are exchanged. What it has sent before may take its time.
	kexTime = int64(2 * time.Minute)

	requestKeepalive = "keepalive@openssh.com"
)

var errSlowKex = errors.New("the SSH peer did not answer an exchange of keys")

// rekeyIfDue begins an exchange of keys when there has been enough with the present ones (RFC 4253, section 9).
func (c *Conn) rekeyIfDue() {
	if c.exchange != nil {
		return
	}
	if c.transport.in.moved < c.o.RekeyBytes && c.out.moved < c.o.RekeyBytes && c.loop.now-c.keyed < int64(c.o.RekeyAfter) {
		return
	}
	c.keyed = c.loop.now
	c.startKex()
	c.schedule()
}

// look does what is due by the clock, and sets it anew.
func (c *Conn) look() {
	if c.ended {
		return
	}
	now := c.loop.now
	if c.exchange != nil && now-max(c.keyed, c.heard) >= kexTime {
		c.die(errSlowKex)
		return
	}
	c.rekeyIfDue()
	if wait := int64(c.o.Keepalive); wait > 0 && now >= c.nextKeepalive() && !c.exchange.blocks() {
		if c.asked >= c.o.KeepaliveMax {
			c.die(ErrDead)
			return
		}
		c.asked++
		c.end(appendBool(appendString(c.begin(msgGlobalRequest), requestKeepalive), true))
		c.waiting = append(c.waiting, func(bool, []byte) {}) // any answer will do
	}
	if len(c.rest) == 0 {
		c.rest = nil
	}
	c.mark()
	c.schedule()
}

func (c *Conn) nextKeepalive() int64 { return c.heard + int64(c.asked+1)*int64(c.o.Keepalive) }

// schedule sets the clock to what is due next.
func (c *Conn) schedule() {
	if c.ended {
		return
	}
	next := c.keyed + int64(c.o.RekeyAfter)
	if c.exchange != nil {
		next = max(c.keyed, c.heard) + kexTime
	}
	if c.o.Keepalive > 0 {
		next = min(next, max(c.nextKeepalive(), c.loop.now+int64(100*time.Millisecond)))
	}
	c.loop.timers.set(&c.timer, c, next)
}

func (c *Conn) expire() { c.look() }
