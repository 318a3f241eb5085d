package hub

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// Options are what a Hub is made of.
type Options struct {
	Log      *slog.Logger // nil: none
	Key      tunnel.Key   // the hub's own, for tokens
	Name     string       // of this hub, as agents are told
	Program  string       // and version
	Registry *Registry

	// Forwards listens for agents.
	Forwards node.Forwards
	// Dial connects to what an agent wants the hub to dial for it: "tcp" or "udp" with host:port. nil: nothing is dialled.
	Dial   func(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error)
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error) // nil asks the system
	// Meant reports whether forwards speak of a name, or a node has it. Who joins by a token without a name gets another. nil: none.
	Meant func(name string) bool
	// Nodes is where forwards look for agents by name; nil: nowhere.
	Nodes Nodes

	// Shared is the hub's own port, where agents with names may listen for those who call them, and the name of the hub, which none of
	// them gets; 0 and "" where there is none. nil: neither.
	Shared func() (port uint16, name string)

	Resume time.Duration  // how long a session is kept without a link; 0 is 5 minutes
	Linger time.Duration  // how long an agent's listeners stay open after its session has ended; 0 is 30 s
	Tunnel tunnel.Options // Window, Streams, Memory
}

// Nodes takes agents in under their names: see node.Set.
type Nodes interface {
	Join(name string, n node.Node)
	Leave(name string, n node.Node)
}

// Settings are what the file says about agents. They go before what their tokens said.
type Settings struct {
	Default   Limits            // where neither the file nor the token says anything of an agent
	Agents    map[string]Limits // by name; where one says nothing, the token counts, and then Default
	MaxAgents int               // that are enrolled; those who are stay. 0 is without end
}

// A Hub has the agents that are there. It is made with New, and is of use while Run runs.
type Hub struct {
	o   Options
	log *slog.Logger
	now func() time.Time

	throttle throttle
	refused  bursts
	running  chan struct{} // closed when Run takes agents in

	naming sync.Mutex // held while an agent gets a name

	mu       sync.Mutex
	start    func(func(context.Context)) // has Run run something; nil: it does not run
	ended    bool
	freezing bool
	thawing  func(context.Context) // nil: nothing was frozen
	settings Settings
	members  map[tunnel.Key]*member // all that are enrolled
}

// New returns a hub to which nobody has come.
func New(o Options) (*Hub, error) {
	if o.Registry == nil || o.Forwards == nil {
		return nil, errors.New("a hub needs a Registry and Forwards")
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o.Name = cmp.Or(o.Name, "hub")
	o.Resume = cmp.Or(o.Resume, 5*time.Minute)
	// What ends at a time ends when the clock on the wall says so: the other one stands still while the machine sleeps.
	now := func() time.Time { return time.Now().Round(0) }
	return &Hub{o: o, log: log, now: now, running: make(chan struct{}), members: map[tunnel.Key]*member{}}, nil
}

const (
	flushEvery = time.Minute      // how often it is kept when agents were last seen
	lookEvery  = 10 * time.Second // how often the clock is looked at: timers are late by the time that the machine has slept
)

// Run has agents stay until ctx ends, and then ends their sessions. It is called once.
func (h *Hub) Run(ctx context.Context) error {
	var group sync.WaitGroup
	h.mu.Lock()
	if h.start != nil || h.ended {
		h.mu.Unlock()
		return errors.New("a hub runs once")
	}
	h.start = func(fn func(context.Context)) { group.Go(func() { fn(ctx) }) }
	thaw := h.thawing
	h.thawing = nil
	h.mu.Unlock()
	if thaw != nil {
		thaw(ctx)
	}
	for _, rec := range h.o.Registry.Agents() {
		if rec.Revoked.IsZero() {
			h.member(rec.Key)
		}
	}
	close(h.running)
	flush, look := time.NewTicker(flushEvery), time.NewTicker(lookEvery)
	defer flush.Stop()
	defer look.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-flush.C:
			h.note()
		case <-look.C:
			h.look()
		}
	}
	h.note()
	h.mu.Lock()
	h.start, h.ended = nil, true
	h.mu.Unlock()
	group.Wait()
	return ctx.Err()
}

// Running is closed once Run takes agents in; those of another process are there then.
func (h *Hub) Running() <-chan struct{} { return h.running }

// note keeps which agents are here now.
func (h *Hub) note() {
	now := h.now()
	for _, m := range h.all() {
		if s := m.far.Session(); s != nil && s.State().Up {
			h.o.Registry.Seen(m.key, "", now)
		}
	}
	if err := h.o.Registry.Flush(); err != nil {
		h.log.Error("it could not be kept when agents were last seen", keyError, err)
	}
}

// look ends what has expired.
func (h *Hub) look() {
	now := h.now()
	for _, m := range h.all() {
		if m.isDue(now) {
			m.revise()
		}
	}
}

// member is the agent of a key, or nil: it is none any more, or Run does not run. It is made when it is asked for first.
func (h *Hub) member(key tunnel.Key) *member {
	h.mu.Lock()
	m := h.members[key]
	if m == nil && h.start != nil {
		// Who is revoked from now on is forgotten after it was revoked.
		if rec, ok := h.o.Registry.Agent(key); ok && rec.Revoked.IsZero() {
			m = newMember(h, rec)
			h.members[key] = m
			h.start(m.run)
		}
	}
	h.mu.Unlock()
	h.renamed(key)
	return m
}

// renamed has an agent be found under the name that it has now.
func (h *Hub) renamed(key tunnel.Key) {
	h.naming.Lock()
	defer h.naming.Unlock()
	m := h.byKey(key)
	rec, ok := h.o.Registry.Agent(key)
	if m == nil || !ok || !rec.Revoked.IsZero() || m.name == rec.Name {
		return
	}
	m.far.Rename("agent "+rec.Name, rec.Name)
	if h.o.Nodes != nil {
		if m.name != "" {
			h.o.Nodes.Leave(m.name, m.far)
		}
		h.o.Nodes.Join(rec.Name, m.far)
	}
	m.name = rec.Name
}

// forget is the end of a member whose agent is none any more. One that was enrolled anew meanwhile begins anew.
func (h *Hub) forget(m *member) {
	h.naming.Lock()
	defer h.naming.Unlock()
	h.mu.Lock()
	if h.members[m.key] != m {
		h.mu.Unlock()
		return
	}
	delete(h.members, m.key)
	h.mu.Unlock()
	if h.o.Nodes != nil && m.name != "" {
		h.o.Nodes.Leave(m.name, m.far)
	}
	m.stop()
}

func (h *Hub) all() []*member {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*member, 0, len(h.members))
	for _, m := range h.members {
		list = append(list, m)
	}
	return list
}

func (h *Hub) byKey(key tunnel.Key) *member {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.members[key]
}

// here reports whether an agent is there, or may come back to its session.
func (h *Hub) here(key tunnel.Key) bool {
	m := h.byKey(key)
	return m != nil && m.far.Session() != nil
}

// Apply replaces what the settings say. Agents that may less than before lose at once what they may not have any more.
func (h *Hub) Apply(s Settings) {
	h.mu.Lock()
	h.settings = s
	h.mu.Unlock()
	for _, m := range h.all() {
		m.revise()
	}
}

// mostAgents is how many there may be; 0 is without end.
func (h *Hub) mostAgents() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.settings.MaxAgents
}

// meant reports whether a name stands for somebody in the settings, or in forwards.
func (h *Hub) meant(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, named := h.settings.Agents[name]
	for _, l := range h.settings.Agents {
		named = named || slices.Contains(l.Reach, name)
	}
	return named || slices.Contains(h.settings.Default.Reach, name) || h.o.Meant != nil && h.o.Meant(name)
}

func (h *Hub) shared() (port uint16, name string) {
	if h.o.Shared == nil {
		return 0, ""
	}
	return h.o.Shared()
}

// limits are what the agent of a record may.
func (h *Hub) limits(rec Record) Limits {
	h.mu.Lock()
	defer h.mu.Unlock()
	if own, ok := h.settings.Agents[rec.Name]; ok {
		return own.Over(rec.Limits).Over(h.settings.Default).ordinary()
	}
	return rec.Limits.Over(h.settings.Default).ordinary()
}

// Keys of log attributes.
const (
	keyAgent     = "agent"
	keyKey       = "key"
	keyFrom      = "from"
	keyTransport = "transport"
	keyError     = "err"
)
