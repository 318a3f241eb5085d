package tunnel

import (
	"errors"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// Lead opens a stream for a socket, and bears that from then on, without anybody waiting: see node.Leader. It cannot ask the client
// where it goes (LeadOptions.First), nor where there is no poller.
func (s *Session) Lead(fd int, c Call, o node.LeadOptions) (node.Borne, bool) {
	if o.First != nil || isPackets(c.Network) || c.fits() != nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.unlock()
	p, err := s.polling()
	if err != nil {
		return nil, false
	}
	st, err := s.beginLocked(c)
	if err != nil {
		return nil, false
	}
	b := &borne{st: st, fd: fd, o: o.BearOptions, state: borneOpening, careful: sysIsUnix(fd), quiet: time.Since(s.began), connected: o.Connected}
	b.left = o.Left
	b.failed = func(err error) {
		o.Failed(err)
		b.finallyEnd()
	}
	if !p.watch(b) {
		st.reset(Done, errEnded)
		return nil, false
	}
	st.borne = b
	if o.Timeout > 0 {
		b.timer = b.later(o.Timeout, func() {
			if b.state == borneOpening {
				st.reset(Timeout, s.awayError())
			}
		})
	}
	return b, true
}

// awayError says why nobody has answered.
func (s *Session) awayError() error {
	if s.state.Up {
		return &Error{Code: Timeout, Text: "the other end has not answered in time"}
	}
	return &Error{Code: Timeout, Text: s.state.Why}
}

// answerTime is how long the other end waits to hear whether a socket connects. Then the stream is accepted, because that end has less
// patience, perhaps, than this one; and reset, should the socket not connect.
const answerTime = time.Second

// Meet takes over the socket fd, whose connect is under way, accepts the stream when that has succeeded, or takes longer than a moment, and
// bears the socket from then on: see node.Arrival. Where there is no poller, it refuses.
func (a *Arrival) Meet(fd int, o node.MeetOptions) node.Borne {
	st := a.st
	s := st.s
	s.mu.Lock()
	defer s.unlock()
	b := &borne{st: st, fd: fd, place: -1, o: o.BearOptions, state: borneOpening, quiet: time.Since(s.began), connected: o.Connected, meets: true}
	b.failed = func(err error) { b.nextAttempt(o.Failed(err)) }
	if st.err != nil || st.answered {
		b.connected = nil
		b.end()
		return b
	}
	st.borne = b
	b.attempt(fd, o.Timeout)
	if b.state == borneOpening {
		b.patience = b.later(answerTime, func() {
			if b.state == borneOpening && st.err == nil && !st.answered {
				st.accept()
			}
		})
	}
	return b
}

// attempt waits for the connect of a socket.
func (b *borne) attempt(fd int, timeout time.Duration) {
	b.fd, b.careful = fd, sysIsUnix(fd)
	p, err := b.st.s.polling()
	if err != nil || !p.watch(b) {
		b.giveUp(Unreachable, "the socket cannot be carried")
		return
	}
	b.attempts++
	attempt := b.attempts // another one may have the same number for its socket
	if timeout > 0 {
		b.timer = b.later(timeout, func() {
			if b.state == borneOpening && b.attempts == attempt && b.fd >= 0 {
				b.attemptFailed(errConnectTimeout)
			}
		})
	}
}

// attempted is that the connect of the socket has ended.
func (b *borne) attempted() {
	if errno := sysSocketError(b.fd); errno != 0 {
		b.attemptFailed(errno)
		return
	}
	st := b.st
	if st.err != nil {
		b.end()
		return
	}
	if !st.answered {
		if st.call.Kind == Dial {
			st.at = sysLocal(b.fd)
		}
		st.accept()
	}
	b.opened()
}

// attemptFailed asks for the next socket.
func (b *borne) attemptFailed(err error) {
	s := b.st.s
	s.poller.forget(b)
	if b.timer != nil {
		b.timer.Stop()
	}
	sysClose(b.fd)
	b.fd = -1
	b.why = err
	failed := b.failed // Kill may take it away
	s.after = append(s.after, func() { failed(err) })
}

// nextAttempt goes on with another socket, or refuses. The session is free when it is called.
func (b *borne) nextAttempt(fd int, timeout time.Duration) {
	s := b.st.s
	s.mu.Lock()
	defer s.unlock()
	switch {
	case b.state != borneOpening || b.st.err != nil:
		if fd >= 0 {
			sysClose(fd)
		}
		b.end()
	case fd >= 0:
		b.attempt(fd, timeout)
	default:
		b.giveUp(CodeOf(b.why), b.why.Error())
	}
}

// giveUp refuses the stream, or resets it where it was accepted.
func (b *borne) giveUp(code Code, text string) {
	st := b.st
	st.borne = nil
	if st.answered {
		st.reset(code, errEnded)
	} else {
		(&Arrival{st: st}).refuse(code, text)
	}
	b.end()
}

// stopTimers is that nobody waits any more.
func (b *borne) stopTimers() {
	for _, t := range [...]*time.Timer{b.timer, b.patience} {
		if t != nil {
			t.Stop()
		}
	}
	b.timer, b.patience = nil, nil
}

// opened lets bytes flow.
func (b *borne) opened() {
	b.state, b.active = borneOpen, true
	b.stopTimers()
	if b.connected != nil {
		b.st.s.after = append(b.st.s.after, b.connected)
	}
	b.connected, b.failed, b.left = nil, nil, nil
	b.st.enqueue()
	b.drain()
}

// notOpened is that the stream was not opened, for err.
func (b *borne) notOpened(err error) {
	failed := b.failed
	b.failed = nil
	switch {
	case failed == nil || b.meets:
		b.end()
		return
	case b.left != nil && (errors.Is(err, node.ErrClosed) || errors.Is(err, errFrozen)): // nobody has answered
		b.giveBack()
		return
	}
	b.st.s.after = append(b.st.s.after, func() { failed(err) })
}

// giveBack leaves the socket to the one from whom it came.
func (b *borne) giveBack() {
	b.stopTimers()
	b.state, b.closed = borneEnded, true
	b.pending.clear()
	b.st.s.poller.release(b)
	b.fd = -1
	b.st.s.after = append(b.st.s.after, b.left)
}

// finallyEnd ends a socket after its failure was told.
func (b *borne) finallyEnd() {
	b.st.s.mu.Lock()
	defer b.st.s.unlock()
	b.end()
}
