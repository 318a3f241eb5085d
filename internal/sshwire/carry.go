package sshwire

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The directions of a Carried.
const (
	FromSocket = 0 // what the socket says, to the SSH peer
	ToSocket   = 1 // and back
)

const (
	share     = 8                  // packets of one channel in a turn
	drainTime = int64(time.Second) // a reset is held back for bytes that are on their way to the application
	drainStep = int64(2 * time.Millisecond)
	// takeOverStep is how often is looked whether what a goroutine has written is gone, before a socket takes the channel over.
	takeOverStep = time.Millisecond
)

// A Limit holds a direction to a rate. It has the methods of relay/engine's.
type Limit interface {
	Slice() int                // how many bytes to move in one turn, 0: as many as there are
	Pay(n int64) time.Duration // for bytes that have passed, how long it is until the turn of the next; negative: there is none
}

// CarryOptions say how a socket is carried. The functions are called in the loop and must not wait for anything; nil is none.
type CarryOptions struct {
	Limits [2]Limit      // by direction; nil: none
	Idle   time.Duration // without a byte after which it ends; 0: never

	// Opening is how long the peer may take to open the channel of OpenChannelCarry; Failed is told context.DeadlineExceeded. 0: ever.
	Opening time.Duration

	// Asking has the socket say first which channel is to be opened. It is for OpenChannelCarry. nil: that is known.
	Asking *Asking

	// Connecting says that a connect of the socket is under way, and how long it may take. The channel is accepted when it
	// succeeds. 0: the socket is connected. It is for Incoming.AcceptCarry.
	Connecting time.Duration

	Opened func(*Carried) // bytes may flow

	// Failed says that the channel was not opened. Of OpenChannelCarry, the socket is the caller's again, if there is a Failed,
	// and err an *OpenError or what the connection ended with. Of AcceptCarry, whose socket did not connect, err is why; it returns the
	// next socket to try and how long its connect may take, or a negative one: then the channel is rejected.
	Failed func(err error) (fd int, connecting time.Duration)

	// Ended says that the socket is closed and nothing more will happen. It is the last word, but for OpenChannelCarry with a Failed,
	// after which it is not called. If the connection had ended before, they are called at once, and not in the loop.
	Ended func(*Carried)
}

// A Carried is a socket and a channel whose bytes the loop moves both ways. Each direction ends by itself (EOF and FIN). What
// breaks on one side is reset on the other, after what came before:
//
//	asking ──► waiting ──┐
//	connecting ──────────┴► open ──(both directions have ended, or the channel is gone)──► draining ──► ended
type Carried struct {
	conn      *Conn
	ch        *Channel // of the loop
	fd, place int32
	o         CarryOptions
	moved     [2]atomic.Uint64
	held      atomic.Int64 // of pending
	killed    atomic.Bool
	owed      int // of pending, in the connection's budget after the channel is gone
	timer     timer
	last      int64 // when a byte moved
	until     int64 // while connecting or draining: when to stop waiting
	resume    [2]int64
	pending   backlog // to the socket
	state     state
	readable  bool // until a read says otherwise
	hangup    bool // the application has sent its FIN, or is gone
	careful   bool // a short read does not mean that there is no more
	bulk      bool // the last read was large
	settling  bool // everything was written, and the application has yet to acknowledge it
	deaf      bool // the socket takes nothing more; what it has said is still read
	shut      bool // and was told so
	broken    bool // what is left ends by a reset
}

type state uint8

const (
	fresh state = iota // the loop has not begun with it
	connecting
	asking
	waiting // for the peer to open the channel
	open
	draining // the channel is gone
	ended
)

// Moved is how many bytes have gone one way. It may be asked for from anywhere.
func (ca *Carried) Moved(direction int) uint64 { return ca.moved[direction].Load() }

// Held is how many bytes have come that the socket has not taken yet. It may be asked for from anywhere.
func (ca *Carried) Held() int { return int(ca.held.Load()) }

// Kill resets the socket and closes the channel, soon. It may be called from anywhere.
func (ca *Carried) Kill() {
	ca.killed.Store(true)
	ca.conn.loop.post(func() {
		switch ca.state {
		case waiting:
			if ca.ch != nil { // or it is found out before it is asked for
				ca.ch.giveUp()
				ca.end(true)
			}
		case connecting:
			ca.fail(ErrClosed)
		case asking, open, draining:
			ca.end(true)
		}
	})
}

var errCarried = errors.New("the channel is carried already")

// Carry gives the channel a connected socket that does not block; it becomes the loop's, and the channel's own Read and Write
// end. What has arrived and was not read goes to the socket first. It must not be called while one of them waits.
func (ch *Channel) Carry(fd int, o CarryOptions) *Carried {
	ca := &Carried{conn: ch.conn, ch: ch, fd: int32(fd), place: -1, o: o}
	if !ch.conn.post(ca.takeOver) {
		ca.late()
	}
	return ca
}

// OpenChannelCarry opens a channel and carries the socket fd in it, which becomes the loop's. It does not wait.
func (c *Conn) OpenChannelCarry(kind string, extra []byte, fd int, o CarryOptions) *Carried {
	ca := &Carried{conn: c, fd: int32(fd), place: -1, o: o, state: waiting}
	begin := func() { ca.open(kind, extra) }
	if o.Asking != nil {
		begin = ca.ask
	}
	switch {
	case c.post(begin):
	case o.Asking != nil:
		o.Asking.Left()
	default:
		ca.refused(c.closed())
	}
	return ca
}

// AcceptCarry accepts the channel and carries the socket fd in it, which becomes the loop's. It does not wait.
func (in *Incoming) AcceptCarry(fd int, o CarryOptions) *Carried {
	ca := &Carried{conn: in.ch.conn, ch: in.ch, fd: int32(fd), place: -1, o: o}
	if in.answered.Swap(true) || !ca.conn.post(ca.accept) {
		ca.late()
	}
	return ca
}

// late ends what comes after the end.
func (ca *Carried) late() {
	ca.state = ended
	sysReset(ca.fd)
	if ca.o.Ended != nil {
		ca.o.Ended(ca)
	}
}

func (ca *Carried) open(kind string, extra []byte) {
	if ca.killed.Load() {
		ca.refused(ErrClosed)
		return
	}
	o := &opening{failed: ca.refused, opened: ca.begin}
	if ch := ca.conn.openNow(kind, extra, o); ch != nil {
		ca.ch = ch
		ch.side = ca
		if l := ca.conn.loop; ca.o.Opening > 0 {
			l.timers.set(&ca.timer, ca, l.now+int64(ca.o.Opening))
		}
	}
}

// refused says that the peer did not open the channel.
func (ca *Carried) refused(err error) {
	if ca.state == ended {
		return
	}
	ca.letGo()
	if ca.o.Failed != nil {
		ca.o.Failed(err)
		return
	}
	sysReset(ca.fd)
	if ca.o.Ended != nil {
		ca.o.Ended(ca)
	}
}

// accept waits for the connect of the socket, or begins at once.
func (ca *Carried) accept() {
	ch, c := ca.ch, ca.conn
	ch.side, ca.state = ca, connecting
	if ca.killed.Load() {
		ca.fail(ErrClosed)
		return
	}
	if c.ended {
		ca.gone(c.closed())
		return
	}
	if ca.o.Connecting == 0 {
		ch.confirm()
		ca.begin()
		return
	}
	if ca.watch() {
		ca.until = c.loop.now + int64(ca.o.Connecting)
		c.loop.timers.set(&ca.timer, ca, ca.until)
	}
}

func (ca *Carried) watch() bool {
	var err error
	if ca.place, err = ca.conn.loop.watch(ca.fd, ca); err != nil {
		ca.place = -1
		if ca.state == connecting && ca.o.Connecting > 0 {
			ca.fail(err)
		} else {
			ca.end(true)
		}
		return false
	}
	return true
}

// connected sees how the connect went.
func (ca *Carried) connected(events uint32) {
	if events&(evOut|evError|evHangup) == 0 {
		return
	}
	if errno := sysSocketError(ca.fd); errno != 0 {
		ca.fail(errno)
		return
	}
	ca.ch.confirm()
	ca.begin()
}

// fail goes on to the next attempt, or rejects the channel.
func (ca *Carried) fail(err error) {
	l := ca.conn.loop
	if ca.place >= 0 {
		l.forget(ca.place)
		ca.place = -1
	}
	sysClose(ca.fd)
	ca.fd = -1
	if ca.o.Failed != nil && !ca.killed.Load() {
		if fd, connecting := ca.o.Failed(err); fd >= 0 {
			ca.fd = int32(fd)
			if ca.watch() {
				l.timers.set(&ca.timer, ca, l.now+int64(connecting))
			}
			return
		}
	}
	l.timers.clear(&ca.timer)
	ca.state = ended
	text := err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		text = errno.Error()
	}
	ca.ch.refuse(ConnectionFailed, text)
	if ca.o.Ended != nil {
		ca.o.Ended(ca)
	}
}

// takeOver begins with what the channel's stream has left.
func (ca *Carried) takeOver() {
	ch := ca.ch
	s, ok := ch.side.(*stream)
	if ca.killed.Load() {
		ca.end(true)
		ch.sendClose()
		return
	}
	if !ok || ch.conn.ended || ch.sentClose && !ch.gotClose {
		ca.end(true)
		return
	}
	s.mu.Lock()
	ca.pending, s.in.backlog = s.in.backlog, backlog{}
	credit, unsent := s.credit, s.out.len()
	ended := s.inEnd != nil
	s.credit = 0
	s.mu.Unlock()
	if unsent > 0 { // in a moment
		s.mu.Lock()
		s.in.backlog, ca.pending = ca.pending, backlog{}
		s.credit = credit
		s.mu.Unlock()
		s.fill()
		if ch.conn.ended {
			ca.end(true)
			return
		}
		time.AfterFunc(takeOverStep, func() {
			if !ca.conn.loop.post(ca.takeOver) {
				ca.late()
			}
		})
		return
	}
	ch.side = ca
	s.gone(errCarried)
	ch.consumed(credit)
	ca.begin()
	if ca.state == open {
		ca.drain()
	}
	if ended && ca.state == open {
		ca.eof()
	}
	if ch.gotClose {
		ca.gone(nil)
	}
}

// begin lets bytes flow.
func (ca *Carried) begin() {
	l := ca.conn.loop
	ca.state = open
	ca.last, ca.until = l.now, 0
	ca.careful = sysIsUnix(ca.fd)
	if ca.place < 0 && !ca.watch() {
		return
	}
	if ca.killed.Load() {
		ca.end(true)
		return
	}
	l.timers.clear(&ca.timer)
	ca.reschedule()
	if ca.o.Opened != nil {
		ca.o.Opened(ca)
	}
	if ca.readable { // while the channel was opened
		ca.conn.enqueue(ca.ch)
	}
}

// resetsByClose reports whether the peer ends a channel without EOF only if something broke. With others that may be mere haste.
func (c *Conn) resetsByClose() bool {
	theirs := c.login.ClientVersion()
	if c.client {
		theirs = c.login.ServerVersion()
	}
	return strings.HasPrefix(string(theirs), DefaultVersion)
}
