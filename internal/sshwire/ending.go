package sshwire

import "context"

// endIfDone ends what has ended both ways.
func (ca *Carried) endIfDone() {
	ch := ca.ch
	switch {
	case ca.pending.len() > 0:
	case ca.state == open && ch.sentEOF && ch.gotEOF:
		ca.end(false)
	case ca.state == draining:
		ca.settle()
	}
}

// gone goes on to give the socket what has come for it, if the peer has closed the channel or the connection has ended.
func (ca *Carried) gone(err error) {
	switch ca.state {
	case connecting:
		ca.killed.Store(true) // no other attempt
		if err == nil {
			err = errChannelClosed
		}
		ca.fail(err)
		return
	case waiting:
		ca.refused(err)
		return
	case open:
	default:
		return
	}
	ch := ca.ch
	ca.broken = !ch.gotEOF && (err != nil || ch.conn.resetsByClose())
	ca.state = draining
	ca.readable = false
	ca.until = 0
	if err != nil {
		ca.hurry()
	}
	if ca.pending.len() == 0 {
		ca.settle()
		if ca.state == ended {
			return
		}
	}
	ch.conn.lingering[ca] = struct{}{}
	ca.owed = ca.pending.len() // the window was given back, and the memory is still taken
	ch.conn.granted += ca.owed
	if !ca.settling {
		ca.reschedule()
	}
}

// hurry gives the application a limit to take what has come, each time that it takes some: the connection has ended.
func (ca *Carried) hurry() { ca.until = ca.conn.loop.now + int64(ca.conn.o.Linger) }

// settle closes a socket whose channel is gone. A reset waits until the application has what was sent to it, or it would lose that.
func (ca *Carried) settle() {
	l := ca.conn.loop
	if ca.broken && sysUnsent(ca.fd) > 0 {
		if !ca.settling {
			ca.settling, ca.until = true, l.now+drainTime
		}
		if l.now < ca.until {
			l.timers.set(&ca.timer, ca, l.now+drainStep)
			return
		}
	}
	ca.end(ca.broken)
}

// end closes the socket and the channel.
func (ca *Carried) end(reset bool) {
	if ca.state == ended {
		return
	}
	ca.state = ended
	ch := ca.ch
	c, l := ca.conn, ca.conn.loop
	delete(c.asking, ca)
	l.timers.clear(&ca.timer)
	if ca.place >= 0 {
		l.forget(ca.place)
		ca.place = -1
	}
	if reset {
		sysReset(ca.fd)
	} else {
		sysClose(ca.fd)
	}
	ca.pending = backlog{}
	ca.held.Store(0)
	if ch != nil && ch.side == side(ca) {
		ch.sendClose()
	}
	if _, ok := c.lingering[ca]; ok {
		delete(c.lingering, ca)
		c.granted -= ca.owed
		defer c.settled()
	}
	if ca.o.Ended != nil {
		ca.o.Ended(ca)
	}
}

// reschedule sets the timer to what is due next.
func (ca *Carried) reschedule() {
	next := int64(0)
	sooner := func(at int64) {
		if at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if ca.o.Idle > 0 && ca.state == open {
		sooner(ca.last + int64(ca.o.Idle))
	}
	sooner(ca.until)
	sooner(ca.resume[FromSocket])
	sooner(ca.resume[ToSocket])
	if l := ca.conn.loop; next > 0 {
		l.timers.set(&ca.timer, ca, next)
	} else {
		l.timers.clear(&ca.timer)
	}
}

func (ca *Carried) expire() {
	now := ca.conn.loop.now
	switch ca.state {
	case connecting:
		ca.fail(errnoTimeout)
		return
	case asking:
		ca.end(true)
		return
	case waiting:
		ca.ch.giveUp()
		ca.refused(context.DeadlineExceeded)
		return
	case draining:
		if ca.until > 0 && now >= ca.until {
			ca.end(true)
			return
		}
		if ca.pending.len() == 0 {
			ca.settle()
			return
		}
	case open:
		if ca.o.Idle > 0 && now >= ca.last+int64(ca.o.Idle) {
			ca.ch.sendEOF()
			ca.end(ca.pending.len() > 0)
			return
		}
	default:
		return
	}
	for i := range ca.resume {
		if ca.resume[i] <= now {
			ca.resume[i] = 0
		}
	}
	ca.drain()
	ca.fill()
	if ca.state != ended {
		ca.reschedule()
	}
}
