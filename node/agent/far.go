package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// Options are what a Far is made of.
type Options struct {
	Name string       // of the other end, in errors and logs: "agent pi"; Rename changes it
	Log  *slog.Logger // nil: none

	Judge    Judge         // what the other end may have dialled here; nil: nothing
	Landlord Landlord      // what it may have listened for here; nil: nothing
	Forwards node.Forwards // who listens for it; nil: nobody
	Key      string        // says who asks when Forwards is called; Rename changes it
	Gate     Gate          // nil: everybody may pass
	// Linger is how long what it had listened for stays open after its session has ended, for the next one to take over; 0 is 30 s.
	Linger time.Duration
	Told   func(Told) // what a hub tells; nil: nobody listens
}

// A Judge says what the other end may have dialled. It is asked at each call.
type Judge interface {
	// Dial connects, if that is permitted. The error is node.ErrRefused, node.ErrUnfit, an *tunnel.Error, or why the target cannot be
	// reached.
	Dial(ctx context.Context, c tunnel.Call) (net.Conn, error)
	// Still says why a connection that Dial made is no longer permitted, or nothing. It must not wait.
	Still(c tunnel.Call, to net.Addr) error
}

// A Landlord says at which places the other end may have somebody listen.
type Landlord interface {
	// Permit says why a place is not to be had, or nothing. It must not wait.
	Permit(at forward.Door) error
	// Places are what to try for a place that was asked for, one after the other. Of one with port 0 they are whatever may be picked;
	// prefer is the port that was picked before, or 0. have is how many the other end has already.
	Places(asked forward.Door, prefer uint16, have int) ([]forward.Door, error)
	// Let makes a place the other end's own before somebody listens there. listening is then told whether somebody does.
	Let(at forward.Door, picked bool) (listening func(bool), err error)
	// Free is the opposite: it is not wanted any more.
	Free(at forward.Door)
}

// A Gate has a say in every stream and flow, whoever opens it.
type Gate interface {
	Enter(c tunnel.Call) (Pass, error)
}

// A Pass is what one stream or flow is held to.
type Pass struct {
	Out, In node.Limit // bytes to the other end, and from it; nil is none
	Leave   func()     // called once, at its end; nil is nobody
}

func (p Pass) leave() {
	if p.Leave != nil {
		p.Leave()
	}
}

// A Far is the other end of sessions, of which there is one at a time, as a node of this end. It is of use while Run runs; Dial and what
// Listen returns wait while there is no session.
type Far struct {
	o   Options
	log *slog.Logger

	mu      sync.Mutex
	start   func(func(context.Context)) // has Run run something; nil: it does not run
	ended   bool
	frozen  bool                    // another process goes on with it; no session begins
	quiet   bool                    // nothing that the other end opens is looked at any more
	begun   []func(context.Context) // before Run
	session *session                // nil: there is none
	changed chan struct{}           // closed and replaced when session changes
	state   node.State              // while there is no session

	called called

	asked listeners
	desk  desk
	trips trips
	tell  tell
	news  news
}

// called is how the other end is called now.
type called struct{ name, key string }

// A session is one of a Far's.
type session struct {
	*tunnel.Session
	over chan struct{} // closed when it is no longer the Far's
}

var (
	_ node.Node             = (*Far)(nil)
	_ node.PacketNode       = (*Far)(nil)
	_ node.Introducer       = (*Far)(nil)
	_ node.PacketIntroducer = (*Far)(nil)
	_ node.Stated           = (*Far)(nil)
)

// Caps is what the node at the other end can do.
func Caps() node.Caps { return node.Caps{Packets: true} }

// New returns a node that has no session.
func New(o Options) *Far {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o.Name = cmp.Or(o.Name, "the other end")
	o.Linger = cmp.Or(o.Linger, 30*time.Second)
	f := &Far{o: o, log: log, changed: make(chan struct{}), state: node.State{Why: o.Name + " has not come yet", Since: time.Now()}}
	f.called = called{o.Name, o.Key}
	f.asked.byID = map[uint64]*asking{}
	return f
}

// Run lets sessions live until ctx ends, and returns when they have ended, with all that was opened in them. It is called once.
func (f *Far) Run(ctx context.Context) error {
	var group sync.WaitGroup
	f.mu.Lock()
	if f.start != nil || f.ended {
		f.mu.Unlock()
		return errors.New("a node of a tunnel runs once")
	}
	f.start = func(fn func(context.Context)) { group.Go(func() { fn(ctx) }) }
	for _, fn := range f.begun {
		f.start(fn)
	}
	f.begun = nil
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.ended, f.start = true, nil
	f.state = node.State{Why: node.ErrClosed.Error(), Since: time.Now()}
	f.changedLocked()
	f.mu.Unlock()
	f.asked.end()
	group.Wait()
	f.desk.end(context.WithoutCancel(ctx), f)
	return ctx.Err()
}

// later has Run run something, now or when it begins. False: Run has ended.
func (f *Far) later(fn func(context.Context)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended:
		return false
	case f.start == nil:
		f.begun = append(f.begun, fn)
	default:
		f.start(fn)
	}
	return true
}

// Begin begins a session, which ends the one that there was. What that had listened for is kept for the new one to ask for again.
func (f *Far) Begin(o tunnel.Options) *tunnel.Session {
	h := &handler{far: f}
	o.Handler, o.Log = h, f.log
	s := &session{tunnel.New(o), make(chan struct{})}
	h.session = s
	f.mu.Lock()
	if f.frozen {
		f.mu.Unlock()
		s.End(tunnel.Shutdown, "another process goes on")
		return s.Session
	}
	old := f.session
	f.session = s
	if old != nil {
		close(old.over)
	}
	f.changedLocked()
	f.mu.Unlock()
	if old != nil {
		old.End(tunnel.Busy, "a new session has begun") // Replaced would be about the link
	}
	f.desk.orphaned(f)
	if !f.later(func(ctx context.Context) { f.live(ctx, s) }) {
		s.End(tunnel.Shutdown, node.ErrClosed.Error())
	}
	return s.Session
}

// live has a session live to its end.
func (f *Far) live(ctx context.Context, s *session) {
	err := s.Run(ctx)
	f.mu.Lock()
	if f.session != s {
		f.mu.Unlock()
		return
	}
	f.session = nil
	close(s.over)
	why := f.called.name + " is away"
	if err != nil && ctx.Err() == nil {
		why += ": " + clean(err.Error())
	}
	f.state = node.State{Why: why, Since: time.Now()}
	f.changedLocked()
	f.mu.Unlock()
	f.desk.orphaned(f)
}

// Session is the one that there is now, or nil.
func (f *Far) Session() *tunnel.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == nil {
		return nil
	}
	return f.session.Session
}

func (f *Far) changedLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// current is the session that there is now, or nil.
func (f *Far) current() *session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session
}

// acquire waits for a session.
func (f *Far) acquire(ctx context.Context) (*session, error) {
	for {
		f.mu.Lock()
		s, changed, ended, why := f.session, f.changed, f.ended, f.state.Why
		f.mu.Unlock()
		switch {
		case ended:
			return nil, fmt.Errorf("%s: %w", f.name(), node.ErrClosed)
		case s != nil:
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %s: %w", node.ErrAway, why, ctx.Err())
		}
	}
}

// State says whether there is a session that has a link.
func (f *Far) State() node.State {
	f.mu.Lock()
	s, state := f.session, f.state
	f.mu.Unlock()
	if s == nil {
		return state
	}
	if state = s.State(); !state.Up {
		state.Why = f.name() + ": " + clean(state.Why)
	}
	return state
}

// Revise looks again at all that the other end has here, after what it may has changed: what is no longer permitted ends.
func (f *Far) Revise() {
	f.trips.revise(f.o.Judge)
	f.later(func(ctx context.Context) { f.desk.revise(ctx, f) })
}

// Listens is how many places are listened at here for the other end.
func (f *Far) Listens() int { return f.desk.count() }

// Places are those.
func (f *Far) Places() []forward.Door { return f.desk.list() }

// Rename changes what the other end is called: see Options.
func (f *Far) Rename(name, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.called = called{name, key}
}

func (f *Far) name() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.called.name
}

func (f *Far) key() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.called.key
}
