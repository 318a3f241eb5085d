package tunnel

import (
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// A borne is a socket that a stream carries. It has neither goroutine nor buffer: the poller says when it can be read or written, the
// writer of the lane reads it when the lane takes more, and the reader of the lane writes to it from where it has read.
//
//	open ──► both directions have ended ─────────────────────► ended: the socket is closed
//	  └────► reset ──► draining: what was sent gets there ──────┘
type borne struct {
	st       *Stream
	fd       int
	place    int32 // in the poller
	o        node.BearOptions
	from, to atomic.Uint64

	// Guarded by the session, like all of the stream.
	pending  chunks // for the socket, which takes no more now
	state    borneState
	readable bool // until a read says otherwise
	hangup   bool // the application has ended, too: there is no edge after this one
	careful  bool // a short read does not mean that there is no more
	bulk     bool // the last read was large
	reading  bool // somebody does, without the lock
	writing  bool
	senders  int           // that write datagrams
	again    bool          // it became writable meanwhile
	deaf     bool          // it takes nothing more; what it has said is still read
	ended    bool          // it has said all
	shut     bool          // and was told all
	active   bool          // a byte has moved since somebody looked
	graceful bool          // it ends without a reset
	held     [2]bool       // by its limits, from and to
	quiet    time.Duration // since when nothing has moved
	until    time.Time     // while draining
	closed   bool

	// While it is opened; nil afterwards.
	connected func()
	failed    func(error)
	left      func() // see node.LeadOptions
	timer     *time.Timer
	patience  *time.Timer // of the other end, see Arrival.Meet
	why       error       // the last attempt to connect has failed
	attempts  int
	meets     bool // it waits for its own connect, and not for the other end
}

type borneState uint8

const (
	borneOpening borneState = iota // see Lead and Meet
	borneOpen
	borneDraining
	borneEnded
)

var _ node.Borne = (*borne)(nil)

// Moved is that of node.Borne.
func (b *borne) Moved() (from, to uint64) { return b.from.Load(), b.to.Load() }

// Kill is that of node.Borne.
func (b *borne) Kill() {
	s := b.st.s
	s.mu.Lock()
	defer s.unlock()
	if b.state != borneEnded {
		b.failed = nil // who kills it knows
		b.st.reset(Done, errEnded)
		b.end()
	}
}

// unlock frees the session, and tells those who have to know what has happened to sockets meanwhile.
func (s *Session) unlock() {
	after := s.after
	s.after = nil
	s.mu.Unlock()
	for _, do := range after {
		do()
	}
}

// mayRead reports whether the socket is to be read now.
func (b *borne) mayRead() bool {
	return b.readable && !b.reading && !b.held[0] && !b.ended && b.state == borneOpen && !b.st.closing && b.st.room() > 0
}

// isBulk reports whether the stream has a lot to send.
func (st *Stream) isBulk() bool { return st.borne != nil && st.borne.bulk }

// The times of a socket that ends.
const (
	drainTime = time.Second // a reset is held back for what is on its way to the application
	drainStep = 2 * time.Millisecond
	paceLeast = time.Millisecond // what timers are good for
)

// take is given bytes for the socket. The lock is given up meanwhile.
func (b *borne) take(p []byte) {
	b.active = true
	if b.state == borneOpening {
		b.pending.add(p)
		return
	}
	if b.deaf || b.state != borneOpen {
		b.st.consumed(len(p))
		return
	}
	if b.writing || b.pending.size > 0 || limited(b.o.To) > 0 {
		b.pending.add(p)
		b.drain()
		return
	}
	n := b.write(p)
	full := n < len(p)
	if full && !b.deaf && b.state != borneEnded {
		var rest chunks
		rest.add(p[n:])
		rest.join(&b.pending) // of another lane, meanwhile
		b.pending = rest
	}
	if full && !b.again {
		return
	}
	b.drain()
}

// write writes p, as much as the socket takes, without the lock.
func (b *borne) write(p []byte) int {
	st := b.st
	s := st.s
	b.writing, b.again = true, false
	s.mu.Unlock()
	n, err := sysWrite(b.fd, p)
	s.mu.Lock()
	b.writing = false
	if n > 0 {
		b.to.Add(uint64(n))
		st.consumed(n)
	}
	switch {
	case b.state == borneEnded:
		b.close()
	case err != nil:
		b.deaf = true
		st.consumed(len(p) - n + b.pending.size)
		b.pending.clear()
	}
	return n
}

// drain writes what waits.
func (b *borne) drain() {
	for b.pending.size > 0 && !b.writing && !b.held[1] && b.state != borneEnded && b.state != borneOpening {
		p := b.pending.first.data()
		slice := limited(b.o.To)
		if slice > 0 && len(p) > slice {
			p = p[:slice]
		}
		n := b.write(p)
		if b.deaf || b.state == borneEnded {
			break
		}
		b.pending.skip(n)
		b.active = true
		if slice > 0 && n > 0 {
			b.pay(1, b.o.To, n)
		}
		if n < len(p) && !b.again {
			break
		}
	}
	b.finishWriting()
}

// finishWriting ends the direction to the socket when all has been written.
func (b *borne) finishWriting() {
	if b.writing || b.pending.size > 0 {
		return
	}
	switch {
	case b.state == borneDraining:
		b.settle()
	case b.state == borneOpen && b.st.finGot && !b.shut:
		b.shut = true
		if !b.deaf {
			sysShutdownWrite(b.fd)
		}
		b.endIfDone()
	}
}

// takeEnd is that nothing more comes for the socket.
func (b *borne) takeEnd() {
	b.active = true
	b.finishWriting()
}

func (b *borne) endIfDone() {
	if b.shut && b.ended && b.state == borneOpen {
		b.graceful = true
		b.end()
	}
}

// gone is that the stream has ended before its time. What has come goes to the application first.
func (b *borne) gone(graceful bool) {
	if b.state == borneOpening {
		b.notOpened(b.st.err)
		return
	}
	if b.state != borneOpen {
		return
	}
	b.state, b.graceful = borneDraining, graceful
	b.until = time.Now().Add(drainTime)
	if b.st.s.ended || b.st.flow {
		b.end()
		return
	}
	if !graceful {
		b.watchDrain()
	}
	b.drain()
}

// watchDrain ends what drains to an application that takes nothing.
func (b *borne) watchDrain() {
	before := b.to.Load()
	b.later(drainTime, func() {
		if b.to.Load() == before && !b.held[1] {
			b.end()
		} else {
			b.watchDrain()
		}
	})
}

// settle ends what drains, by a reset only when the application has what was sent to it, or it would lose that.
func (b *borne) settle() {
	if b.graceful || b.deaf || sysUnsent(b.fd) == 0 {
		b.end()
		return
	}
	b.later(drainStep, func() {
		if b.state == borneDraining {
			if time.Now().After(b.until) {
				b.end()
			} else {
				b.finishWriting()
			}
		}
	})
}

// later does something in a while, with the lock.
func (b *borne) later(d time.Duration, do func()) *time.Timer {
	s := b.st.s
	return time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.unlock()
		if b.state != borneEnded && !s.frozen {
			do()
		}
	})
}

// end closes the socket, as soon as nobody uses it.
func (b *borne) end() {
	if b.state == borneEnded {
		return
	}
	b.state = borneEnded
	b.stopTimers()
	if b.place >= 0 {
		b.st.s.poller.forget(b)
	}
	b.close()
}

// close is called once the state is ended and nobody reads or writes.
func (b *borne) close() {
	if b.closed || b.reading || b.writing || b.senders > 0 {
		return
	}
	b.closed = true
	b.pending.clear() // not before: who writes, does so from there
	switch {
	case b.fd < 0: // between two attempts to connect
	case b.graceful:
		sysClose(b.fd)
	default:
		sysReset(b.fd)
	}
	b.fd = -1
	b.st.s.after = append(b.st.s.after, func() { b.o.Ended(b) })
}

// limited is how many bytes a limit wants to be moved in a turn; 0 is no limit.
func limited(l node.Limit) int {
	if l == nil {
		return 0
	}
	return l.Slice()
}

// pay holds a direction back until the turn of n bytes that have passed.
func (b *borne) pay(direction int, l node.Limit, n int) {
	wait := l.Pay(int64(n))
	if wait < paceLeast {
		return
	}
	b.held[direction] = true
	b.later(wait, func() {
		b.held[direction], b.active = false, true // who waits for a turn is not idle
		if direction == 0 {
			b.st.enqueue()
		} else {
			b.drain()
		}
	})
}

// broken is that the socket has died.
func (b *borne) broken() {
	b.deaf, b.failed = true, nil // who does not wait for an answer gets none
	b.st.reset(Unreachable, errEnded)
	b.end()
}

// pull reads the socket into chunks of the stream and these into the batch. The lock is given up meanwhile.
func (l *lane) pull(st *Stream, b *batch) (sent int) {
	so, s := st.borne, l.s
	for sent == 0 || !so.bulk {
		if !so.mayRead() || st.err != nil {
			return sent
		}
		want := min(st.room(), dataMost, l.budget)
		slice := limited(so.o.From)
		if slice > 0 {
			want = min(want, slice)
		}
		so.reading, so.readable = true, false
		c := l.scratch
		if l.scratch = nil; c == nil {
			c = newChunk(dataMost)
		}
		s.mu.Unlock()
		n, again, err := sysRead(so.fd, c.buf[c.from:c.from+want])
		s.mu.Lock()
		so.reading = false
		switch {
		case so.state == borneEnded:
			so.close()
		case again:
		case err != nil:
			so.broken()
		case n == 0:
			so.active, so.ended = true, true
			st.finish()
			if so.deaf {
				so.broken() // it has died, and has not said so
			} else {
				so.endIfDone()
			}
		}
		if n <= 0 || so.state == borneEnded || st.err != nil || st.closing {
			l.scratch = c
			return sent
		}
		if n == want || so.hangup || so.careful {
			so.readable = true
		}
		so.active, so.bulk = true, n >= briskMost
		so.from.Add(uint64(n))
		if slice > 0 {
			so.pay(0, so.o.From, n)
		}
		if n+c.from <= len(c.buf)/4 { // it is kept until the other end has it
			small := newChunk(n)
			copy(small.buf[small.from:], c.buf[c.from:c.from+n])
			l.scratch, c = c, small
		}
		c.offset, c.to = st.end, c.from+n
		st.append(c)
		st.added(n)
		if st.lane != l {
			st.enqueue()
			return sent
		}
		sent += l.chunks(st, b, n)
		if n < want {
			return sent
		}
	}
	return sent
}
