package tunnel

// overMost is how many bytes a stream may have on its way when the session has as many as it may.
const overMost = 4 << 10

// room is how many more bytes of the stream may be taken on.
func (st *Stream) room() int {
	room := int(min(st.limit-st.end, 1<<30))
	if st.s.held >= st.s.o.Memory {
		if st.end > st.acked {
			return 0
		}
		room = min(room, overMost)
	}
	return room
}

// put copies p, for which there is room, to what is to be sent.
func (st *Stream) put(p []byte) {
	for len(p) > 0 {
		c := st.out.last
		if c == nil || c.head >= 0 || c.room() == 0 {
			c = newChunk(len(p))
			c.offset = st.end
			st.append(c)
		}
		n := copy(c.buf[c.to:], p)
		c.to += n
		st.out.size += n
		st.added(n)
		p = p[n:]
	}
	st.enqueue()
}

// append puts a chunk without bytes at the end.
func (st *Stream) append(c *chunk) {
	st.out.push(c)
	st.s.held += len(c.buf)
	if st.unsent == nil {
		st.unsent = c
	}
}

func (st *Stream) added(n int) {
	st.end += uint64(n)
	st.backlog += n
	st.s.out += uint64(n)
}

// hasMore reports whether there is something to send that may be sent now.
func (st *Stream) hasMore() bool {
	return st.unsent != nil || st.closing && !st.finSent || st.borne != nil && st.borne.mayRead()
}

// enqueue has the stream sent when it is its turn.
func (st *Stream) enqueue() {
	l := st.lane
	if l == nil || st.queued || st.err != nil || !st.hasMore() {
		return
	}
	st.queued = true
	if st.backlog > briskMost || st.isBulk() {
		l.bulk.push(st)
	} else {
		l.brisk.push(st)
	}
	l.kick()
}

// acknowledged is a CREDIT. It reports false for one that makes no sense.
func (st *Stream) acknowledged(received, limit uint64) bool {
	most := st.end
	if st.closing {
		most++ // FIN takes one place, and may have been sent on another lane
	}
	if received > most {
		return false
	}
	s := st.s
	if received > st.end {
		st.finAcked = true
		received = st.end
	}
	if received > st.acked {
		st.acked = received
		for c := st.out.first; c != nil && c.len() > 0 && c.end() <= received; c = st.out.first {
			if c == st.unsent { // sent on an earlier lane
				st.unsent = c.next
				st.backlog -= c.len()
			}
			s.held -= len(c.buf)
			st.out.pop().free()
		}
	}
	if limit > st.limit {
		st.limit = limit
	}
	st.wr.signal()
	st.enqueue()
	if st.closing && st.finAcked {
		st.settle()
		st.refuse()
	}
	return true
}

// move has the stream go on on another lane, with the first byte that was not acknowledged.
func (st *Stream) move(l *lane) {
	if st.lane != l {
		st.lane.finish()
	}
	if l.isOne {
		st.own.finish()
		st.own, st.wantsOwn, st.sentShared = nil, false, 0
	}
	st.lane, st.queued, st.nextInLane = l, false, nil
	if st.err != nil || !st.answered {
		return
	}
	st.unsent, st.backlog, st.finSent = st.out.first, st.out.size, st.finAcked
	st.enqueue()
}

// leaveLane is that the lane has died.
func (st *Stream) leaveLane() {
	st.own, st.wantsOwn, st.sentShared = nil, false, 0
	st.lane, st.queued, st.nextInLane = nil, false, nil
}

// outHeld is how much of the session's memory the stream has.
func (st *Stream) outHeld() int {
	n := 0
	for c := st.out.first; c != nil; c = c.next {
		n += len(c.buf)
	}
	return n
}

// release gives up what waits for acknowledgements. Datagrams that nobody has read are the stream's alone from now on.
func (s *Session) release(st *Stream) {
	s.held -= st.outHeld()
	st.out.clear()
	st.unsent, st.backlog = nil, 0
	st.unkeep(st.kept)
}
