package tunnel

import (
	"context"
	"fmt"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// An ask is a request that has no reply yet.
type ask struct {
	frame   []byte
	done    chan struct{}
	payload []byte
	err     error
	over    bool
}

func (q *ask) finish(payload []byte, err error) {
	if !q.over {
		q.over, q.payload, q.err = true, payload, err
		close(q.done)
	}
}

// Ask makes a request and waits for the reply, also while there is no link, as long as ctx permits. A request that nobody waits for any more is
// done all the same.
func (s *Session) Ask(ctx context.Context, name string, payload []byte) ([]byte, error) {
	if len(payload) > wire.MaxPayload {
		return nil, fmt.Errorf("the request %s has %d bytes; %d is the most", name, len(payload), wire.MaxPayload)
	}
	q := &ask{done: make(chan struct{})}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil, errEnded
	}
	if len(s.asks) >= requestsMost {
		s.mu.Unlock()
		return nil, &Error{Code: TooMany, Text: fmt.Sprintf("%d requests have no reply yet", requestsMost)}
	}
	w := wire.Request{Number: s.nextAsk, Name: name, Payload: payload}
	q.frame = w.Append(nil)
	s.asks[s.nextAsk] = q
	s.nextAsk++
	if s.control != nil {
		s.control.ctl = append(s.control.ctl, q.frame...) // nobody has caused it
		s.control.kick()
	}
	s.mu.Unlock()
	select {
	case <-q.done:
		return q.payload, q.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the request %s has no reply: %w", name, ctx.Err())
	}
}

// replied is REPLY.
func (l *lane) replied(body []byte) error {
	w, err := wire.ParseReply(body)
	if err != nil {
		return err
	}
	s := l.s
	if w.Number == 0 || w.Number >= s.nextAsk {
		return protocolError("a reply to request %d, which was not made", w.Number)
	}
	s.tell(wire.AppendNumber(nil, wire.TypeHave, w.Number))
	q := s.asks[w.Number]
	if q == nil {
		return nil
	}
	delete(s.asks, w.Number)
	if w.Code != 0 {
		q.finish(nil, &Error{Code: Code(w.Code), Text: w.Text})
	} else {
		q.finish(append([]byte(nil), w.Payload...), nil)
	}
	return nil
}

// requested is REQUEST. The handler gets each once.
func (l *lane) requested(body []byte) error {
	w, err := wire.ParseRequest(body)
	if err != nil {
		return err
	}
	s := l.s
	if frame, known := s.replies[w.Number]; known {
		s.tell(frame) // nothing, if the handler has yet to reply
		return nil
	}
	if w.Number == 0 || !s.asked.add(w.Number-1) {
		return nil
	}
	if len(s.replies) >= 2*requestsMost { // HAVE may be under way for as many
		return protocolError("more than %d requests at once", requestsMost)
	}
	s.replies[w.Number] = nil
	payload := append([]byte(nil), w.Payload...)
	if s.o.Handler == nil {
		s.reply(w.Number, nil, &Error{Code: Unfit, Text: "nobody takes requests here"})
		return nil
	}
	l.in.calls = append(l.in.calls, func() {
		s.o.Handler.Asked(w.Name, payload, func(payload []byte, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.reply(w.Number, payload, err)
		})
	})
	return nil
}

// reply keeps what is replied until the other end has it.
func (s *Session) reply(number uint64, payload []byte, err error) {
	if frame, waiting := s.replies[number]; !waiting || frame != nil {
		return // it was replied to
	}
	if len(payload) > wire.MaxPayload {
		payload, err = nil, &Error{Code: Unfit, Text: fmt.Sprintf("the reply would have %d bytes; %d is the most", len(payload), wire.MaxPayload)}
	}
	w := wire.Reply{Number: number, Payload: payload}
	if err != nil {
		w.Code, w.Text, w.Payload = uint64(CodeOf(err)), err.Error(), nil
	}
	frame := w.Append(nil)
	s.replies[number] = frame
	s.tell(frame)
}
