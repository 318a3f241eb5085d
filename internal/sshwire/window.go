package sshwire

import "time"

// Windows begin so large that a near peer never waits, and grow for one that is far: one that uses up its window within a few
// round trips may have waited for it. All windows of a connection together stay within a budget, since a peer may fill them
// while their sockets take nothing.
const (
	windowFirst  = 2 << 20
	windowSmall  = 256 << 10 // once much is granted
	windowLeast  = 64 << 10  // once very much is
	windowMost   = 16 << 20
	budget       = 128 << 20
	nearBy       = 2 * time.Millisecond // with round trips as short, windows do not grow
	patient      = 30 * time.Second     // whoever takes longer for a part of a window does not wait for it
	roundTripAge = int64(100 * time.Millisecond)
)

func (c *Conn) firstWindow() int {
	switch {
	case c.granted < budget/2:
		return windowFirst
	case c.granted < budget:
		return windowSmall
	}
	return windowLeast
}

// consumed says that n bytes from the peer are out of our hands, and grants them again before the peer has to wait.
func (ch *Channel) consumed(n int) {
	ch.used += n
	if ch.used < ch.window/4 || ch.gotEOF || ch.gotClose || ch.sentClose || ch.conn.ended {
		return
	}
	c, now := ch.conn, ch.conn.loop.now
	if since := now - ch.adjusted; ch.adjusted > 0 && since < int64(patient) {
		whole := time.Duration(since) * time.Duration(ch.window) / time.Duration(ch.used) // for a window full
		if d := c.peerAway(); d > nearBy && whole < 3*d && ch.window < windowMost && c.granted+ch.window <= budget {
			c.granted += ch.window
			ch.used += ch.window
			ch.window *= 2
		}
	}
	ch.adjusted = now
	ch.granted += ch.used
	c.end(appendU32(appendU32(c.begin(msgChannelWindow), ch.remote), uint32(ch.used)))
	ch.used = 0
	c.mark()
}

// peerAway is the time of a round trip.
func (c *Conn) peerAway() time.Duration {
	if r := &c.roundTrip; r.at == 0 || c.loop.now-r.at > roundTripAge {
		r.at, r.d = c.loop.now, sysRoundTrip(c.fd)
	}
	return c.roundTrip.d
}

// roundTrip is how long it takes to the peer and back; looked up from time to time.
type roundTrip struct {
	d  time.Duration
	at int64
}
