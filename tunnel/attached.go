package tunnel

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// The clocks of a link.
const (
	pingAfter   = 2 * time.Second // of silence
	deadAfter   = 9 * time.Second
	silentAfter = 500 * time.Millisecond // so long after PING people are told of the silence
	readiesMost = 16                     // on one link at once: each has all streams looked at
	readyPause  = time.Second            // and one more
	linksMost   = 8                      // of a session at once: one that is used, and those that are being left
	leaveTime   = 5 * time.Second        // for the other end to leave a link that this one has left
	readyTime   = 10 * time.Second       // for the other end to say what it knows,
	readyEach   = time.Millisecond       // and for each stream that there is
)

// An attached is a link that a session has.
type attached struct {
	s         *Session
	conn      Link
	first     *lane
	since     time.Time
	gone      chan struct{} // closed when all of its lanes have ended
	heard     atomic.Int64  // when something came, since the session began
	rtt       atomic.Int64
	noPackets atomic.Bool // the transport has no datagrams

	// Guarded by the session.
	round    uint64 // of what the other end is saying
	readies  int
	ready    bool // the other end has said what it knows: streams may be sent here
	left     bool // this end has said that it leaves
	theyLeft bool
	leftAt   time.Time
	closing  bool // it is closed when all has been written
	surplus  bool // it is closed because there are too many
	dead     bool
	cause    error
	pinged   time.Duration // when, since the session began; 0: not since something was heard
	lanes    int           // whose goroutines have not ended
	many     bool          // the transport has lanes for streams of their own
	accepted int           // lanes that the other end has begun
	own      map[*lane]*Stream

	detour    detour
	sider     Sider         // nil: there are no lanes beside the link
	sideAgain time.Duration // since the session began, from when on they may be tried
	sideFails int
	bringing  int
	inVain    int // lanes that an agent has brought, one after the other, and nothing came there
}

func (a *attached) hear() { a.heard.Store(int64(time.Since(a.s.began))) }

func (a *attached) heardAt() time.Time { return a.s.began.Add(time.Duration(a.heard.Load())) }

// silent is for how long nothing was heard, if the other end was asked to say something, and has had the time to; else 0. The caller holds s.mu.
func (a *attached) silent() time.Duration {
	now, heard := time.Since(a.s.began), time.Duration(a.heard.Load())
	if a.pinged <= heard || now-a.pinged < max(silentAfter, 2*a.roundTrip()) {
		return 0
	}
	return now - heard
}

// roundTrip is what the transport says, or what PING found.
func (a *attached) roundTrip() time.Duration {
	if rtt := a.conn.RTT(); rtt > 0 {
		return rtt
	}
	return time.Duration(a.rtt.Load())
}

// join has the session go on over a link, both of whose ends have said hello. rest is what was read behind that.
func (s *Session) join(l Link, first Lane, rest []byte, hello []byte) (*attached, error) {
	a, err := s.joined(l, first, rest, hello)
	if err == nil {
		level, about := s.newsOf(a)
		s.log.Log(context.Background(), level, "link joined", about...)
	}
	return a, err
}

func (s *Session) joined(l Link, first Lane, rest []byte, hello []byte) (*attached, error) {
	a := &attached{s: s, conn: l, since: time.Now(), gone: make(chan struct{}), own: map[*lane]*Stream{}, many: true}
	a.hear()
	a.first = newLane(a, first, true)
	a.sider, _ = l.(Sider)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return nil, &Error{Code: Gone}
	case !s.peer.IsZero() && s.peer != l.Peer():
		return nil, errImpostor
	}
	s.peer = l.Peer()
	if len(s.links) == 0 {
		if s.thawed || !s.lost.Equal(s.began) {
			s.resumed++
		}
		s.setState(true, "")
	}
	s.links = append([]*attached{a}, s.links...)
	for _, old := range s.links[min(linksMost, len(s.links)):] {
		if !old.surplus {
			old.surplus = true
			s.wg.Go(func() { _ = old.conn.Close() })
		}
	}
	s.round++
	a.round = s.round
	a.first.ctl = append(a.first.ctl, hello...)
	if a.sider != nil && s.o.Side == Hub {
		a.first.ctl = wire.AppendEmpty(a.first.ctl, wire.TypeMoves)
	}
	s.say(a)
	a.lanes = 2
	s.wg.Go(a.first.write)
	s.wg.Go(func() { a.first.read(rest) })
	s.attend(a)
	s.wg.Go(a.accept)
	if a.sider != nil {
		a.sider.Sides(func(conn Lane) { a.take(conn, true) })
	}
	s.wakeRun()
	return a, nil
}

// say says on a link what this end knows of streams and requests. All that is not bytes of streams is said there from now on.
func (s *Session) say(a *attached) {
	l := a.first
	s.control = l
	s.drained.Broadcast()
	for _, st := range s.streams {
		l.ctl = st.say(l.ctl)
		st.settle()
	}
	for _, q := range s.asks {
		l.ctl = append(l.ctl, q.frame...)
	}
	for _, frame := range s.replies {
		l.ctl = append(l.ctl, frame...)
	}
	l.ctl = wire.AppendEmpty(l.ctl, wire.TypeReady)
	l.ctl = wire.AppendNumber(l.ctl, wire.TypePing, uint64(time.Since(s.began)))
	for _, st := range s.waiting {
		s.number(st)
	}
	s.waiting, s.givenUp = nil, 0
	l.kick()
}

// readied is that the other end has said all: what it did not speak of is gone there, and streams go on here.
func (s *Session) readied(a *attached) {
	for _, st := range s.streams {
		if st.mentioned < a.round && !(st.ours && !st.answered) {
			st.forgotten()
		}
	}
	s.round++
	a.round = s.round
	a.ready = true
	if s.links[0] != a {
		return
	}
	s.moveAll(a.first)
	for _, old := range s.links[1:] {
		if !old.left {
			old.left, old.leftAt = true, time.Now()
			old.first.leave(Replaced, "a better link came")
			old.first.kick()
		}
	}
	s.wakeRun()
}

// moveAll has all streams go on on a lane.
func (s *Session) moveAll(to *lane) {
	for _, a := range s.links {
		a.first.brisk, a.first.bulk = laneQueue{}, laneQueue{}
	}
	for _, st := range s.streams {
		st.move(to)
	}
}

// fail ends a link. What it carried goes on over another, now or later.
func (a *attached) fail(err error) {
	s := a.s
	s.mu.Lock()
	if a.dead {
		s.mu.Unlock()
		return
	}
	a.dead, a.cause = true, err
	for i, l := range s.links {
		if l == a {
			s.links = append(s.links[:i:i], s.links[i+1:]...)
		}
	}
	s.drained.Broadcast()
	a.first.kick()
	for l := range a.own {
		l.kick()
	}
	if heard := a.heardAt(); heard.After(s.heard) {
		s.heard = heard
	}
	if len(s.links) > 0 && !a.theyLeft && !a.surplus && !s.ended {
		s.resumed++ // it was lost, and the next one was here before that was noticed
	}
	for _, st := range s.streams {
		if st.lane != nil && st.lane.link == a {
			st.leaveLane()
		}
	}
	if s.control == a.first {
		s.control = nil
		s.due.clear()
		if len(s.links) > 0 { // a newer one has died: back to the one before it
			next := s.links[0]
			s.say(next)
			if next.ready {
				s.moveAll(next.first)
			}
		}
	}
	if len(s.links) == 0 && !s.ended {
		s.lost = time.Now()
		s.setState(false, fmt.Sprintf("the link by %s to %s ended: %v", a.conn.Transport(), a.conn.Remote(), err))
	}
	s.wakeRun()
	s.mu.Unlock()
	_ = a.conn.Close()
	if !errors.Is(err, errLeft) {
		level, about := s.newsOf(a)
		s.log.Log(context.Background(), level, "link ended", append(about, "error", err)...)
	}
}

// laneEnded counts the goroutines of lanes.
func (a *attached) laneEnded() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	if a.lanes--; a.lanes == 0 {
		close(a.gone)
	}
}

var errLeft = errors.New("both ends have left it")

// tick does what is due, and says when to look again.
func (s *Session) tick() time.Duration {
	s.mu.Lock()
	now := time.Since(s.began)
	wait := time.Hour
	due := func(at time.Duration) bool {
		if at <= now {
			return true
		}
		wait = min(wait, at-now)
		return false
	}
	dead := map[*attached]error{}
	for _, a := range s.links {
		heard := time.Duration(a.heard.Load())
		if a.pinged > 0 && a.pinged <= heard {
			a.pinged = 0
		}
		switch {
		case due(heard + deadAfter):
			dead[a] = errSilent
		case a.pinged == 0 && due(heard+pingAfter):
			a.pinged = now
			a.first.ctl = wire.AppendNumber(a.first.ctl, wire.TypePing, uint64(now))
			a.first.kick()
			wait = min(wait, pingAfter) // when it was answered, the next one is due
		case a.left && due(a.leftAt.Add(leaveTime).Sub(s.began)):
			a.closing = true
			a.first.kick()
		}
		switch {
		case a.left && due(a.leftAt.Add(leaveTime+goodbyeTime).Sub(s.began)): // what is written does not get there
			dead[a] = errLeft
		case !a.ready && due(a.since.Add(readyTime+time.Duration(len(s.streams))*readyEach).Sub(s.began)):
			dead[a] = errUnready
		}
		due(heard + deadAfter)
		wait = min(wait, a.comeBack(now))
	}
	wait = min(wait, s.poller.look(now), s.tidy(now))
	tooLong := len(s.links) == 0 && due(s.lost.Add(s.keep).Sub(s.began))
	s.unlock()
	for a, err := range dead {
		a.fail(err)
	}
	if tooLong {
		s.end(Timeout, fmt.Sprintf("there was no link for %v", s.keep), false)
	}
	return max(wait, time.Millisecond)
}
