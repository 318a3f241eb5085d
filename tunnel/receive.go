package tunnel

import "time"

// When what has come is acknowledged.
const (
	ackTime  = 20 * time.Millisecond // at the latest
	ackBytes = 64 << 10              // at once
	grantMax = 256 << 10             // likewise, when as much more may be sent
)

// A dueList is streams for which CREDIT is to be said: with the next batch, soon, or, when one is urgent, now.
type dueList struct {
	first, last *Stream
	urgent      bool
}

func (d *dueList) add(st *Stream) {
	if st.isDue {
		return
	}
	st.isDue, st.nextDue = true, nil
	if d.last == nil {
		d.first = st
	} else {
		d.last.nextDue = st
	}
	d.last = st
}

// say appends the frames. A stream whose last word that was is forgotten.
func (d *dueList) say(b []byte) []byte {
	for st := d.first; st != nil; st = d.first {
		d.first, st.nextDue, st.isDue = st.nextDue, nil, false
		if !st.over && !st.resetting {
			b = st.credit(b)
			st.settle()
		}
	}
	d.last, d.urgent = nil, false
	return b
}

func (d *dueList) clear() {
	for st := d.first; st != nil; st = d.first {
		d.first, st.nextDue, st.isDue = st.nextDue, nil, false
	}
	d.last, d.urgent = nil, false
}

// due is that something has come, or was taken.
func (st *Stream) due() {
	s := st.s
	grant := uint64(st.window) - min(uint64(st.window), st.granted-st.taken)
	unsaid := st.received() - st.saidGot
	if st.over || st.resetting || s.control == nil || grant == 0 && unsaid == 0 {
		return
	}
	step := uint64(min(st.window/2, grantMax))
	urgent := unsaid >= min(ackBytes, step) || grant >= step
	if unsaid == 0 && !urgent {
		return // it is not worth a frame
	}
	s.due.add(st)
	if urgent {
		s.due.urgent = true
		s.control.kick()
	} else if !s.ackSet {
		s.ackSet = true
		if s.ackTimer == nil {
			s.ackTimer = time.AfterFunc(ackTime, s.acknowledge)
		} else {
			s.ackTimer.Reset(ackTime)
		}
	}
}

// acknowledge says what has waited for something to go with.
func (s *Session) acknowledge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackSet = false
	if s.due.first != nil && s.control != nil {
		s.due.urgent = true
		s.control.kick()
	}
}

// consumed is that n bytes were taken by whoever reads the stream.
func (st *Stream) consumed(n int) {
	if st.flow {
		return
	}
	st.taken += uint64(n)
	if st.finGot {
		return // nothing more may come
	}
	st.grow()
	st.due()
}

// growTime is how long a whole window may take to be worth a larger one, besides two round trips. What is on its way beyond what
// the path needs only waits somewhere, and makes what is short wait, too.
const growTime = 2 * time.Millisecond

// grow doubles the window of a stream that uses it up fast, as long as the session has the memory.
func (st *Stream) grow() {
	s := st.s
	if st.taken-st.windowOffset < uint64(st.window) {
		return
	}
	now := time.Since(s.began)
	fast := now-st.windowBegan < growTime+2*s.roundTrip()
	st.windowBegan, st.windowOffset = now, st.taken
	larger := min(2*st.window, s.o.Window)
	if !fast || larger <= st.window {
		return
	}
	more := larger - max(st.window, windowFirst)
	if more > 0 && s.grown+more > s.o.Memory {
		return
	}
	s.grown += max(0, more)
	st.window = larger
}

func (s *Session) roundTrip() time.Duration {
	if len(s.links) == 0 {
		return 0
	}
	return s.links[0].roundTrip()
}

// arrived takes in bytes of the stream from offset on. They are not kept.
func (l *lane) arrived(st *Stream, offset uint64, p []byte) error {
	end := offset + uint64(len(p))
	switch {
	case st.flow:
		return protocolError("stream %d is a flow, and has no bytes", st.id)
	case offset > st.got:
		return protocolError("stream %d goes on at byte %d, and only %d have come", st.id, offset, st.got)
	case end > st.granted:
		return protocolError("stream %d has more bytes than were granted", st.id)
	case st.finGot && end > st.got:
		return protocolError("stream %d goes on after its end", st.id)
	case end <= st.got:
		return nil // again
	}
	p = p[st.got-offset:]
	st.got = end
	st.s.in += uint64(len(p))
	switch {
	case st.err != nil || st.resetting:
	case st.deaf:
		st.refusing = true
		st.refuse()
		return nil
	case st.borne != nil:
		st.borne.take(p)
	default:
		st.in.add(p)
		st.rd.signal()
	}
	st.due()
	return nil
}

// ends is FIN.
func (st *Stream) ends(offset uint64) error {
	switch {
	case st.flow:
		return protocolError("stream %d is a flow, and has no end", st.id)
	case st.finGot && offset == st.got:
		return nil
	case offset != st.got:
		return protocolError("stream %d ends at byte %d, and %d have come", st.id, offset, st.got)
	}
	st.finGot = true
	st.rd.signal()
	st.due()
	if st.borne != nil {
		st.borne.takeEnd()
	}
	return nil
}
