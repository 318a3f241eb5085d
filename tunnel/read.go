package tunnel

import (
	"io"
	"time"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// finMost is how long FIN is at the most: two numbers. So only the first lane has frames that have to be there as a whole and may be long.
const finMost = 16

// An inbound is what a lane's reader knows between two reads.
type inbound struct {
	calls   []func() // of the handler, once the session is free
	stream  *Stream  // of the DATA frame that is coming; nil: nobody wants it
	offset  uint64
	left    int  // of its payload
	crowded bool // it is to wait before it goes on
	moved   bool // it goes on elsewhere, see detour: beside the link, or on it
	aside   bool
}

// read is the goroutine that reads the lane. rest comes before all else.
func (l *lane) read(rest []byte) {
	defer l.link.laneEnded()
	var b inBuffer
	defer b.free()
	b.hold(len(rest) > readSmall)
	b.have = copy(b.b, rest)
	conn := l.conn
	awaiting, _ := conn.(Awaiter)
	read := 0
	for {
		used, need, err := l.take(b.b[:b.have])
		if err == nil && l.in.moved {
			l.in.moved = false
			if conn, err = l.follow(l.in.aside); err == nil {
				awaiting, _ = conn.(Awaiter)
			}
		}
		if err != nil {
			l.link.fail(err)
			return
		}
		large := need > len(b.b) || b.have == len(b.b) || b.large != nil && read >= readSmall/2
		b.have = copy(b.b, b.b[used:b.have])
		switch {
		case need > readLarge:
			return // cannot be: frames are bounded
		case awaiting != nil:
			b.release()
			awaiting.Await()
		case !large && b.large != nil:
			b.release()
		}
		b.hold(large)
		read, err = conn.Read(b.b[b.have:])
		b.have += read
		yield(read)
		if read > 0 {
			l.heard = true
			if !l.side { // what comes beside a link does not say that the link works
				l.link.hear()
			}
		} else if err != nil && !l.isOne {
			return // the lane has ended, and nothing else
		} else if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			l.link.fail(err)
			return
		}
	}
}

// take does what the frames in b say. It returns how much of b is done with, and how much it needs to go on: 0 is any more. It waits
// while the other end does not read what it is answered.
func (l *lane) take(b []byte) (used, need int, err error) {
	for {
		n := 0
		n, need, err = l.takeSome(b[used:])
		if used += n; err != nil || !l.in.crowded {
			return used, need, err
		}
		l.s.mu.Lock()
		for l.crowded() && !l.link.dead {
			l.s.drained.Wait()
		}
		l.s.mu.Unlock()
	}
}

func (l *lane) takeSome(b []byte) (used, need int, err error) {
	s := l.s
	s.mu.Lock()
	used, need, err = l.frames(b)
	s.unlock()
	if len(l.in.calls) > 0 {
		s.handling.Lock()
		for i, call := range l.in.calls {
			call()
			l.in.calls[i] = nil
		}
		s.handling.Unlock()
		l.in.calls = l.in.calls[:0]
	}
	return used, need, err
}

func (l *lane) frames(b []byte) (used, need int, err error) {
	in := &l.in
	in.crowded = false
	for len(b) > used {
		if l.link.dead {
			return used, 0, errLeft
		}
		rest := b[used:]
		if in.left > 0 {
			n := min(in.left, len(rest))
			used += n
			in.left -= n
			if st := in.stream; st != nil {
				offset := in.offset
				in.offset += uint64(n)
				if err := l.arrived(st, offset, rest[:n]); err != nil {
					return used, 0, err
				}
			}
			continue
		}
		if l.crowded() {
			in.crowded = true
			return used, 0, nil
		}
		t, size, n, err := wire.Head(rest, wire.MaxBody)
		if err != nil {
			return used, 0, err
		}
		if n == 0 {
			return used, 0, nil
		}
		if !l.isOne && t < wire.Optional && t != wire.TypeData && t != wire.TypeFin {
			return used, 0, protocolError("a frame of type %#02x, which is for the first lane", byte(t))
		}
		if t == wire.TypeFin && size > finMost {
			return used, 0, protocolError("an end of %d bytes", size)
		}
		if t >= wire.Optional { // nobody has to wait for all of it
			switch {
			case !l.isOne:
			case t == wire.TypeMoves:
				l.link.detour.offered = l.link.sider != nil && l.s.o.Side == Agent
			case t == wire.TypeSide:
				l.link.bring()
			case t == wire.TypeNoSide:
				l.link.notBrought()
			}
			in.stream, in.left = nil, size
			used += n
			continue
		}
		if t == wire.TypeData {
			stream, offset, m := wire.ParseDataHead(rest[n:min(len(rest), n+size)])
			if m == 0 {
				if len(rest) >= n+size {
					return used, 0, &wire.FrameError{Type: t, Err: wire.ErrShort}
				}
				return used, 0, nil
			}
			used += n + m
			in.left, in.offset = size-m, offset
			if in.stream, err = l.streamOf(stream, true); err != nil {
				return used, 0, err
			}
			continue
		}
		if len(rest) < n+size {
			return used, n + size, nil
		}
		used += n + size
		if t == wire.TypeMove {
			return used, 0, l.move(rest[n:n+size], len(b) > used)
		}
		if err := l.frame(t, rest[n:n+size]); err != nil {
			return used, 0, err
		}
	}
	return used, 0, nil
}

// move is MOVE.
func (l *lane) move(body []byte, more bool) error {
	var aside uint64
	if err := wire.Numbers(body, &aside); err != nil {
		return &wire.FrameError{Type: wire.TypeMove, Err: err}
	}
	if more || aside > 1 {
		return errMove
	}
	l.in.moved, l.in.aside = true, aside == 1
	return nil
}

// streamOf is the stream of a number, nil for one that is forgotten: the other end is told that it is gone.
func (l *lane) streamOf(number uint64, bytes bool) (*Stream, error) {
	s := l.s
	if st := s.streams[number]; st != nil {
		st.mentioned = max(st.mentioned, l.link.round)
		return st, nil
	}
	if !s.known(number) {
		return nil, protocolError("there was never a stream %d", number)
	}
	if bytes {
		s.tell(wire.AppendNumbers(nil, wire.TypeReset, number, uint64(Gone)))
	}
	return nil, nil
}

// known reports whether a number was ever used.
func (s *Session) known(stream uint64) bool {
	if s.own(stream) {
		return stream < s.next
	}
	return s.theirs.has(stream / 2)
}

// frame does what a frame says that is not DATA.
func (l *lane) frame(t wire.Type, body []byte) error {
	s := l.s
	var number, x, y uint64
	switch t {
	case wire.TypeCredit:
		if err := wire.Numbers(body, &number, &x, &y); err != nil {
			return &wire.FrameError{Type: t, Err: err}
		}
		st, err := l.streamOf(number, false)
		if st == nil {
			return err
		}
		if !st.acknowledged(x, y) {
			return protocolError("stream %d: more was acknowledged than was sent", number)
		}
	case wire.TypeFin:
		if err := wire.Numbers(body, &number, &x); err != nil {
			return &wire.FrameError{Type: t, Err: err}
		}
		st, err := l.streamOf(number, true)
		if st == nil {
			return err
		}
		return st.ends(x)
	case wire.TypeOpen:
		return l.opened(body)
	case wire.TypeAnswer:
		return l.answered(body)
	case wire.TypeReset:
		if err := wire.Numbers(body, &number, &x); err != nil {
			return &wire.FrameError{Type: t, Err: err}
		}
		s.wasReset(number)
	case wire.TypeClosed:
		if err := wire.Numbers(body, &number); err != nil {
			return &wire.FrameError{Type: t, Err: err}
		}
		if st := s.streams[number]; st != nil && (st.resetting || st.refusal != nil) {
			st.drop()
		}
	case wire.TypeRequest:
		return l.requested(body)
	case wire.TypeReply:
		return l.replied(body)
	case wire.TypeHave:
		if err := wire.Numbers(body, &number); err != nil {
			return &wire.FrameError{Type: t, Err: err}
		}
		if s.replies[number] != nil {
			delete(s.replies, number)
		}
	case wire.TypeDatagram:
		flow, payload, err := wire.Packet(body)
		if err != nil {
			return &wire.FrameError{Type: t, Err: err}
		}
		s.datagram(flow, payload)
	default:
		return l.linkFrame(t, body)
	}
	return nil
}

// linkFrame does what a frame says about the link.
func (l *lane) linkFrame(t wire.Type, body []byte) error {
	s, a := l.s, l.link
	var number uint64
	switch t {
	case wire.TypeReady:
		if a.readies++; time.Duration(a.readies-readiesMost)*readyPause > time.Since(a.since) {
			return protocolError("READY again and again")
		}
		s.readied(a)
	case wire.TypePing, wire.TypePong:
		if err := wire.Numbers(body, &number); err != nil {
			return &wire.FrameError{Type: t, Err: err}
		}
		if t == wire.TypePing {
			l.answer(wire.AppendNumber(nil, wire.TypePong, number))
		} else if rtt := time.Since(s.began) - time.Duration(number); rtt > 0 && rtt < deadAfter {
			a.rtt.Store(int64(rtt))
		}
	case wire.TypeLeave:
		w, err := wire.ParseWord(t, body)
		if err != nil {
			return err
		}
		return l.leftBy(Code(w.Code), w.Text)
	default:
		if t < wire.Optional {
			return protocolError("a frame of type %#02x, which this end does not know", byte(t))
		}
	}
	return nil
}

// leftBy is LEAVE.
func (l *lane) leftBy(code Code, text string) error {
	switch code {
	case Replaced:
		l.link.theyLeft = true
		l.link.first.kick()
		return nil
	case Shutdown:
		return &Error{Code: code, Text: text}
	}
	l.in.calls = append(l.in.calls, func() { l.s.end(code, text, false) })
	return nil
}

// answer says what the other end has caused.
func (l *lane) answer(frame []byte) {
	l.ctl = append(l.ctl, frame...)
	l.told += len(frame)
	l.kick()
}

// crowded reports whether there is more to be answered than the other end may leave unread.
func (l *lane) crowded() bool {
	c := l.s.control
	return l.link.first.told > toldMost || c != nil && c.told > toldMost
}

// tell answers on the control lane, if there is one.
func (s *Session) tell(frame []byte) {
	if s.control != nil {
		s.control.answer(frame)
	}
}

// wasReset is RESET.
func (s *Session) wasReset(number uint64) {
	s.tell(wire.AppendNumber(nil, wire.TypeClosed, number))
	st := s.streams[number]
	if st == nil {
		if !s.own(number) {
			s.theirs.add(number / 2) // its OPEN was lost, and is not to be taken for new
		}
		return
	}
	st.forgotten()
}
