package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead-net/fairlead/tunnel"
)

// Serve takes in an agent that has come by a link, or refuses it, and returns. The link belongs to the hub. Before Run, it waits for it.
func (h *Hub) Serve(ctx context.Context, l tunnel.Link) error {
	select {
	case <-h.running:
	case <-l.Done():
		return l.Err()
	case <-ctx.Done():
		_ = l.Close()
		return ctx.Err()
	}
	caller, err := tunnel.Receive(ctx, l)
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("%s: %w", l.Remote(), err)
	}
	err = h.admit(caller)
	if err != nil {
		var said *tunnel.Error
		if !errors.As(err, &said) {
			said = &tunnel.Error{Code: tunnel.Refused, Text: "the hub has trouble of its own"}
		}
		if unsaid, say := h.refused.count(said.Code, h.now()); say { // anybody can come, with as many keys as he likes
			h.log.Info("agent refused", keyFrom, l.Remote().String(), keyKey, l.Peer().String(), keyError, err, "before", unsaid)
		}
		caller.Refuse(said.Code, said.Text)
	}
	return err
}

// admit finds out who has come, and has it join its session.
func (h *Hub) admit(c *tunnel.Caller) error {
	rec, err := h.who(c)
	if err != nil {
		return err
	}
	if l := h.limits(rec); l.expired(h.now()) {
		return &tunnel.Error{Code: tunnel.Revoked, Text: errExpired.Error()}
	}
	m := h.member(rec.Key)
	if m == nil {
		if now, ok := h.o.Registry.Agent(rec.Key); !ok || !now.Revoked.IsZero() {
			return &tunnel.Error{Code: tunnel.Revoked, Text: errRevoked.Error()}
		}
		return &tunnel.Error{Code: tunnel.Shutdown, Text: "the hub is being stopped"}
	}
	return m.join(c)
}

// who is the agent whose key the link has proven.
func (h *Hub) who(c *tunnel.Caller) (Record, error) {
	key, now := c.Link.Peer(), h.now()
	if c.Hello.Join {
		from := sourceOf(c.Link.Remote().Addr())
		rec, err := h.o.Registry.Enrol(key, c.Hello.Secret, c.Hello.Name, printable(c.Hello.Program), h.meant, h.mostAgents(), now)
		switch {
		case errors.Is(err, ErrNameTaken):
			return Record{}, &tunnel.Error{Code: tunnel.Busy, Text: err.Error()}
		case errors.Is(err, ErrFull):
			return Record{}, &tunnel.Error{Code: tunnel.TooMany, Text: err.Error()}
		case errors.Is(err, ErrSecret) && !h.throttle.may(from, now): // a good one is taken whatever others guess
			return Record{}, &tunnel.Error{Code: tunnel.TooMany, Text: "too many wrong join tokens; try again later"}
		case errors.Is(err, ErrSecret):
			h.throttle.wrong(from, now)
			return Record{}, &tunnel.Error{Code: tunnel.Secret, Text: err.Error()}
		case err == nil:
			h.log.Info("agent enrolled", keyAgent, rec.Name, keyKey, key.String(), keyFrom, c.Link.Remote().String())
		}
		return rec, err
	}
	rec, ok := h.o.Registry.Agent(key)
	switch {
	case !ok:
		return rec, &tunnel.Error{Code: tunnel.Unknown, Text: "the hub does not know this agent; enrol it with a join token of the hub's"}
	case !rec.Revoked.IsZero():
		return rec, &tunnel.Error{Code: tunnel.Revoked, Text: errRevoked.Error()}
	}
	h.o.Registry.Seen(key, printable(c.Hello.Program), now)
	return rec, nil
}

// join has an agent that has come go on with its session, or begin one. Which session that is, is decided among those of its key.
func (m *member) join(c *tunnel.Caller) error {
	m.joining.Lock()
	defer m.joining.Unlock()
	h := m.hub
	if why := h.leaving(); why != "" {
		return &tunnel.Error{Code: tunnel.Shutdown, Text: why}
	}
	s := m.far.Session()
	m.mu.Lock()
	same := s != nil && m.id == c.Hello.Session
	displaced := m.before == c.Hello.Session
	m.mu.Unlock()
	switch {
	case same:
	case c.Hello.Resume && displaced:
		return &tunnel.Error{Code: tunnel.Busy, Text: "another agent with this one's key has come"}
	case c.Hello.Resume:
		return &tunnel.Error{Code: tunnel.Gone, Text: "there is no such session here"}
	default:
		o := m.options()
		o.Side, o.ID = tunnel.Hub, c.Hello.Session
		m.mu.Lock()
		m.before, m.id = tunnel.ID{}, o.ID
		if s != nil {
			m.before = s.Status().ID
		}
		m.mu.Unlock()
		s = m.far.Begin(o)
	}
	rec, err := m.record()
	if err != nil { // revoked meanwhile
		h.forget(m)
		s.End(tunnel.Revoked, errRevoked.Error())
		return &tunnel.Error{Code: tunnel.Revoked, Text: errRevoked.Error()}
	}
	err = c.Join(s, tunnel.Hello{Session: c.Hello.Session, Name: h.o.Name, Program: h.o.Program, Keep: h.o.Resume})
	if err != nil {
		return err
	}
	h.log.Log(context.Background(), m.far.NewsLevel(), "agent is here", keyAgent, rec.Name, keyFrom, c.Link.Remote().String(), keyTransport, c.Link.Transport())
	m.revise()
	if !same {
		m.mu.Lock()
		told := m.told
		m.mu.Unlock()
		m.far.Tell(told)
	}
	return nil
}

const stopped = "the hub is being stopped"

// leaving is why nobody is taken in any more, or nothing.
func (h *Hub) leaving() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.freezing:
		return "the hub restarts"
	case h.ended:
		return stopped
	}
	return ""
}

// printable is what an agent says of itself, fit for a log and a list.
func printable(s string) string {
	b := []byte(s[:min(len(s), 64)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}
