package tunnel

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// Open opens a stream, or a flow where the network is UDP, and waits for the answer, also while there is no link, as long as ctx permits.
func (s *Session) Open(ctx context.Context, c Call) (*Stream, error) {
	if err := c.fits(); err != nil {
		return nil, err
	}
	st, err := s.begin(c)
	if err != nil {
		return nil, err
	}
	select {
	case <-st.opened:
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if !st.answered {
			why := s.state.Why
			st.reset(Timeout, errEnded)
			if why != "" {
				return nil, fmt.Errorf("%w: %s: %w", node.ErrAway, why, ctx.Err())
			}
			return nil, fmt.Errorf("the other end has not answered: %w", ctx.Err())
		}
		return st.outcome()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return st.outcome()
}

// fits reports whether the call can be said as it is.
func (c *Call) fits() error {
	w := wire.Open{Network: c.Network, Address: c.Address, Agent: c.Agent}
	return w.Fits()
}

func (st *Stream) outcome() (*Stream, error) {
	if st.err != nil {
		return nil, st.err
	}
	st.opened = nil
	return st, nil
}

// begin says OPEN, or will when there is a link.
func (s *Session) begin(c Call) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.beginLocked(c)
	if err == nil {
		st.opened = make(chan struct{})
	}
	return st, err
}

func (s *Session) beginLocked(c Call) (*Stream, error) {
	if s.ended {
		return nil, errEnded
	}
	if len(s.waiting) >= s.o.Streams {
		return nil, &Error{Code: TooMany, Text: fmt.Sprintf("%d streams wait for a link already", len(s.waiting))}
	}
	st := s.newStream(c)
	st.ours = true
	if s.control == nil {
		s.waiting = append(s.waiting, st)
	} else {
		s.number(st)
	}
	return st, nil
}

// giveUp forgets a stream that waits for a link. Those that were given up are taken out together.
func (s *Session) giveUp(st *Stream) {
	if st.id != 0 {
		return
	}
	if s.givenUp++; s.givenUp > len(s.waiting)/2 {
		s.waiting = slices.DeleteFunc(s.waiting, func(st *Stream) bool { return st.err != nil })
		s.givenUp = 0
	}
}

// number gives a stream its number, and says OPEN.
func (s *Session) number(st *Stream) {
	if st.err != nil {
		return // nobody waits any more
	}
	st.id = s.next
	s.next += 2
	s.streams[st.id] = st
	if st.flow {
		s.flows++
	}
	l := s.control
	l.ctl = st.openFrame(l.ctl)
	l.kick()
}

func (st *Stream) openFrame(b []byte) []byte {
	c := &st.call
	w := wire.Open{
		Stream: st.id, Window: st.granted, Kind: uint64(c.Kind), Network: c.Network, Address: c.Address, Listener: c.Listener,
		Client: c.Client, Local: c.Local, Agent: c.Agent,
	}
	return w.Append(b)
}

// answered is ANSWER.
func (l *lane) answered(body []byte) error {
	w, err := wire.ParseAnswer(body)
	if err != nil {
		return err
	}
	s := l.s
	if !s.own(w.Stream) || w.Stream >= s.next {
		return protocolError("an answer about stream %d, which was not opened", w.Stream)
	}
	if w.Code != 0 {
		s.tell(wire.AppendNumber(nil, wire.TypeClosed, w.Stream))
	}
	st := s.streams[w.Stream]
	if st == nil {
		return nil
	}
	st.mentioned = max(st.mentioned, l.link.round)
	if st.answered || st.resetting {
		if w.Code != 0 {
			st.drop()
		}
		return nil
	}
	if w.Code != 0 {
		st.drop()
		st.fail(&Error{Code: Code(w.Code), Text: w.Text})
		return nil
	}
	st.answered, st.at = true, w.Address
	st.limit = max(st.limit, w.Window)
	st.run()
	if st.opened != nil {
		close(st.opened)
	}
	if st.borne != nil {
		st.borne.opened()
	}
	return nil
}

// run has bytes of the stream flow, on the lane that is there.
func (st *Stream) run() {
	if a := st.s.inUse(); a != nil {
		st.lane = a.first
		st.enqueue()
	}
}

// inUse is the newest link of which the other end has said all, nil if there is none.
func (s *Session) inUse() *attached {
	for _, a := range s.links {
		if a.ready && !a.left {
			return a
		}
	}
	return nil
}

// opened is OPEN.
func (l *lane) opened(body []byte) error {
	w, err := wire.ParseOpen(body)
	if err != nil {
		return err
	}
	s := l.s
	if s.own(w.Stream) {
		return protocolError("stream %d is not the other end's to open", w.Stream)
	}
	if st := s.streams[w.Stream]; st != nil { // again
		st.mentioned = max(st.mentioned, l.link.round)
		if st.answered {
			s.tell(st.answerFrame().Append(nil))
		}
		return nil
	}
	if !s.theirs.add(w.Stream/2) || s.ended {
		return nil
	}
	if s.foreign >= 2*s.o.Streams {
		return protocolError("%d streams more than there may be", s.o.Streams)
	}
	st := s.newStream(Call{Kind(w.Kind), w.Network, w.Address, w.Listener, w.Client, w.Local, w.Agent})
	st.id, st.limit, st.mentioned = w.Stream, w.Window, l.link.round
	s.streams[st.id] = st
	s.foreign++
	if st.flow {
		s.flows++
	}
	a := &Arrival{Call: st.call, st: st}
	switch {
	case s.foreign > s.o.Streams:
		a.refuse(TooMany, fmt.Sprintf("%d streams are open, which is the most", s.o.Streams))
	case s.o.Handler == nil:
		a.refuse(Unfit, "nobody takes streams here")
	default:
		l.in.calls = append(l.in.calls, func() { s.o.Handler.Opened(a) })
	}
	return nil
}

func (st *Stream) answerFrame() *wire.Answer {
	if st.refusal != nil {
		return st.refusal
	}
	return &wire.Answer{Stream: st.id, Window: st.granted, Address: st.at}
}

// An Arrival is a stream or flow that the other end opens.
type Arrival struct {
	Call
	st *Stream
}

// Accept opens it. at is the address that was dialled from, for the other end to show; nil is none. The error is that the other end,
// or the session, is gone.
func (a *Arrival) Accept(at net.Addr) (*Stream, error) {
	st := a.st
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.err != nil:
		return nil, st.err
	case st.answered:
		return nil, errAnswered
	}
	if at != nil {
		st.at = at.String()
	}
	st.accept()
	return st, nil
}

func (st *Stream) accept() {
	st.answered = true
	st.s.tell(st.answerFrame().Append(nil))
	st.run()
}

// Refuse does not.
func (a *Arrival) Refuse(code Code, text string) {
	a.st.s.mu.Lock()
	defer a.st.s.mu.Unlock()
	a.refuse(code, text)
}

func (a *Arrival) refuse(code Code, text string) {
	st := a.st
	if st.err != nil || st.answered {
		return
	}
	if code == Done {
		code = Refused
	}
	st.answered = true
	st.refusal = &wire.Answer{Stream: st.id, Code: uint64(code), Text: text}
	st.err = errEnded
	st.s.tell(st.refusal.Append(nil))
}

var errAnswered = fmt.Errorf("the arrival was answered already")
