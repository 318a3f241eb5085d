package hub

import (
	"context"
	"errors"
	"sync"

	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A Frozen is an agent that is there, for another process to go on with. It is plain data beside the descriptors that its session speaks of.
type Frozen struct {
	Key tunnel.Key
	Far *agent.Frozen
}

// Quiet is called some time before Freeze: see agent.Far.
func (h *Hub) Quiet() {
	for _, m := range h.all() {
		m.far.Quiet()
	}
}

// Freeze ends the sessions of all agents in this process, without a word to them. Nobody is let in any more, and what Run ends afterwards
// does not close places that agents listen at.
func (h *Hub) Freeze() []Frozen {
	h.mu.Lock()
	h.freezing = true
	h.mu.Unlock()
	var mu sync.Mutex
	var list []Frozen
	var all sync.WaitGroup
	for _, m := range h.all() {
		all.Go(func() {
			m.joining.Lock()
			defer m.joining.Unlock()
			far, err := m.far.Freeze()
			if err != nil || far == nil {
				return // it is not there
			}
			mu.Lock()
			defer mu.Unlock()
			list = append(list, Frozen{m.key, far})
		})
	}
	all.Wait()
	return list
}

// An Adopter says whose the streams of a session are that forwards carry here; nil is nobody's.
type Adopter func(key tunnel.Key, session tunnel.ID) agent.Adopter

// Thaw has Run go on with agents that another process has frozen, before it lets anybody in. resumed is given the streams that adopt
// wanted, and may be nil as adopt may. Both are called while Run begins.
func (h *Hub) Thaw(list []Frozen, adopt Adopter, resumed func([]tunnel.Numbered)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.thawing = func(ctx context.Context) {
		for _, fr := range list {
			all, err := h.thaw(ctx, fr, adopt)
			if err != nil {
				h.log.Warn("an agent's session does not go on as a whole", keyKey, fr.Key.String(), keyError, err)
			}
			if resumed != nil {
				resumed(all)
			}
		}
	}
}

func (h *Hub) thaw(ctx context.Context, fr Frozen, adopt Adopter) ([]tunnel.Numbered, error) {
	rec, ok := h.o.Registry.Agent(fr.Key)
	switch {
	case fr.Far == nil || fr.Far.Session == nil:
		return nil, errors.New("it has no session")
	case !ok || !rec.Revoked.IsZero():
		agent.Discard(fr.Far)
		return nil, errRevoked
	}
	m := h.member(rec.Key)
	if m == nil {
		agent.Discard(fr.Far)
		return nil, context.Canceled
	}
	m.joining.Lock()
	defer m.joining.Unlock()
	m.mu.Lock()
	m.id = fr.Far.Session.ID
	m.mu.Unlock()
	o := m.options()
	var adopter agent.Adopter
	if adopt != nil {
		adopter = adopt(fr.Far.Session.Peer, fr.Far.Session.ID)
	}
	all, err := m.far.Thaw(ctx, fr.Far, o, adopter)
	m.revise()
	return all, err
}
