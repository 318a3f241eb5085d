package relay

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/vhost"
)

// maxFlows bounds the UDP flows of a forward that sets no max_connections. A datagram's sender is not proven, so anybody
// can make up clients; each costs a socket until it has been idle for long enough.
const maxFlows = 32768

// A task is one forward in the relay, by name: it outlives changes of the forward, so that totals never go backwards.
type task struct {
	name  string
	relay *Relay // which asks the targets; nil: nobody does

	// Guarded by Relay.applyMu.
	running bool    // its listeners are open and clients reach it
	places  []place // of f; none when not running

	refused  atomic.Uint64
	upload   bucket // from clients
	download bucket // to clients

	mu        sync.Mutex
	f         *forward.Forward // new sessions are carried for this one; also written under Relay.mu
	head      head.Head        // of f, where that is a dynamic forward
	site      *vhost.Site      // of f, where that has names
	gone      bool             // removed: no more sessions
	sessions  map[uint64]live
	parts     int // sessions that are a part of another one
	perSource map[netip.Addr]*source
	targets   []*target // in the order of f.To; nil where nothing depends on what is known of them
	open      int       // sessions that reached their target
	total     uint64    // ever
	in, out   uint64    // carried by sessions that have ended
	highIn    uint64    // the most that Stats has said: what TCP reports of a live session may be a little ahead of the copy
	highOut   uint64
	wakers    wakers
	heard     map[forward.Target]*atomic.Int64 // see rousing; nil without wake
	target    name
	dialNote  string // the last dial failure, until a dial succeeds
	endNote   string // why a listener ended by itself, until the next change
}

func newTask(f *forward.Forward) *task {
	t := &task{
		name: f.Name, f: f, target: nameOf(f),
		sessions: map[uint64]live{}, perSource: map[netip.Addr]*source{}, targets: targetsOf(f, nil),
	}
	for _, g := range t.targets {
		g.draining = f.Draining(g.Target)
	}
	return t
}

// The ways in which a session is not taken in.
var (
	errFull    = errors.New("a limit of the forward is reached")
	errChanged = errors.New("the forward has changed since the client was matched")
)

// enter takes in a session that was matched to f, or says why not. A session that entered must leave.
func (t *task) enter(l live, f *forward.Forward) error {
	s := l.base()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone || t.f != f {
		return errChanged
	}
	limit := f.MaxConnections
	if limit == 0 && s.network == forward.UDP {
		limit = maxFlows
	}
	full := limit > 0 && len(t.sessions)-t.parts >= limit || f.MaxPerSource > 0 && t.sessionsOf(s.client.Addr()) >= f.MaxPerSource
	switch {
	case s.whole != nil: // it counts as a part of that
		t.parts++
	case full:
		return errFull
	}
	s.task, s.f, s.head, s.kept = t, f, t.head, s.kept || keeps(f)
	s.upload.all, s.download.all = &t.upload, &t.download
	t.sessions[s.id] = l
	t.countSource(s)
	return nil
}

// reached notes that the session's target answered; from now on it counts as carried.
func (t *task) reached(s *session, target *forward.Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.carried, s.target = true, target
	t.countTarget(s)
	t.open++
	t.total++
	t.dialNote = ""
	if g := t.known(target); g != nil && s.network != forward.UDP { // a datagram's target has not answered yet
		was := g.record.State()
		g.record.Reached(time.Now())
		t.logChange(g, was)
	}
	t.target.outcome(nil)
	t.awoken(*target)
}

// resumed notes a session that has reached its target in an earlier process, which has counted it.
func (t *task) resumed(s live, target *forward.Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := s.base()
	b.carried, b.target = true, target
	t.countTarget(b)
	t.open++
}

// targetNamed is the target of f that is written like text, or a target that no forward has.
func targetNamed(f *forward.Forward, text string) *forward.Target {
	for i := range f.To {
		if f.To[i].String() == text {
			return &f.To[i]
		}
	}
	return new(forward.Target)
}

// refuse counts a client that is turned away. A client that no task is to blame for is not counted.
func (t *task) refuse() {
	if t != nil {
		t.refused.Add(1)
	}
}

func (t *task) unreachable(err error) {
	t.refused.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dialNote = err.Error()
	if dns := new(net.DNSError); t.target.host != "" && errors.As(err, &dns) {
		t.target.outcome(err)
	}
}

// leave ends what enter began.
func (t *task) leave(l live) {
	s := l.base()
	if s.whole != nil {
		defer s.whole.left(l)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sessions, s.id)
	t.leaveSource(s)
	if s.whole != nil {
		t.parts--
	} else if s.carried {
		t.open--
		if g := t.known(s.target); g != nil && g.open > 0 {
			g.open--
		}
	}
	in, out := l.bytes()
	t.in += in
	t.out += out
}

// countSource and countTarget keep what only some forwards need: limits for each client, several targets.
func (t *task) countSource(s *session) {
	addr := s.client.Addr()
	if t.f.MaxPerSource == 0 && t.f.BandwidthPerSource == 0 || !addr.IsValid() {
		s.share(nil)
		return
	}
	from := t.perSource[addr]
	if from == nil {
		from = &source{}
		from.upload.setRate(t.f.BandwidthPerSource)
		from.download.setRate(t.f.BandwidthPerSource)
		t.perSource[addr] = from
	}
	from.sessions++
	if s.whole != nil {
		from.parts++
	}
	s.share(from)
}

// sessionsOf is how many sessions a client address has, where that is counted. The caller holds t.mu.
func (t *task) sessionsOf(addr netip.Addr) int {
	if from := t.perSource[addr]; from != nil {
		return from.sessions - from.parts
	}
	return 0
}

// leaveSource takes one session from a client address, which is forgotten with its last one.
func (t *task) leaveSource(s *session) {
	addr := s.client.Addr()
	if from := t.perSource[addr]; from != nil {
		if s.whole != nil {
			from.parts--
		}
		if from.sessions--; from.sessions == 0 {
			delete(t.perSource, addr)
		}
	}
}

func (t *task) countTarget(s *session) {
	if g := t.known(s.target); g != nil {
		g.open++
	}
}

// recount counts the live sessions anew, for a forward that may need what the one before did not. The caller holds t.mu.
func (t *task) recount() {
	clear(t.perSource)
	for _, g := range t.targets {
		g.open = 0
	}
	for _, l := range t.sessions {
		s := l.base()
		t.countSource(s)
		if s.carried && s.whole == nil {
			t.countTarget(s)
		}
	}
}

// change puts f in place of what the task carried, for sessions to come.
func (t *task) change(f *forward.Forward, h head.Head, site *vhost.Site) {
	t.upload.setRate(f.Bandwidth)
	t.download.setRate(f.Bandwidth)
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := nameOf(f); n.host != t.target.host {
		t.target = n
	}
	was := t.f
	t.f, t.head, t.site, t.endNote, t.heard = f, h, site, "", nil
	t.setTargets(was, f)
	t.recount()
}

func (t *task) listenerEnded(p place, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endNote = p.String() + " ended: " + cause(err).Error()
}

// remove keeps new sessions out and returns those there are.
func (t *task) remove() []live {
	t.mu.Lock()
	t.gone = true
	for _, g := range t.targets {
		g.stop()
	}
	t.mu.Unlock()
	return t.list()
}

func (t *task) list() []live {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]live, 0, len(t.sessions))
	for _, l := range t.sessions {
		all = append(all, l)
	}
	return all
}

// stats adds what live sessions have carried to the totals. Asking them takes system calls, so that is done unlocked;
// those that end meanwhile are in the totals by the time of the second look.
func (t *task) stats() forward.Stats {
	all := t.list()
	type count struct{ in, out uint64 }
	counts := make(map[uint64]count, len(all))
	for _, l := range all {
		in, out := l.bytes()
		counts[l.base().id] = count{in, out}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	in, out := t.in, t.out
	for id := range t.sessions {
		in += counts[id].in
		out += counts[id].out
	}
	targets, note, down := t.targetStats(time.Now())
	t.highIn, t.highOut = max(t.highIn, in), max(t.highOut, out)
	return forward.Stats{
		Open: t.open, Total: t.total, Refused: t.refused.Load(), BytesIn: t.highIn, BytesOut: t.highOut,
		Note: cmp.Or(t.endNote, t.wakeNote(), note, t.dialNote), Failing: cmp.Or(t.failing(), down), Targets: targets,
	}
}

// wanted is the forward that new sessions are carried for.
func (t *task) wanted() *forward.Forward {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.f
}

// failing is why no session can be carried, as far as is known. The caller holds t.mu.
func (t *task) failing() string {
	if t.target.err == nil {
		return ""
	}
	return t.target.err.Error()
}

// appendSessions adds what is live to list.
func (t *task) appendSessions(list []forward.Session) []forward.Session {
	for _, l := range t.list() {
		s := l.base()
		in, out := l.bytes()
		t.mu.Lock()
		carried, where := s.carried, ""
		if carried {
			where = l.where()
		}
		t.mu.Unlock()
		if !carried {
			continue
		}
		network := s.network
		if network == 0 {
			network = forward.TCP // a unix stream is shown as what it is most like
		}
		list = append(list, forward.Session{
			ID: sessionID(s.id), Forward: t.name, Network: network, Client: s.clientText(), Target: where,
			Carried: forward.CarryRelay, Since: time.Unix(0, s.since), BytesIn: in + s.earlier[0], BytesOut: out + s.earlier[1],
		})
	}
	return list
}

func (t *task) session(id uint64) live {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sessions[id]
}
