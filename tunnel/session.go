package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// What Options are when they say nothing.
const (
	resumeTime   = 5 * time.Minute
	windowMost   = 4 << 20
	streamsMost  = 1 << 16
	memoryMost   = 64 << 20
	requestsMost = 256 // that may be under way, of each end's
)

// A Session is made with New. All its methods may be called from anywhere.
//
//	without a link ◄──────── the last link dies ─────────┐
//	      │                                              │
//	      ├─ Attach, Join ─► joining ── READY came ─► in use ── a newer one is ready ─► left
//	      └─ too long: ended
type Session struct {
	o        Options
	log      *slog.Logger
	handling sync.Mutex    // the handler's methods are called one after the other
	done     chan struct{} // closed when the session has ended
	stopped  chan struct{} // closed when Run has ended all that was started
	poke     chan struct{} // Run looks at its clocks again
	began    time.Time
	wg       sync.WaitGroup

	mu       sync.Mutex
	streams  map[uint64]*Stream
	waiting  []*Stream // to be opened; there was no link yet to say so on
	givenUp  int       // of them
	next     uint64    // of the streams of this end
	theirs   seen      // streams of the other end's, by half their number
	foreign  int       // how many of them there are
	flows    int
	asks     map[uint64]*ask
	nextAsk  uint64
	asked    seen
	replies  map[uint64][]byte // frames that the other end may not have; nil: the handler has yet to reply
	links    []*attached       // the newest comes first
	control  *lane             // where what is no stream's bytes is said; nil: there is no link
	round    uint64            // counts what is said when a link joins, see Stream.mentioned
	due      dueList
	ackTimer *time.Timer
	ackSet   bool
	peer     Key
	keep     time.Duration
	lost     time.Time // since when there is no link
	state    node.State
	changed  chan struct{}
	ended    bool
	frozen   bool // it goes on in another process
	thawed   bool // and has begun in an earlier one
	cause    error
	held     int // bytes of streams that the other end may not have
	grown    int // by how much windows were made larger, together
	in, out  uint64
	resumed  int
	heard    time.Time // of links that are gone
	tidied   time.Duration
	poller   *poller
	after    []func()   // to be called when the lock is free, see unlock
	drained  *sync.Cond // answers have been written, or will not be
	accepted int        // lanes that the other end has begun, of all links
	kept     int        // bytes of datagrams that nobody has read
	news     news
}

// New makes a session that has no link yet.
func New(o Options) *Session {
	if o.Resume == 0 {
		o.Resume = resumeTime
	}
	if o.Window == 0 {
		o.Window = windowMost
	}
	if o.Streams == 0 {
		o.Streams = streamsMost
	}
	if o.Memory == 0 {
		o.Memory = memoryMost
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	now := time.Now()
	s := &Session{
		o: o, log: o.Log, done: make(chan struct{}), stopped: make(chan struct{}), poke: make(chan struct{}, 1), began: now, lost: now, heard: now,
		streams: map[uint64]*Stream{}, asks: map[uint64]*ask{}, replies: map[uint64][]byte{}, nextAsk: 1,
		keep: o.Resume, state: node.State{Why: "no link has come yet", Since: now}, changed: make(chan struct{}),
	}
	s.drained = sync.NewCond(&s.mu)
	s.next = 1
	if o.Side == Hub {
		s.next = 2
	}
	return s
}

// Run has the session live until ctx ends, End is called, or it was without a link for too long. It returns when everything that it
// started has ended, and all its links are closed.
func (s *Session) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for running := true; running; {
		select {
		case <-ctx.Done():
			s.stop()
			running = false
		case <-s.done:
			running = false
		case <-s.poke:
			timer.Reset(s.tick())
		case <-timer.C:
			timer.Reset(s.tick())
		}
	}
	s.shut()
	s.mu.Lock()
	if s.poller != nil {
		if !s.frozen {
			for _, b := range s.poller.all() {
				b.end()
			}
		}
		s.poller.stop()
	}
	s.unlock()
	s.wg.Wait()
	close(s.stopped)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.cause
}

// stop ends the session because this process does. An agent's will not be back, and says so.
func (s *Session) stop() {
	if s.o.Side == Hub {
		s.End(Shutdown, "the hub was stopped")
	} else {
		s.End(Gone, "the agent was stopped")
	}
}

// goodbyeTime is how long a link may take to say that it is left.
const goodbyeTime = time.Second

// shut closes all links, after what they have to say.
func (s *Session) shut() {
	s.mu.Lock()
	links := append([]*attached(nil), s.links...)
	if s.ackTimer != nil {
		s.ackTimer.Stop()
	}
	s.mu.Unlock()
	if len(links) == 0 {
		return
	}
	force := time.AfterFunc(goodbyeTime, func() {
		for _, a := range links {
			_ = a.conn.Close()
		}
	})
	defer force.Stop()
	for _, a := range links {
		<-a.gone
	}
}

// End ends the session at once: the other end is told, streams are reset.
func (s *Session) End(code Code, text string) { s.end(code, text, true) }

func (s *Session) end(code Code, text string, tell bool) {
	s.mu.Lock()
	defer s.unlock()
	if s.ended {
		return
	}
	s.ended = true
	s.cause = &Error{Code: code, Text: text}
	s.setState(false, s.cause.Error())
	for _, a := range s.links {
		a.closing = true
		if tell {
			a.first.leave(code, text)
		}
		a.first.kick()
	}
	for _, st := range s.streams {
		st.fail(errEnded)
	}
	for _, st := range s.waiting {
		st.fail(errEnded)
	}
	s.waiting = nil
	for _, q := range s.asks {
		q.finish(nil, errEnded)
	}
	close(s.done)
}

// State says whether there is a link now, and since when; Why is why the last one ended, or that nothing is heard on the one that there is.
func (s *Session) State() node.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state
	if state.Up && len(s.links) > 0 {
		if silent := s.links[0].silent(); silent > 0 {
			state.Why = fmt.Sprintf("silent for %v", silent.Round(time.Second))
		}
	}
	return state
}

// Changed is closed when State has changed since it was called.
func (s *Session) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Session) setState(up bool, why string) {
	s.state = node.State{Up: up, Why: why, Since: time.Now()}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Status is how a session is doing.
type Status struct {
	ID        ID
	Links     []LinkStatus // the one that is used comes first
	Streams   int
	Flows     int
	In, Out   uint64 // bytes of streams and datagrams, as seen from this end
	Resumed   int    // how often a link was lost and the session went on
	LastHeard time.Time
}

// LinkStatus is how a link is doing.
type LinkStatus struct {
	Transport string
	Remote    netip.AddrPort
	RTT       time.Duration
	Since     time.Time
}

// Status may be called at any time.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		ID: s.o.ID, Streams: len(s.streams) - s.flows, Flows: s.flows, In: s.in, Out: s.out, Resumed: s.resumed, LastHeard: s.heard,
	}
	for _, a := range s.links {
		st.Links = append(st.Links, LinkStatus{a.conn.Transport(), a.conn.Remote(), a.roundTrip(), a.since})
		if heard := a.heardAt(); heard.After(st.LastHeard) {
			st.LastHeard = heard
		}
	}
	return st
}

// wakeRun has Run look at its clocks.
func (s *Session) wakeRun() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// own reports whether a number is of a stream that this end has opened.
func (s *Session) own(stream uint64) bool { return (stream&1 == 1) == (s.o.Side == Agent) }
