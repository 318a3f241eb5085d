package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A member is an enrolled agent, there or not. What it may is asked of it at every call, under the key that its links have proven.
type member struct {
	hub    *Hub
	key    tunnel.Key
	far    *agent.Far
	in     agent.Bucket // bytes from the agent
	out    agent.Bucket
	dials  *agent.Dialler
	ended  chan struct{}
	ending sync.Once
	name   string // by which forwards find it; guarded by Hub.naming

	sessions atomic.Int64 // streams and flows
	joining  sync.Mutex   // one link at a time

	mu     sync.Mutex
	id     tunnel.ID // of the session
	before tunnel.ID // of the one that this one has ended
	expiry *time.Timer
	until  time.Time // when all that it may expires; zero: never
	told   agent.Told
	lets   debt // places that it had opened
}

var (
	_ agent.Judge    = (*member)(nil)
	_ agent.Landlord = (*member)(nil)
	_ agent.Gate     = (*member)(nil)
)

func newMember(h *Hub, rec Record) *member {
	m := &member{hub: h, key: rec.Key, ended: make(chan struct{})}
	m.dials = &agent.Dialler{
		Rules:   func(tunnel.Call) []forward.Rule { return m.limitsOrNone().Targets },
		Connect: h.o.Dial, Lookup: h.o.Lookup,
	}
	m.far = agent.New(agent.Options{
		Name: "agent " + rec.Name, Log: h.log, Judge: m, Landlord: m, Forwards: h.o.Forwards, Key: rec.Name, Gate: m, Linger: h.o.Linger,
	})
	return m
}

// run has the agent's sessions live until ctx ends, or it is an agent no longer.
func (m *member) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var far sync.WaitGroup
	far.Go(func() { _ = m.far.Run(ctx) })
	select {
	case <-m.ended:
	case <-ctx.Done():
	}
	m.mu.Lock()
	if m.expiry != nil {
		m.expiry.Stop()
	}
	m.mu.Unlock()
	cancel()
	far.Wait()
}

// stop is that it is an agent no longer.
func (m *member) stop() { m.ending.Do(func() { close(m.ended) }) }

// What an agent may not be.
var (
	errRevoked = errors.New("the agent was revoked; enrol it again with a new join token")
	errExpired = errors.New("what the agent may has expired")
)

// record is what is known of the agent now.
func (m *member) record() (Record, error) {
	rec, ok := m.hub.o.Registry.Agent(m.key)
	if !ok || !rec.Revoked.IsZero() {
		return rec, fmt.Errorf("%w: %w", node.ErrRefused, errRevoked)
	}
	return rec, nil
}

// limits are what the agent may now.
func (m *member) limits() (Record, Limits, error) {
	rec, err := m.record()
	if err != nil {
		return rec, Limits{}, err
	}
	l := m.hub.limits(rec)
	if l.expired(m.hub.now()) {
		return rec, Limits{}, fmt.Errorf("%w: %w", node.ErrRefused, errExpired)
	}
	return rec, l, nil
}

func (m *member) limitsOrNone() Limits {
	_, l, _ := m.limits()
	return l
}

// Enter lets one more stream or flow of the agent's pass.
func (m *member) Enter(tunnel.Call) (agent.Pass, error) {
	_, l, err := m.limits()
	if err != nil {
		return agent.Pass{}, err
	}
	if m.sessions.Add(1) > int64(l.Sessions) {
		m.sessions.Add(-1)
		return agent.Pass{}, &tunnel.Error{Code: tunnel.TooMany, Text: fmt.Sprintf("the agent has %d sessions, which is the most", l.Sessions)}
	}
	return agent.Pass{Out: &m.out, In: &m.in, Leave: m.leave}, nil // without a limit at the moment, perhaps
}

func (m *member) leave() { m.sessions.Add(-1) }

// Dial connects for the agent: from here, or from another agent that it may reach.
func (m *member) Dial(ctx context.Context, c tunnel.Call) (net.Conn, error) {
	rec, l, err := m.limits()
	if err != nil {
		return nil, err
	}
	if c.Agent == "" {
		if m.hub.o.Dial == nil {
			return nil, fmt.Errorf("%w: this hub dials for nobody", node.ErrUnfit)
		}
		return m.dials.Dial(ctx, c)
	}
	other, err := m.reach(l, c.Agent)
	if err != nil {
		return nil, err
	}
	// Nothing else that the one agent said is passed on to the other: what it says of clients is its word alone.
	conn, err := other.far.Call(ctx, tunnel.Call{Kind: tunnel.Dial, Network: c.Network, Address: c.Address, Agent: rec.Name})
	if err != nil {
		return nil, saidBy(c.Agent, err)
	}
	return conn, nil
}

// saidBy is an error of another agent's, for the one that has called it: else it looks as if the hub had said so.
func saidBy(name string, err error) error {
	var said *tunnel.Error
	if !errors.As(err, &said) {
		return err
	}
	text := fmt.Sprintf("the agent %s says: %v", name, said)
	if said.Code == tunnel.Refused {
		text += " (by `allow` in its [agent])"
	}
	return &tunnel.Error{Code: said.Code, Text: text}
}

// reach finds another agent, if l permits to reach it.
func (m *member) reach(l Limits, name string) (*member, error) {
	refused := fmt.Errorf("%w: to reach the agent %.40q is not permitted", node.ErrRefused, name)
	rec, ok := m.hub.o.Registry.Named(name)
	switch {
	case !l.mayReach(name):
		return nil, refused
	case !ok: // that there is none is told to those alone who may reach it
		return nil, fmt.Errorf("%w: there is no agent %.40q", node.ErrRefused, name)
	}
	if other := m.hub.byKey(rec.Key); other != nil {
		return other, nil
	}
	return nil, refused
}

// Still says whether what was dialled is still permitted.
func (m *member) Still(c tunnel.Call, to net.Addr) error {
	_, l, err := m.limits()
	switch {
	case err != nil:
		return err
	case c.Agent != "":
		_, err = m.reach(l, c.Agent)
		return err
	}
	return m.dials.Still(c, to)
}

// Permit says whether the agent may have a place.
func (m *member) Permit(at forward.Door) error {
	_, l, err := m.limits()
	if err != nil {
		return err
	}
	return m.may(l, at)
}

// may says why a place is not to be had by l, or nothing.
func (m *member) may(l Limits, at forward.Door) error {
	own, name := m.hub.shared()
	if slices.ContainsFunc(at.Hosts, func(host string) bool { return name != "" && host == name }) {
		return fmt.Errorf("the name %s is the hub's own", name)
	}
	return l.mayListen(at, own)
}

// Ports that are picked are looked for here first: Linux does not use them for connections (ip_local_port_range, 32768 to 60999).
const (
	pickFirst = 20_000
	pickLast  = 32_767
	pickTries = 16
)

// Places are where the agent may have somebody listen for what it asked.
func (m *member) Places(asked forward.Door, prefer uint16, have int) ([]forward.Door, error) {
	_, l, err := m.limits()
	if err != nil {
		return nil, err
	}
	if have >= l.Forwards {
		return nil, &tunnel.Error{Code: tunnel.TooMany, Text: fmt.Sprintf("the agent has %d forwards, which is the most", have)}
	}
	if err := m.may(l, asked); err != nil {
		return nil, fmt.Errorf("%w: %w", node.ErrRefused, err)
	}
	if firstPort(asked.Listen) != 0 {
		return []forward.Door{asked}, nil
	}
	at := func(port uint16) forward.Door {
		return claim{Network: asked.Networks, Addr: asked.Addr, Port: port}.door()
	}
	var tries []forward.Door
	if prefer != 0 && m.may(l, at(prefer)) == nil {
		tries = append(tries, at(prefer))
	}
	for _, had := range m.hub.o.Registry.picks(m.key, asked) { // by an earlier process of the agent's
		if len(tries) < pickTries && m.may(l, had) == nil {
			tries = append(tries, had)
		}
	}
	for range pickTries {
		tries = append(tries, at(pick(l.Ports)))
	}
	return tries, nil
}

// pick is a port of those, and one that connections do not use, if there is any.
func pick(ports []forward.Range) uint16 {
	var good []forward.Range
	for _, r := range ports {
		if first, last := max(r.First, pickFirst), min(r.Last, pickLast); first <= last {
			good = append(good, forward.Range{First: first, Last: last})
		}
	}
	if len(good) == 0 {
		good = ports
	}
	n := 0
	for _, r := range good {
		n += r.Count()
	}
	n = rand.IntN(max(n, 1))
	for _, r := range good {
		if n < r.Count() {
			return r.First + uint16(n)
		}
		n -= r.Count()
	}
	return 0
}

// Let makes a place the agent's own. Nothing is written before somebody listens there.
func (m *member) Let(at forward.Door, picked bool) (func(listens bool), error) {
	_, l, err := m.limits()
	if err != nil {
		return nil, err
	}
	m.breathe(l.Forwards)
	registry := m.hub.o.Registry
	fresh, err := registry.Reserve(m.key, at, m.hub.here, m.hub.now())
	if err != nil {
		return nil, err
	}
	return func(listens bool) {
		switch {
		case !listens && fresh:
			registry.Release(m.key, at)
		case !listens: // it was the agent's before, and stays so
		default:
			if err := registry.Keep(m.key, at, picked, l.Forwards, m.far.Places()); err != nil && !errors.Is(err, ErrNoAgent) {
				m.hub.log.Error("a place is not kept for its agent beyond this run", keyError, err)
			}
		}
	}, nil
}

// How often an agent may have a place opened: as many as it may have, twice, and then one more every letEvery.
const letEvery = 50 * time.Millisecond

// breathe waits until the agent may have one more place opened. Requests of one agent are done one after the other, so nobody else waits.
func (m *member) breathe(forwards int) {
	now := m.hub.now()
	m.mu.Lock()
	m.lets.settle(now, letEvery)
	m.lets.owed++
	wait := time.Duration(m.lets.owed-2*forwards) * letEvery
	m.mu.Unlock()
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.ended:
	}
}

// Free gives a place back.
func (m *member) Free(at forward.Door) {
	if err := m.hub.o.Registry.Unclaim(m.key, at); err != nil {
		m.hub.log.Error("a place was not given back", keyError, err)
	}
}

// revise looks again at all that the agent has, and tells it what has changed.
func (m *member) revise() {
	rec, l, err := m.limits()
	if err != nil {
		if errors.Is(err, errExpired) {
			m.mu.Lock()
			m.until = time.Time{}
			m.mu.Unlock()
			m.end(tunnel.Revoked, errExpired)
		}
		return
	}
	m.in.Set(l.Bandwidth)
	m.out.Set(l.Bandwidth)
	m.far.Revise()
	told := agent.Told{Name: rec.Name, May: l.words()}
	m.mu.Lock()
	changed := told.Name != m.told.Name || !slices.Equal(told.May, m.told.May)
	m.told = told
	if m.expiry != nil {
		m.expiry.Stop()
		m.expiry = nil
	}
	if m.until = l.Expires; !l.Expires.IsZero() {
		m.expiry = time.AfterFunc(l.Expires.Sub(m.hub.now()), m.revise)
	}
	m.mu.Unlock()
	if changed {
		m.far.Tell(told)
	}
}

// isDue reports whether what the agent may has expired, and nobody has seen to it.
func (m *member) isDue(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return (Limits{Expires: m.until}).expired(now)
}

// end ends the session that the agent has, and all that is in it.
func (m *member) end(code tunnel.Code, why error) {
	if s := m.far.Session(); s != nil {
		s.End(code, why.Error())
	}
	m.far.Revise()
}

// refusedMost is how many streams a session may have that were refused, while the agent has not said that it knows.
const refusedMost = 4 << 10

// options are those of the agent's next session, which has room for as many streams as the agent may have.
func (m *member) options() tunnel.Options {
	o := m.hub.o.Tunnel
	o.Resume = m.hub.o.Resume
	if rec, err := m.record(); err == nil && o.Streams == 0 {
		o.Streams = max(m.hub.limits(rec).Sessions, ordinarySessions) + refusedMost
	}
	return o
}
