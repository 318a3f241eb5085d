package engine

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bulkRead is how much has to be there at once for a direction to count as bulk. Smaller pieces go through the loop's
	// buffer, which takes two system calls; a splice takes as many, and a pipe.
	bulkRead = 32 << 10
	// share is how much a direction moves before others get their turn.
	share = 512 << 10
)

// pump moves bytes from a side to the other until one of them has to be waited for, and reports whether it stopped only
// because others are to have their turn.
func (s *Stream) pump(l *Loop, side int) (more bool) {
	from, to := &s.ends[side], &s.ends[1-side]
	if from.resume > 0 {
		return false
	}
	for moved := 0; moved < share; {
		if !s.deliver(side) {
			return false
		}
		if from.flags&done != 0 || from.flags&readable == 0 {
			s.release(l, from)
			return false
		}
		n := s.turn(l, from)
		if n == 0 {
			s.release(l, from)
			return false
		}
		n, ok := s.take(l, side, n)
		from.settle(n)
		if !ok {
			s.release(l, from)
			return false
		}
		moved += n
		s.last = max(s.last, l.now)
		if to.flags&writable == 0 && from.holds() {
			return false
		}
	}
	return true
}

// turn is how much may be read from an end at once, 0 while its limit has it wait. What is there to be read is paid for first:
// 0 bytes, the end of the stream, cost nothing.
func (s *Stream) turn(l *Loop, e *end) int {
	if e.paid > 0 {
		return int(e.paid) // its turn has come
	}
	if e.limit == nil {
		return pipeSize
	}
	slice := e.limit.Slice()
	if slice == 0 {
		return pipeSize
	}
	n := min(slice, unread(e.fd))
	if n == 0 {
		return slice
	}
	e.paid = int32(n)
	wait := e.limit.Pay(int64(n))
	if wait < time.Millisecond {
		return n
	}
	e.resume = l.now + int64(wait)
	s.last = e.resume // who waits for a turn is not idle
	s.reschedule(l)
	return 0
}

// settle makes good what was paid for and what was moved.
func (e *end) settle(moved int) {
	if difference := moved - int(e.paid); difference != 0 && e.limit != nil {
		e.limit.Pay(int64(difference))
	}
	e.paid = 0
}

// holds reports whether something from here has not gone to the other side yet.
func (e *end) holds() bool { return len(e.pending) > 0 || e.pipe != nil && e.pipe.held > 0 }

// ended reports whether all that ever comes from here has gone on.
func (e *end) ended() bool { return e.flags&done != 0 && !e.holds() }

// deliver sends what is held for the other side, and reports whether all of it has gone.
func (s *Stream) deliver(side int) bool {
	from, to := &s.ends[side], &s.ends[1-side]
	for len(from.pending) > 0 {
		if to.flags&writable == 0 {
			return false
		}
		n, errno := write(to.fd, from.pending)
		if errno != 0 {
			return s.refused(side, errno)
		}
		from.count(n)
		from.pending = from.pending[n:]
	}
	from.pending = nil
	for from.pipe != nil && from.pipe.held > 0 {
		if to.flags&writable == 0 {
			return false
		}
		n, errno := splice(from.pipe.r, to.fd, from.pipe.held)
		if errno != 0 || n <= 0 {
			return s.refused(side, errno)
		}
		from.count(n)
		from.pipe.held -= n
	}
	return true
}

// count adds n bytes that the other side took, a preamble of ours excepted.
func (e *end) count(n int) {
	free := min(e.free, uint64(n))
	e.free -= free
	e.moved.Add(uint64(n) - free)
}

// refused is what a write that failed means. It returns false, as deliver does.
func (s *Stream) refused(side int, errno syscall.Errno) bool {
	if errno == unix.EAGAIN {
		s.ends[1-side].flags &^= writable
		return false
	}
	// The other side is gone. What it sent last is still to be read; this direction has ended.
	s.broken = true
	s.ends[side].flags |= done
	s.ends[1-side].flags |= dead
	s.drop(&s.ends[side])
	return false
}

// take reads up to n bytes from a side and sends them on as far as they go. ok is false when there is nothing to take now,
// or ever.
func (s *Stream) take(l *Loop, side, n int) (got int, ok bool) {
	from := &s.ends[side]
	if from.flags&bulk != 0 {
		if from.pipe == nil {
			from.pipe = l.pipes.get()
		}
		if from.pipe != nil {
			return s.takeBulk(side, n)
		}
	}
	want := min(n, len(l.buf))
	got, errno := read(from.fd, l.buf[:want])
	if errno != 0 || got == 0 {
		return 0, s.nothing(side, errno)
	}
	if got >= bulkRead && from.flags&splices != 0 {
		from.flags |= bulk
	}
	if got < want && from.flags&(careful|hangup) == 0 {
		from.flags &^= readable // what comes later is told of by an event of its own
	}
	return got, s.forward(side, l.buf[:got])
}

// forward sends what was just read, and keeps what the other side does not take.
func (s *Stream) forward(side int, data []byte) bool {
	from, to := &s.ends[side], &s.ends[1-side]
	for len(data) > 0 {
		if to.flags&writable == 0 {
			from.pending = append([]byte(nil), data...)
			return true
		}
		n, errno := write(to.fd, data)
		if errno == unix.EAGAIN {
			to.flags &^= writable
			continue
		}
		if errno != 0 {
			return s.refused(side, errno)
		}
		from.count(n)
		data = data[n:]
	}
	return true
}

// takeBulk is take by way of a pipe: the bytes stay in the kernel.
func (s *Stream) takeBulk(side, n int) (got int, ok bool) {
	from := &s.ends[side]
	got, errno := splice(from.fd, from.pipe.w, n)
	if got <= 0 || errno != 0 {
		if errno == 0 || from.flags&careful != 0 {
			from.flags &^= bulk // the end, or urgent data, which only a read gets past
			return 0, true
		}
		return 0, s.nothing(side, errno)
	}
	if got < bulkRead {
		from.flags &^= bulk
	}
	from.pipe.held = got
	s.deliver(side)
	return got, from.flags&done == 0
}

// nothing is what a read that brought nothing means: later (EAGAIN), the end (no error), or that the side has died. It
// returns false, as take does.
func (s *Stream) nothing(side int, errno syscall.Errno) bool {
	from, to := &s.ends[side], &s.ends[1-side]
	from.flags &^= readable
	switch errno {
	case unix.EAGAIN:
		return false
	case 0:
		from.flags |= done
		if !to.ended() && (to.flags&done == 0 || !s.broken) { // when both have ended, closing says it
			if shutdownWrite(to.fd) != 0 {
				s.sideDied(1 - side)
			}
		}
	default:
		s.sideDied(side)
	}
	return false
}

// sideDied ends both directions of a side that can neither be read nor written.
func (s *Stream) sideDied(side int) {
	s.broken = true
	s.ends[side].flags |= done | dead
	s.ends[1-side].flags |= done
	s.drop(&s.ends[1-side]) // nobody to take it
}

// drop gives up what is held from an end.
func (s *Stream) drop(e *end) {
	e.pending = nil
	if e.pipe != nil && e.pipe.held > 0 {
		s.loop.Load().pipes.close(e.pipe)
		e.pipe = nil
	}
}

// release gives a pipe back that is not needed for now.
func (s *Stream) release(l *Loop, e *end) {
	if e.pipe != nil && e.pipe.held == 0 {
		l.pipes.put(e.pipe)
		e.pipe = nil
	}
}
