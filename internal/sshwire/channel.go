package sshwire

import (
	"encoding/binary"
	"net"
)

const (
	maxData   = 32 << 10 // bytes of a data packet that we send at most, and ask for
	mostIDs   = 1 << 16  // channels of both sides
	maxExtra  = 4 << 10  // of what opens a channel: names and paths
	minPacket = 1        // the smallest maximum packet that a peer may ask for
)

// A Channel is one stream of bytes in each direction (RFC 4254, section 5). It is a net.Conn with half-close, until Carry gives
// it a socket, and safe for concurrent use.
//
//	opening ──► open ──► EOF sent, EOF received, in any order ──► CLOSE sent and received ──► its number is free
type Channel struct {
	*stream
	conn          *Conn
	side          side // what is at this end; of the loop
	local, remote uint32
	packet        int   // the longest data packet that the peer takes
	room          int64 // bytes that the peer takes now
	window        int   // bytes that we take at most
	granted       int   // bytes that the peer may send now
	used          int   // bytes that were taken and not granted again
	adjusted      int64 // when bytes were granted
	opening       *opening
	onRequest     func(*Request)
	waiting       []func(ok bool, payload []byte)
	replies       replies
	foreign       bool // the peer opened it
	open          bool
	queued        bool // in Conn.queue
	sentEOF       bool
	gotEOF        bool
	sentClose     bool
	gotClose      bool
	gone          bool
	whenGone      []func()
}

var _ net.Conn = (*Channel)(nil)

// A side is what is at our end of a channel: a stream for goroutines, or a socket. It is called in the loop.
type side interface {
	// take takes data, which is valid during the call only.
	take(parts [][]byte, size int)
	// takeStderr takes extended data, likewise.
	takeStderr(data []byte)
	// eof says that nothing more comes.
	eof()
	// fill sends what there is to be sent, as far as a turn and the peer's window allow.
	fill()
	// gone says that the channel takes and gives nothing more, and why, if not because the peer has closed it.
	gone(err error)
}

// newChannel gives a channel a number; nil: there are none left.
func (c *Conn) newChannel() *Channel {
	ch := &Channel{conn: c}
	switch n := len(c.freeIDs); {
	case n > 0:
		ch.local, c.freeIDs = c.freeIDs[n-1], c.freeIDs[:n-1]
		c.channels[ch.local] = ch
	case len(c.channels) < mostIDs:
		ch.local = uint32(len(c.channels))
		c.channels = append(c.channels, ch)
	default:
		return nil
	}
	ch.window = c.firstWindow()
	ch.granted = ch.window
	c.granted += ch.window
	return ch
}

// streaming puts a stream at our end of the channel.
func (ch *Channel) streaming() {
	ch.stream = newStream(ch)
	ch.side = ch.stream
}

func (c *Conn) channel(id uint32) *Channel {
	if uint64(id) >= uint64(len(c.channels)) {
		return nil
	}
	return c.channels[id]
}

// release frees the number of a channel, once.
func (ch *Channel) release() {
	c := ch.conn
	if c.ended || c.channel(ch.local) != ch {
		return
	}
	c.granted -= ch.window
	c.unanswered -= len(ch.replies)
	ch.replies = nil
	if ch.foreign {
		c.theirs--
	}
	c.channels[ch.local] = nil
	c.freeIDs = append(c.freeIDs, ch.local)
	ch.depart()
}

// dataOf takes a data packet apart. A channel of nil is that nobody wants it.
func (c *Conn) dataOf(p []byte) (*Channel, []byte, error) {
	if len(p) < 9 || uint64(binary.BigEndian.Uint32(p[5:])) != uint64(len(p)-9) {
		return nil, nil, broken("a data packet is malformed")
	}
	ch, err := c.account(binary.BigEndian.Uint32(p[1:]), len(p)-9)
	return ch, p[9:], err
}

// account takes n bytes off the window that the peer has.
func (c *Conn) account(id uint32, n int) (*Channel, error) {
	ch := c.channel(id)
	switch {
	case ch == nil || !ch.open || ch.gotEOF || ch.gotClose:
		return nil, broken("data for the channel %d, which is not open", id)
	case n > ch.granted:
		return nil, broken("%d bytes of data for the channel %d, which has room for %d", n, id, ch.granted)
	}
	ch.granted -= n
	if n == 0 || ch.sentClose {
		return nil, nil
	}
	return ch, nil
}

// simple sends a message that has nothing but the channel's number.
func (ch *Channel) simple(message byte) {
	c := ch.conn
	c.end(appendU32(c.begin(message), ch.remote))
	c.mark()
}

func (ch *Channel) sendEOF() {
	if !ch.sentEOF && !ch.sentClose && !ch.conn.ended {
		ch.sentEOF = true
		ch.simple(msgChannelEOF)
	}
}

func (ch *Channel) sendClose() {
	if ch.sentClose || ch.conn.ended || !ch.open {
		return
	}
	ch.sentClose = true
	ch.simple(msgChannelClose)
	if ch.gotClose {
		ch.release()
	}
}

// receive takes a message for the channel.
func (ch *Channel) receive(message byte, r *reader) error {
	switch message {
	case msgChannelWindow:
		n := r.u32()
		if ch.room+int64(n) > 1<<32-1 {
			return broken("the window of the channel %d grows beyond its size", ch.local)
		}
		ch.room += int64(n)
		ch.conn.enqueue(ch)
	case msgChannelStderr:
		r.u32() // the kind; there is one
		data := r.bytes()
		if r.bad {
			break
		}
		if wanting, err := ch.conn.account(ch.local, len(data)); err != nil || wanting == nil {
			return err
		}
		ch.side.takeStderr(data)
	case msgChannelEOF:
		if ch.gotEOF || ch.gotClose {
			return broken("a second end of the channel %d", ch.local)
		}
		ch.gotEOF = true
		if !ch.sentClose {
			ch.side.eof()
		}
	case msgChannelClose:
		if ch.gotClose {
			return broken("the channel %d is closed twice", ch.local)
		}
		ch.gotClose = true
		ch.dropWaiting()
		closed := ch.sentClose
		ch.side.gone(nil)
		if closed {
			ch.release()
		} else {
			ch.sendClose()
		}
	case msgChannelRequest:
		return ch.receiveRequest(r)
	case msgChannelSuccess, msgChannelFailure:
		if len(ch.waiting) == 0 {
			return broken("a reply for the channel %d, which has asked for nothing", ch.local)
		}
		done := ch.waiting[0]
		ch.waiting = ch.waiting[1:]
		done(message == msgChannelSuccess, nil)
	}
	if r.bad {
		return broken("message %d for the channel %d is malformed", message, ch.local)
	}
	return nil
}

func (ch *Channel) dropWaiting() {
	for _, done := range ch.waiting {
		done(false, nil)
	}
	ch.waiting = nil
}

// lost is called when the connection has ended.
func (ch *Channel) lost(err error) {
	ch.dropWaiting()
	defer ch.depart()
	if o := ch.opening; o != nil {
		ch.opening = nil
		o.failed(err)
		return
	}
	if ch.side != nil { // it was accepted
		ch.side.gone(err)
	}
}
