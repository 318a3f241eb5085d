package tunnel

import (
	"io"
	"net"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// A Stream is one stream of bytes, or a flow of datagrams, of which each Write sends and each Read returns one. It is a net.Conn with CloseWrite
// and, for bytes, a node.Bearer: it carries a socket of this machine by itself.
//
//	opening ──► open ──► both directions have ended and are acknowledged ──► forgotten
//	   │          └────► RESET said or heard ──► CLOSED ──────────────────────┘
//	   └─ refused
type Stream struct {
	s    *Session
	id   uint64 // 0: not yet
	call Call
	at   string // where the far end dialled from, as the answer said
	rd   *waiter
	wr   *waiter

	// All that follows is guarded by the session.
	ours       bool // opened by this end
	flow       bool
	answered   bool
	queued     bool // in a queue of lane
	isDue      bool // in the session's list
	closing    bool // nothing more is written
	finSent    bool // on this lane
	finAcked   bool
	finGot     bool
	deaf       bool // nobody reads any more
	refusing   bool // something has come since
	orphan     bool // it was so at the last look, see tidy
	resetting  bool // RESET was said, and not answered
	over       bool // the session does not know it any more
	closed     bool // by Close
	refusal    *wire.Answer
	err        error         // why nothing goes any more
	opened     chan struct{} // closed when the answer has come
	lane       *lane         // that its bytes are sent on
	own        *lane         // for it alone
	wantsOwn   bool
	sentShared int // on the link's first lane
	nextInLane *Stream
	nextDue    *Stream
	mentioned  uint64 // the round in which the other end last spoke of it

	// What is sent: ... acked ... (chunks: being sent | unsent, backlog bytes) ... end ... limit
	out        chunks
	unsent     *chunk
	backlog    int
	acked, end uint64
	limit      uint64

	// What comes: ... taken (read) ... (in) ... got ... granted
	in           chunks
	grams        int // datagrams in it
	kept         int // bytes that they take of the session
	taken, got   uint64
	granted      uint64
	saidGot      uint64
	window       int
	windowBegan  time.Duration // when the window was taken the last time, and at which byte
	windowOffset uint64
	resetCode    Code

	borne *borne
}

var _ node.Bearer = (*Stream)(nil)

// How streams begin.
const (
	windowFirst = 64 << 10
	windowSmall = 16 << 10 // with many streams
	windowLeast = 4 << 10  // with very many
	fewStreams  = 1 << 10
	manyStreams = 8 << 10
	backlogMost = 256 << 10 // of what is written and not sent
)

// firstWindow is how many bytes the other end may send at first. Those of all streams are bounded by becoming smaller.
func (s *Session) firstWindow() int {
	switch n := len(s.streams); {
	case n < fewStreams:
		return windowFirst
	case n < manyStreams:
		return windowSmall
	}
	return windowLeast
}

func (s *Session) newStream(c Call) *Stream {
	st := &Stream{s: s, call: c, flow: isPackets(c.Network), window: min(s.firstWindow(), s.o.Window)}
	st.granted = uint64(st.window)
	return st
}

func isPackets(network string) bool {
	return network == "udp" || network == "udp4" || network == "udp6"
}

// Call is what the stream was opened for.
func (st *Stream) Call() Call { return st.call }

// say repeats what the other end may not have.
func (st *Stream) say(b []byte) []byte {
	if st.resetting {
		return wire.AppendNumbers(b, wire.TypeReset, st.id, uint64(st.resetCode))
	}
	if st.refusal != nil {
		return st.refusal.Append(b)
	}
	if st.ours && !st.answered {
		return st.openFrame(b)
	}
	return st.credit(b)
}

// credit says how much has come and may come.
func (st *Stream) credit(b []byte) []byte {
	st.granted = max(st.granted, st.taken+uint64(st.window))
	st.saidGot = st.received()
	return wire.AppendCredit(b, st.id, st.saidGot, st.granted)
}

// received is how much has come. The end takes one place.
func (st *Stream) received() uint64 {
	if st.finGot {
		return st.got + 1
	}
	return st.got
}

// signal wakes whoever waits in Read or Write.
func (st *Stream) signal() {
	st.rd.signal()
	st.wr.signal()
}

// fail ends both directions for those who use the stream.
func (st *Stream) fail(err error) {
	if st.err == nil {
		st.err = err
	}
	if st.ours && !st.answered {
		st.answered = true
		if st.opened != nil {
			close(st.opened)
		}
	}
	st.s.release(st)
	st.signal()
	if st.borne != nil {
		st.borne.gone(false)
	}
}

// forgotten is that the other end does not know of the stream.
func (st *Stream) forgotten() {
	complete := st.finGot && st.closing && st.unsent == nil // it has everything, and so have we
	st.drop()
	if complete {
		st.s.release(st)
		st.signal()
		if st.borne != nil {
			st.borne.gone(true)
		}
		return
	}
	st.fail(errReset)
}

// drop takes the stream out of the session.
func (st *Stream) drop() {
	s := st.s
	if st.over {
		return
	}
	st.over = true
	st.own.finish()
	delete(s.streams, st.id)
	if !st.ours {
		s.foreign--
	}
	if st.flow {
		s.flows--
	}
	s.grown -= max(0, st.window-windowFirst)
}

// reset ends both directions, and says so until it was answered.
func (st *Stream) reset(code Code, err error) {
	if st.over || st.resetting || st.refusal != nil {
		st.fail(err)
		return
	}
	st.in.clear()
	first := st.err == nil
	st.fail(err)
	if st.id == 0 {
		if first {
			st.s.giveUp(st)
		}
		return
	}
	st.resetting, st.resetCode = true, code
	if c := st.s.control; c != nil {
		c.ctl = wire.AppendNumbers(c.ctl, wire.TypeReset, st.id, uint64(code))
		c.kick()
	}
}

// settle forgets the stream when both directions have ended and both ends know. The last CREDIT is said first.
func (st *Stream) settle() bool {
	if st.finGot && st.finAcked && st.saidGot == st.received() && !st.resetting {
		st.drop()
		return true
	}
	return false
}

// Read is that of net.Conn.
func (st *Stream) Read(p []byte) (int, error) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case st.closed:
			return 0, net.ErrClosed
		case st.rd.late():
			return 0, errDeadline
		case len(p) == 0:
			return 0, nil
		case st.in.size > 0 || st.flow && st.in.first != nil:
			n := 0
			if st.flow {
				n = st.readDatagram(p)
			} else {
				n = st.in.take(p)
			}
			st.consumed(n)
			if st.in.first != nil {
				st.rd.signal() // for another reader
			}
			return n, nil
		case st.finGot:
			st.rd.signal()
			return 0, io.EOF
		case st.err != nil:
			st.rd.signal()
			return 0, st.err
		}
		st.wait(&st.rd)
	}
}

// Write is that of net.Conn. What was written is kept until the other end has it.
func (st *Stream) Write(p []byte) (int, error) {
	if st.flow {
		return st.writeDatagram(p)
	}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for {
		switch {
		case st.closed:
			return done, net.ErrClosed
		case st.err != nil:
			st.wr.signal()
			return done, st.err
		case st.closing:
			return done, errBroken
		case st.wr.late():
			return done, errDeadline
		case done == len(p):
			return done, nil
		}
		if room := min(st.room(), backlogMost-st.backlog); room > 0 {
			n := min(room, len(p)-done)
			st.put(p[done : done+n])
			done += n
			if done < len(p) {
				continue
			}
			return done, nil
		}
		st.wait(&st.wr)
	}
}

// CloseWrite ends the direction to the other end, after what was written.
func (st *Stream) CloseWrite() error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	switch {
	case st.closed:
		return net.ErrClosed
	case st.err != nil:
		return st.err
	}
	st.finish()
	return nil
}

// Close ends the direction to the other end after what was written. What still comes is refused by a reset, and so is what came
// and was not read; but what was written arrives first.
func (st *Stream) Close() error {
	st.s.mu.Lock()
	defer st.s.unlock()
	if st.closed {
		return net.ErrClosed
	}
	st.closed = true
	st.hangUp()
	st.signal()
	st.rd.stop()
	st.wr.stop()
	return nil
}

// Abort ends the stream by a reset.
func (st *Stream) Abort() {
	st.s.mu.Lock()
	defer st.s.unlock()
	st.closed = true
	st.reset(Done, net.ErrClosed)
}

// hangUp is that nobody reads or writes any more.
func (st *Stream) hangUp() {
	if st.err != nil || st.over {
		return
	}
	st.deaf = true
	if st.flow {
		st.reset(Done, net.ErrClosed)
		return
	}
	if st.in.size > 0 {
		st.in.clear()
		st.refusing = true
	}
	st.finish()
}

// refuse resets a stream that was closed, and still gets bytes, as soon as what was written has arrived.
func (st *Stream) refuse() {
	if st.deaf && st.refusing && st.finAcked && !st.finGot {
		st.reset(Done, net.ErrClosed)
	}
}

// tidy resets streams that were closed some time ago, and whose other end has said nothing since, not even that it ends (as tcp_fin_timeout
// of Linux does).
func (s *Session) tidy(now time.Duration) time.Duration {
	if now < s.tidied+orphanTime {
		return s.tidied + orphanTime - now
	}
	s.tidied = now
	for _, st := range s.streams {
		if !st.deaf || !st.finAcked || st.finGot || st.err != nil {
			continue
		}
		if st.orphan {
			st.reset(Timeout, net.ErrClosed)
		}
		st.orphan = true
	}
	return orphanTime
}

const orphanTime = 30 * time.Second

// finish has FIN sent after what there is.
func (st *Stream) finish() {
	if !st.closing {
		st.closing = true
		st.enqueue()
		st.wr.signal()
	}
}

// LocalAddr is where the client called, or at the end that opened it, where the other end dialled from.
func (st *Stream) LocalAddr() net.Addr {
	if st.ours {
		return addrOf(st.call.Network, st.at)
	}
	return addrOf(st.call.Network, textOf(st.call.Local))
}

// RemoteAddr is the client, or at the end that opened it, the address that was asked for.
func (st *Stream) RemoteAddr() net.Addr {
	if st.ours {
		return addrOf(st.call.Network, st.call.Address)
	}
	return addrOf(st.call.Network, textOf(st.call.Client))
}
