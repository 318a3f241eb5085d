// Package relay is the carrier that moves the bytes itself: TCP and unix streams, UDP flows, limits, the PROXY protocol.
//
// It is given the forwards to carry and the nodes to carry them with, and reports how they are doing. Which forwards it
// gets, when they expire and who may change them is decided elsewhere; nothing here reads a configuration, and no socket
// is opened but through a node.
//
//	Apply ─► task (a forward: limits, totals) ◄── match ── listener (a place) ◄── clients
//	             └─► session: stream (copy.go) or flow (flow.go) ──► target
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/wake"
)

// Keys of log attributes.
const (
	keyForward = "forward"
	keyListen  = "listen"
	keyClient  = "client"
	keyTarget  = "target"
	keyState   = "state"
	keyCount   = "count"
	keyError   = "err"
)

// flowCheck is how often idle flows are looked for; they may live that much longer than they should.
const flowCheck = time.Second

// ErrNoSession is the answer to Kill for a session that is not, or no longer, there.
var ErrNoSession = errors.New("no such session")

// Options are what a Relay needs.
type Options struct {
	Log *slog.Logger // nil: nothing is logged
	// Nodes finds a node by its name. It is asked for every session, so it must not block; an error is the reason why a
	// forward fails or a session is refused.
	Nodes func(name string) (node.Node, error)
	// Transparent lets targets see their clients' own addresses; nil: forwards with source = "keep" fail.
	Transparent Transparent
	// Doorman lets data connections of FTP in; nil: nothing of this host is in their way.
	Doorman Doorman
	// Portable leaves the engine out, where there is one: connections are copied as on the other systems.
	Portable bool
	// Heads makes the heads of dynamic forwards; nil: there are none, and such forwards fail.
	Heads Heads
	// Login checks a name and a password for a dynamic forward, whose Users are those who may log in to it. It takes longer the
	// more often a source was wrong. nil: nobody may.
	Login Login
	// Sites makes the sites of forwards with names; nil: certificates are read from files alone.
	Sites Sites
	// Handover is what the process before this one has left, nil if there was none. The first Apply takes it over.
	Handover *Handover
	// Patient is that not all forwards come with the first Apply: what of Handover is another's is kept until LetGo.
	Patient bool
	// NodesLeave is what nodes do when the relay leaves.
	NodesLeave NodesLeave
}

// NodesLeave is what is called when the relay leaves, before it writes down what it leaves: see Leave.
type NodesLeave struct {
	Quiet  func() // nobody is to come any more by listeners of nodes; who has come is served. nil: nobody cares
	Freeze func() // what nodes carry is frozen: see node.Lasting. nil: none is
}

// A Relay carries forwards in user space. Its methods may be called from anywhere.
type Relay struct {
	log      *slog.Logger
	nodes    func(name string) (node.Node, error)
	began    time.Time
	nextID   atomic.Uint64
	heads    Heads
	login    Login
	makeSite Sites
	sites    siteServer
	own      ownAddresses
	pause    pause
	buffers  buffers
	data     dataPorts
	loops    loops          // of the engine
	magic    magicSender    // of wakers
	wg       sync.WaitGroup // listeners, sessions, questions to targets

	nodesLeave NodesLeave
	leaving    atomic.Bool // see Leave
	left       atomic.Pointer[Handover]
	inherited  inherited    // guarded by applyMu
	slow       atomic.Int64 // clients that are on their way to a target, and cannot be handed over before they are there
	leading    atomic.Int64 // clients that wait for a node's answer, and that the node gives back when it leaves
	unanswered unanswered   // those that it gave back

	names     chan struct{} // capacity 1: there may be a name to look up
	asking    chan struct{} // holds one for every target that is being asked how it is
	held      atomic.Int64  // descriptors of sessions: two a stream, one a flow
	listening atomic.Int64  // descriptors of listeners
	anyBroken atomic.Bool   // some listener has ended by itself since the last Apply

	applyMu sync.Mutex      // one Apply at a time
	ended   bool            // guarded by applyMu: Run is over, nothing may start
	keep    keeper          // guarded by applyMu
	want    forward.List    // of the last Apply; guarded by applyMu
	idle    map[string]bool // forwards of it that do not listen; guarded by applyMu

	// Written under applyMu and mu, so that either is enough for reading.
	mu     sync.RWMutex
	index  forward.Index
	tasks  map[string]*task
	owners map[*forward.Forward]*task // of what is in the index
	places map[place]*listener
}

// New returns a Relay that carries nothing yet.
func New(o Options) *Relay {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{
		log: o.Log, nodes: o.Nodes, heads: o.Heads, login: o.Login, makeSite: o.Sites, loops: loops{off: o.Portable}, inherited: inherit(o.Handover, o.Patient), nodesLeave: o.NodesLeave, magic: wake.Send, keep: keeper{transparent: o.Transparent},
		began: time.Now(), names: make(chan struct{}, 1),
		asking: make(chan struct{}, maxAsking), tasks: map[string]*task{}, idle: map[string]bool{}, owners: map[*forward.Forward]*task{}, places: map[place]*listener{},
	}
	r.data.relay, r.data.doorman = r, o.Doorman
	if o.Handover != nil {
		r.nextID.Store(o.Handover.NextID) // before the first client: no two sessions have one number
	}
	return r
}

// Run waits until ctx is done, ends every listener and session, and returns when their goroutines have ended. Forwards
// may be applied before; afterwards every Apply fails.
func (r *Relay) Run(ctx context.Context) error {
	ticker, names := time.NewTicker(flowCheck), time.NewTimer(r.lookUpNames(ctx))
	defer ticker.Stop()
	defer names.Stop()
	for {
		select {
		case <-ticker.C:
			r.expireFlows(r.now())
			r.reviewAddresses()
		case <-names.C:
			names.Reset(r.lookUpNames(ctx))
		case <-r.names:
			names.Reset(r.lookUpNames(ctx))
		case <-ctx.Done():
			if r.leaving.Load() {
				r.leave()
			} else {
				r.shutDown()
			}
			r.wg.Wait()
			r.loops.stop()
			return nil
		}
	}
}

func (r *Relay) shutDown() {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	r.ended = true
	r.sites.close()
	r.mu.Lock()
	r.index, r.owners = forward.Index{}, nil // who was just accepted finds no forward
	for _, l := range r.places {
		l.users, l.blame = nil, nil
	}
	r.mu.Unlock()
	for _, l := range r.places {
		l.close()
	}
	for _, t := range r.tasks {
		for _, l := range t.remove() {
			l.kill()
		}
	}
}

// Stats is how every forward is doing that the last Apply named, the failed ones included.
func (r *Relay) Stats() map[string]forward.Stats {
	paused := r.pause.current()
	stats := make(map[string]forward.Stats)
	for _, t := range r.allTasks() {
		s := t.stats()
		var note string
		if s.Waiting, note = r.waiting(t.wanted()); note != "" {
			s.Note = note
		}
		if paused != "" {
			s.Note = paused
		}
		stats[t.name] = s
	}
	return stats
}

// Sessions lists what is live, in no order. It never fails: the error is there for callers that ask any carrier.
func (r *Relay) Sessions() ([]forward.Session, error) {
	var list []forward.Session
	for _, t := range r.allTasks() {
		list = t.appendSessions(list)
	}
	return list, nil
}

// Kill ends one session abruptly, or returns an error that is ErrNoSession.
func (r *Relay) Kill(id string) error {
	if n, ok := parseID(id); ok {
		for _, t := range r.allTasks() {
			if l := t.session(n); l != nil {
				l.kill()
				return nil
			}
		}
	}
	return fmt.Errorf("%q: %w", id, ErrNoSession)
}

func (r *Relay) allTasks() []*task {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*task, 0, len(r.tasks))
	for _, t := range r.tasks {
		all = append(all, t)
	}
	return all
}

func (r *Relay) expireFlows(now int64) {
	r.mu.RLock()
	var sockets []*packetListener
	for _, l := range r.places {
		if l.packets != nil {
			sockets = append(sockets, l.packets)
		}
	}
	r.mu.RUnlock()
	for _, p := range sockets {
		p.expire(now)
	}
}

// now is the time since the relay began, in nanoseconds.
func (r *Relay) now() int64 { return int64(time.Since(r.began)) }

// noteDial counts a client whose target could not be reached.
func (r *Relay) noteDial(t *task, err error) {
	if isScarce(err) && r.pause.begin(err) {
		r.log.Warn("accepting is paused", keyForward, t.name, keyError, err)
	}
	t.unreachable(err)
}
