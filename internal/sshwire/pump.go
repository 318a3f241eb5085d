package sshwire

import "encoding/binary"

// ready takes in what has become possible with the socket.
func (ca *Carried) ready(events uint32) {
	if ca.state == connecting {
		if events&(evOut|evError|evHangup) != 0 {
			ca.connected(events)
		}
		if ca.state != open {
			return
		}
	}
	if ca.state == asking {
		ca.asked()
		return
	}
	if events&(evIn|evEnd|evHangup|evError) != 0 {
		ca.readable = true
	}
	if events&(evEnd|evHangup|evError) != 0 {
		ca.hangup = true
	}
	if events&evUrgent != 0 {
		ca.careful = true // a read stops short at urgent data
	}
	if events&evOut != 0 && ca.pending.len() > 0 {
		ca.drain()
	}
	if ca.state != open {
		return
	}
	ch := ca.ch
	if (ch.sentEOF || ch.room == 0) && events&evError != 0 && sysSocketError(ca.fd) != 0 {
		if ch.sentEOF || sysUnread(ca.fd) == 0 {
			ca.end(true) // there is nothing more to be read from it, and it takes nothing either
		} else {
			ca.died() // what it has said before waits until the peer grants more
		}
		return
	}
	if c := ch.conn; ca.bulk && len(c.queue) > 0 {
		c.enqueue(ch)
	} else {
		ca.fill()
	}
}

// headSize is what stands before the data of a packet: its head, the message, the channel and the length.
const headSize = packetHead + 1 + 4 + 4

// fill reads what the socket has straight into packets, and encrypts them there.
func (ca *Carried) fill() {
	ch := ca.ch
	c := ch.conn
	for ca.state == open && ca.readable && !ch.sentEOF && !c.ended {
		if ca.resume[FromSocket] > c.loop.now {
			return // until the timer
		}
		if !c.mayBulk() {
			c.enqueue(ch)
			return
		}
		if ch.room == 0 {
			return // until the peer grants more
		}
		want, got, again := ca.readPackets()
		if got < 0 {
			return
		}
		if got < want && !ca.careful && !ca.hangup {
			ca.readable = false // an edge comes with more
		}
		if again {
			c.flush()
			c.enqueue(ch) // the others' turn first
			return
		}
	}
}

// readPackets is one readv and its packets. got is negative when nothing more is to be read now; again is that there is a lot.
func (ca *Carried) readPackets() (want, got int, again bool) {
	ch := ca.ch
	c, l := ch.conn, ch.conn.loop
	size := ch.packet
	packets := 1
	if ca.bulk {
		packets = share
	}
	most := int(min(ch.room, int64(packets*size)))
	slice := ca.slice(FromSocket)
	if slice > 0 {
		most = min(most, slice)
	}
	step := headSize + size + c.out.padding(headSize-packetHead+size) + tagSize
	out := c.space((most + size - 1) / size * step)
	at, n := len(out), 0
	for want < most {
		part := min(size, most-want)
		p := at + n*step + headSize
		setIovec(&l.iov[n], out[p:p+part:cap(out)])
		want += part
		n++
	}
	got, errno := sysReadv(ca.fd, l.iov[:n])
	switch {
	case errno == errnoAgain:
		ca.readable = false
		return 0, -1, false
	case errno != 0:
		ca.end(true)
		return 0, -1, false
	case got == 0:
		ca.readable = false
		if ca.deaf {
			ca.end(true)
			return 0, -1, false
		}
		ch.sendEOF()
		ca.last = l.now
		ca.endIfDone()
		return 0, -1, false
	}
	for left := got; left > 0; {
		part := min(size, left)
		left -= part
		at := len(out)
		out = out[:at+headSize+part]
		out[at+5] = msgChannelData
		binary.BigEndian.PutUint32(out[at+6:], ch.remote)
		binary.BigEndian.PutUint32(out[at+10:], uint32(part))
		out = c.out.seal(out, at, c.noise)
	}
	c.outgoing = out
	c.mark()
	ch.room -= int64(got)
	ca.moved[FromSocket].Add(uint64(got))
	ca.last = l.now
	ca.bulk = got >= size
	if slice > 0 {
		ca.pay(FromSocket, got)
	}
	return want, got, got == share*size
}

// space is outgoing with room for n more bytes, so that what is read there need not be moved.
func (c *Conn) space(n int) []byte {
	if c.outgoing == nil {
		c.outgoing = c.buffers.take()
	}
	if cap(c.outgoing)-len(c.outgoing) < n && c.sent > 0 {
		c.outgoing = c.outgoing[:copy(c.outgoing, c.outgoing[c.sent:])]
		c.sent = 0
	}
	if cap(c.outgoing)-len(c.outgoing) < n {
		grown := make([]byte, len(c.outgoing), len(c.outgoing)+n+outSize/4)
		copy(grown, c.outgoing)
		c.outgoing = grown
	}
	return c.outgoing
}

// take writes to the socket what has come for it.
func (ca *Carried) take(parts [][]byte, size int) {
	ca.last = ca.conn.loop.now
	if ca.deaf || ca.state != open {
		ca.ch.consumed(size)
		return
	}
	limited := ca.slice(ToSocket) > 0
	if ca.pending.len() == 0 && !limited {
		n := ca.write(parts)
		if n == size {
			return
		}
		if ca.deaf || ca.state != open {
			ca.ch.consumed(size - n)
			return
		}
		for n >= len(parts[0]) {
			n -= len(parts[0])
			parts = parts[1:]
		}
		ca.pending.add(parts[0][n:])
		parts = parts[1:]
	}
	for _, p := range parts {
		ca.pending.add(p)
	}
	ca.held.Store(int64(ca.pending.len()))
	if limited {
		ca.drain()
	}
}

// takeStderr drops what no socket has a place for.
func (ca *Carried) takeStderr(data []byte) { ca.ch.consumed(len(data)) }

// write sends parts, and returns how many bytes the socket took.
func (ca *Carried) write(parts [][]byte) int {
	var n int
	l := ca.conn.loop
	for i, p := range parts {
		setIovec(&l.iov[i], p)
	}
	n, errno := sysWritev(ca.fd, l.iov[:len(parts)])
	if errno != 0 {
		if errno != errnoAgain {
			ca.died()
		}
		return 0
	}
	ca.wrote(n)
	return n
}

func (ca *Carried) wrote(n int) {
	ca.moved[ToSocket].Add(uint64(n))
	ca.last = ca.conn.loop.now
	ca.ch.consumed(n)
	if ca.state == draining && ca.until > 0 {
		ca.hurry()
		ca.reschedule()
	}
}

// died says that the socket takes nothing more. What the application has said before is still sent; then that is the end.
func (ca *Carried) died() {
	ch := ca.ch
	lost := ca.pending.len()
	ca.pending = backlog{}
	ca.held.Store(0)
	ch.consumed(lost)
	if ca.state != open || ch.sentEOF {
		ca.end(true)
		return
	}
	ca.deaf, ca.readable, ca.hangup = true, true, true
	ca.conn.enqueue(ch)
}

// drain writes what is pending.
func (ca *Carried) drain() {
	ca.held.Store(int64(ca.pending.len()))
	slice := ca.slice(ToSocket)
	for ca.pending.len() > 0 && !ca.deaf {
		p := ca.pending.bytes()
		if slice > 0 && ca.state == open {
			if ca.resume[ToSocket] > ca.conn.loop.now {
				return
			}
			p = p[:min(slice, len(p))]
		}
		n, errno := sysWrite(ca.fd, p)
		switch {
		case errno == errnoAgain:
			return
		case errno != 0:
			ca.died()
			return
		}
		ca.pending.skip(n)
		ca.held.Store(int64(ca.pending.len()))
		ca.wrote(n)
		if slice > 0 && !ca.pay(ToSocket, n) {
			return
		}
	}
	if ca.ch.gotEOF || ca.state == draining {
		ca.shutdown()
	}
	ca.endIfDone()
}

// eof passes the end of the peer's direction on, after what came before.
func (ca *Carried) eof() {
	if ca.state == open && ca.pending.len() == 0 {
		ca.shutdown()
		ca.endIfDone()
	}
}

func (ca *Carried) shutdown() {
	if !ca.shut && !ca.broken && !(ca.state == open && ca.ch.sentEOF) { // for then it is closed next
		ca.shut = true
		sysShutdownWrite(ca.fd)
	}
}

// slice is how many bytes may go one way in a turn; 0 is no limit, now at least: a Limit may get a rate and lose it.
func (ca *Carried) slice(direction int) int {
	if l := ca.o.Limits[direction]; l != nil {
		return l.Slice()
	}
	return 0
}

// pay pays for bytes that have passed, and reports whether the direction may go on at once.
func (ca *Carried) pay(direction, n int) bool {
	wait := ca.o.Limits[direction].Pay(int64(n))
	if wait < 0 {
		ca.end(true)
		return false
	}
	if wait < 1e6 { // a millisecond is what timers are good for
		return true
	}
	ca.resume[direction] = ca.conn.loop.now + int64(wait)
	ca.last = ca.resume[direction] // who waits for a turn is not idle
	ca.reschedule()
	return false
}
