package tunnel

import (
	"time"

	"github.com/fairlead-net/fairlead/internal/processors"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// How much is written before the lane is flushed, and of whom.
const (
	batchMost  = 256 << 10
	batchLeast = 16 << 10
	briskMost  = 16 << 10 // a stream with no more than that to send goes before those with more
	copyMost   = 4 << 10  // frames up to that are gathered, rather than written one by one
	ctlKept    = 4 << 10  // of memory, while there is nothing to say
	gramsMost  = 256 << 10
	toldMost   = 1 << 20 // of answers that the other end has caused: with more, it is not listened to until it has read some
)

// A lane is a Lane of a link, with what is to be sent on it. Its writer takes turns: what is short goes first, then one frame of each
// stream that has a lot.
type lane struct {
	link  *attached
	s     *Session
	conn  Lane
	out   Lane // where it is written, the writer's own: conn, but on a detour
	isOne bool // the first: what belongs to no stream goes there
	side  bool // it is beside the link
	wake  chan struct{}

	// Guarded by the session.
	idle        bool
	ctl         []byte // frames that go first
	told        int    // bytes of answers in it
	grams       int    // bytes of datagrams in it
	brisk, bulk laneQueue
	over        bool // it is to be closed
	budget      int  // of a batch

	in      inbound // the reader's own
	heard   bool    // and something has come
	scratch *chunk  // the writer's own, to read sockets into
}

func newLane(a *attached, conn Lane, first bool) *lane {
	return &lane{link: a, s: a.s, conn: conn, out: conn, isOne: first, wake: make(chan struct{}, 1), budget: 4 * batchLeast}
}

// kick has the writer look whether there is something to do.
func (l *lane) kick() {
	if l.idle {
		l.idle = false
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

func (l *lane) leave(code Code, text string) {
	w := wire.Word{Code: uint64(code), Text: text}
	l.ctl = w.Append(l.ctl, wire.TypeLeave)
}

// A batch is what is written before the lane is flushed: frames in buf, and between them chunks.
type batch struct {
	buf  []byte
	segs []segment
	size int

	brief bool // somebody waits for some of it
	next  Lane // where to go on after it; nil: here
}

type segment struct {
	to    int // of buf, what stands before it
	chunk *chunk
}

func (b *batch) frame(c *chunk) {
	f := c.frame()
	b.size += len(f)
	if len(f) <= copyMost {
		b.buf = append(b.buf, f...)
		return
	}
	c.refs++
	b.segs = append(b.segs, segment{len(b.buf), c})
}

// write is the goroutine that writes to the lane.
func (l *lane) write() {
	defer l.link.laneEnded()
	var b batch
	for {
		ok := l.gather(&b)
		if !ok {
			l.close()
			return
		}
		if b.brief {
			processors.Brief()
		}
		began := time.Now()
		err := b.send(l.out)
		l.pace(b.size, time.Since(began))
		size := b.size
		if b.next != nil && err == nil {
			l.moved(b.next)
		}
		l.written(&b)
		yield(size)
		switch {
		case err == nil:
		case l.isOne:
			l.link.fail(err)
			return
		default:
			l.broke()
			return
		}
	}
}

// yieldAfter is how many bytes are moved at once before others may run.
const yieldAfter = 32 << 10

// yield lets others run after n bytes were moved: nothing here ever waits while there is more, and small things would wait for it.
func yield(n int) {
	if n >= yieldAfter {
		processors.Yield()
	}
}

// The pace of a lane: a batch is what it takes in a few milliseconds, so that what is short does not wait for long behind it.
const (
	paceFast = time.Millisecond
	paceSlow = 4 * time.Millisecond
)

// pace makes batches larger or smaller, after one was written.
func (l *lane) pace(size int, took time.Duration) {
	switch {
	case size >= l.budget && took < paceFast && l.budget < batchMost:
		l.s.mu.Lock()
		l.budget *= 2
		l.s.mu.Unlock()
	case took > paceSlow && l.budget > batchLeast:
		l.s.mu.Lock()
		l.budget /= 2
		l.s.mu.Unlock()
	}
}

// close ends the lane, and with the first one the link.
func (l *lane) close() {
	if l.isOne {
		l.link.fail(errLeft)
		return
	}
	l.s.mu.Lock()
	delete(l.link.own, l) // before who watches it sees that it has ended
	l.s.mu.Unlock()
	_ = l.conn.Close()
}

func (b *batch) send(conn Lane) error {
	at := 0
	for _, g := range b.segs {
		if g.to > at {
			if _, err := conn.Write(b.buf[at:g.to]); err != nil {
				return err
			}
			at = g.to
		}
		if _, err := conn.Write(g.chunk.frame()); err != nil {
			return err
		}
	}
	if len(b.buf) > at {
		if _, err := conn.Write(b.buf[at:]); err != nil {
			return err
		}
	}
	return conn.Flush()
}

// written lets go of what a batch has held.
func (l *lane) written(b *batch) {
	if len(b.segs) > 0 {
		l.s.mu.Lock()
		for i, g := range b.segs {
			if g.chunk.refs--; g.chunk.refs == 0 && g.chunk.dropped {
				g.chunk.free()
			}
			b.segs[i] = segment{}
		}
		l.s.mu.Unlock()
	}
	b.segs, b.buf, b.size, b.brief, b.next = b.segs[:0], b.buf[:0], 0, false, nil
}

// gather waits for something to do and puts it into b. It reports false when the lane is to end.
func (l *lane) gather(b *batch) bool {
	s := l.s
	s.mu.Lock()
	defer s.unlock()
	for !l.busy() {
		if l.link.dead || l.link.closing || l.over || l.isOne && l.link.left && l.link.theyLeft {
			return false
		}
		if cap(b.buf) > ctlKept {
			b.buf = nil
		}
		if cap(l.ctl) > ctlKept {
			l.ctl = nil
		}
		if l.scratch != nil {
			l.scratch.free()
			l.scratch = nil
		}
		l.idle = true
		s.unlock()
		<-l.wake
		s.mu.Lock()
	}
	if l.link.dead {
		return false
	}
	b.buf, l.ctl = l.ctl, b.buf
	b.size, l.grams = len(b.buf), 0
	if l.told > toldMost {
		s.drained.Broadcast()
	}
	l.told = 0
	if s.control == l {
		b.buf = s.due.say(b.buf)
	}
	for b.size < l.budget && !l.link.dead {
		if st := l.brisk.pop(); st != nil {
			b.brief = b.brief || l.isOne
			l.turn(st, b, briskMost)
		} else if st := l.bulk.pop(); st != nil {
			l.turn(st, b, 1)
		} else {
			break
		}
	}
	if l.isOne {
		l.link.counts()
		l.moves(b)
	}
	return true
}

func (l *lane) busy() bool {
	return l.isOne && l.link.detour.next != nil || len(l.ctl) > 0 || l.brisk.first != nil || l.bulk.first != nil || l.s.control == l && l.s.due.urgent
}

// turn sends what a stream has, until it was as many bytes.
func (l *lane) turn(st *Stream, b *batch, most int) {
	st.queued = false
	if st.own != nil && st.own != l {
		st.move(st.own)
		return
	}
	if st.flow {
		l.pullPackets(st, b)
		return
	}
	sent := l.chunks(st, b, most)
	if st.borne != nil && st.unsent == nil && sent < most {
		sent += l.pull(st, b)
		if st.lane != l || st.queued {
			return // it has been moved, or has become readable meanwhile
		}
	}
	if st.unsent == nil && st.closing && !st.finSent {
		st.finSent = true
		b.buf = wire.AppendNumbers(b.buf, wire.TypeFin, st.id, st.end)
	}
	if sent > 0 && st.wr != nil && st.backlog < backlogMost/2 {
		st.wr.signal()
	}
	l.wantOwn(st, sent)
	if st.hasMore() {
		st.queued = true
		l.bulk.push(st)
	}
}

// chunks puts what is unsent into the batch, until it was most bytes.
func (l *lane) chunks(st *Stream, b *batch, most int) (sent int) {
	for sent < most && st.unsent != nil {
		c := st.unsent
		c.seal(st.id)
		b.frame(c)
		sent += c.len()
		st.unsent = c.next
		st.backlog -= c.len()
	}
	return sent
}

// A laneQueue is streams that wait for their turn.
type laneQueue struct{ first, last *Stream }

func (q *laneQueue) push(st *Stream) {
	st.nextInLane = nil
	if q.last == nil {
		q.first = st
	} else {
		q.last.nextInLane = st
	}
	q.last = st
}

func (q *laneQueue) pop() *Stream {
	st := q.first
	if st != nil {
		if q.first = st.nextInLane; q.first == nil {
			q.last = nil
		}
		st.nextInLane = nil
	}
	return st
}
