package hub

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// An Agent is how an enrolled agent is doing.
type Agent struct {
	Name     string
	Key      tunnel.Key
	Enrolled time.Time
	LastSeen time.Time // now, when it is there; zero: never
	Program  string
	Limits   Limits // what it may, all taken together

	State     string    // "up", "away" (its session is kept), "off", "expired" or "revoked"
	Why       string    // of a state that is not "up"
	Since     time.Time // of the state; zero: unknown
	Transport string
	Address   netip.AddrPort
	RTT       time.Duration

	In, Out  uint64 // bytes from and to it, in this session
	Sessions int    // streams and flows
	Forwards int    // places that are listened at for it
	Resumed  int    // how often a session went on over another link
}

// The states of an agent.
const (
	StateUp      = "up"
	StateAway    = "away"
	StateOff     = "off"
	StateExpired = "expired"
	StateRevoked = "revoked"
)

// Agents are all that are or were enrolled, by name.
func (h *Hub) Agents() []Agent {
	records := h.o.Registry.Agents()
	list := make([]Agent, len(records))
	for i, rec := range records {
		list[i] = h.describe(rec)
	}
	return list
}

func (h *Hub) describe(rec Record) Agent {
	a := Agent{
		Name: rec.Name, Key: rec.Key, Enrolled: rec.Enrolled, LastSeen: rec.LastSeen, Program: rec.Program, Limits: h.limits(rec),
		State: StateOff, Why: "it has not come",
	}
	m := h.byKey(rec.Key)
	switch {
	case !rec.Revoked.IsZero():
		a.State, a.Why, a.Since = StateRevoked, errRevoked.Error(), rec.Revoked
		return a
	case a.Limits.expired(h.now()):
		a.State, a.Why, a.Since = StateExpired, errExpired.Error(), a.Limits.Expires
		return a
	case m == nil:
		return a
	}
	a.Sessions, a.Forwards = int(m.sessions.Load()), m.far.Listens()
	state := m.far.State()
	a.Why, a.Since = state.Why, state.Since
	s := m.far.Session()
	if s == nil {
		return a
	}
	a.State = StateAway
	if state.Up {
		a.State, a.LastSeen = StateUp, h.now()
	}
	status := s.Status()
	a.In, a.Out, a.Resumed = status.In, status.Out, status.Resumed
	if len(status.Links) > 0 {
		l := status.Links[0]
		a.Transport, a.Address, a.RTT = l.Transport, l.Remote, l.RTT
	}
	return a
}

// errKicked is what an agent is told that has to begin anew.
var errKicked = errors.New("the session was ended by the hub's administrator")

// find is the agent of a name, or of a key as it is written.
func (h *Hub) find(name string) (Record, error) {
	if rec, ok := h.o.Registry.Named(name); ok {
		return rec, nil
	}
	if key, err := tunnel.ParseKey(name); err == nil {
		if rec, ok := h.o.Registry.Agent(key); ok {
			return rec, nil
		}
	}
	return Record{}, fmt.Errorf("%q: %w", name, ErrNoAgent)
}

// Kick ends the session of an agent at once, with all that is open in it. The agent may come back.
func (h *Hub) Kick(name string) error {
	rec, err := h.find(name)
	if err != nil {
		return err
	}
	m := h.byKey(rec.Key)
	if m == nil || m.far.Session() == nil {
		return fmt.Errorf("%s is not there", rec.Name)
	}
	h.log.Info("agent kicked", keyAgent, rec.Name)
	m.end(tunnel.Gone, errKicked)
	return nil
}

// Revoke ends what an agent may at once, with all that it has open. It may not come back before it is enrolled anew.
func (h *Hub) Revoke(name string) error {
	rec, err := h.find(name)
	if err != nil {
		return err
	}
	if err := h.o.Registry.Revoke(rec.Key, h.now()); err != nil {
		return err
	}
	h.log.Info("agent revoked", keyAgent, rec.Name, keyKey, rec.Key.String())
	if m := h.byKey(rec.Key); m != nil {
		m.end(tunnel.Revoked, errRevoked)
		h.forget(m)
	}
	return nil
}

// Rename gives an agent another name. What reaches it by the old one ends.
func (h *Hub) Rename(name, to string) error {
	rec, err := h.find(name)
	if err != nil {
		return err
	}
	changed, err := h.o.Registry.Rename(rec.Key, to)
	if err != nil {
		return err
	}
	h.renamed(rec.Key)
	h.log.Info("agent renamed", keyAgent, rec.Name, "to", changed.Name)
	for _, m := range h.all() { // others may reach it by its name
		m.revise()
	}
	return nil
}

// ChangeLimits replaces what the agent's token said that it may, by what change makes of it, at once.
func (h *Hub) ChangeLimits(name string, change func(Limits) Limits) error {
	rec, err := h.find(name)
	if err != nil {
		return err
	}
	if rec, err = h.o.Registry.ChangeLimits(rec.Key, change); err != nil {
		return err
	}
	h.log.Info("what an agent may was changed", keyAgent, rec.Name)
	if m := h.byKey(rec.Key); m != nil {
		m.revise()
	}
	return nil
}

// NewToken makes a join token.
func (h *Hub) NewToken(o TokenOptions) (Token, error) {
	return h.o.Registry.NewToken(h.o.Key, o, h.now())
}

// Tokens are those that can be used now.
func (h *Hub) Tokens() []TokenInfo { return h.o.Registry.Tokens(h.now()) }

// DeleteToken makes a token worth nothing.
func (h *Hub) DeleteToken(id string) error { return h.o.Registry.DeleteToken(id) }
