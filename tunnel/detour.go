package tunnel

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// The first lane of a link by QUIC makes a detour while there is much to say in small pieces: it goes on over a connection by TCP beside the link, which costs
// both ends half of the processor time, and comes back when there is not. Each direction ends with MOVE where it was, and goes on where it is from
// then on, so that the order of all frames stays. The agent decides, and the hub follows. The link stays what it is: it says whether the other end is there, carries datagrams, and
// follows the agent to another address.
const (
	detourLook  = 256 // writes after which is looked at how long they took:
	detourFast  = detourLook * 2 * time.Millisecond
	detourSlow  = 5 * time.Second // then the lane comes back
	detourTime  = 5 * time.Second // for the connection to be there
	detourAgain = 2 * time.Second // between two, and after one that could not be made twice as long each time
	detourMost  = 10 * time.Minute
)

type detourState uint8

const (
	detourHome  detourState = iota
	detourMade              // the agent makes the connection
	detourGoing             // this end goes on there; the other one has not said so yet
	detourAway
	detourBack // this end comes back; the other one has not said so yet
)

// A detour is what one end knows of it. It is guarded by the session.
type detour struct {
	offered bool // the hub has said that it follows
	state   detourState
	conn    Lane          // beside the link; nil: none
	next    Lane          // where the writer goes on; nil: where it is
	written int           // writes since
	since   time.Duration // the session began
	again   time.Duration // from when on there may be another
	fails   int
}

// counts is that something is about to be written on the first lane. The caller holds s.mu.
func (a *attached) counts() {
	d := &a.detour
	if !d.offered {
		return
	}
	if d.written++; d.written < detourLook {
		return
	}
	now := time.Since(a.s.began)
	fast := now-d.since < detourFast && len(a.own) == 0 && a.accepted == 0 // beside what moves a lot QUIC has the shorter delays
	d.written, d.since = 0, now
	if fast && !a.dead && d.state == detourHome && a.ready && now >= d.again && a.s.links[0] == a && !a.s.ended {
		d.state = detourMade
		a.s.wg.Go(a.makeDetour)
	}
}

func (a *attached) makeDetour() {
	ctx, cancel := context.WithTimeout(context.Background(), detourTime)
	defer cancel()
	conn, err := a.sider.Detour(ctx)
	s, d := a.s, &a.detour
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && !a.dead && !s.ended && !a.left && !a.closing:
		d.conn, d.next, d.state, d.fails = conn, conn, detourGoing, 0
		a.first.kick()
		return
	case err == nil:
		_ = conn.Close()
	case errors.Is(err, ErrOneLane):
		d.offered = false
	default:
		s.log.Debug("no detour beside the link", "error", err)
	}
	d.state = detourHome
	d.again = time.Since(s.began) + min(detourAgain<<min(d.fails, 10), detourMost)
	d.fails++
}

// comeBack has an agent's lane come back when there is little to say, and reports when to look again. The caller holds s.mu.
func (a *attached) comeBack(now time.Duration) time.Duration {
	d := &a.detour
	if !d.offered || d.state != detourAway {
		return time.Hour
	}
	if wait := d.since + detourSlow - now; wait > 0 {
		return wait
	}
	d.state, d.next = detourBack, a.first.conn
	a.first.kick()
	return time.Hour
}

// moves is the writer's word that it goes on elsewhere, at the end of what it writes here. The caller holds s.mu.
func (l *lane) moves(b *batch) {
	d := &l.link.detour
	if b.next, d.next = d.next, nil; b.next == nil {
		return
	}
	aside := uint64(0)
	if b.next == d.conn {
		aside = 1
	}
	before := len(b.buf)
	b.buf = wire.AppendNumber(b.buf, wire.TypeMove, aside)
	b.size += len(b.buf) - before
}

// moved is that the writer has said so. What the hub has come back from is of no more use.
func (l *lane) moved(to Lane) {
	l.out = to
	if to == l.conn && l.s.o.Side == Hub {
		l.endDetour()
	}
}

func (l *lane) endDetour() {
	s, d := l.s, &l.link.detour
	s.mu.Lock()
	conn := d.conn
	d.conn, d.state, d.again, d.written = nil, detourHome, time.Since(s.began)+detourAgain, 0
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

// follow is where the reader goes on after MOVE.
func (l *lane) follow(aside bool) (Lane, error) {
	if l.s.o.Side == Hub {
		return l.followAgent(aside)
	}
	s, d := l.s, &l.link.detour
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case aside && d.state == detourGoing && d.next == nil:
		d.state, d.written, d.since = detourAway, 0, time.Since(s.began)
		s.wakeRun()
		return d.conn, nil
	case !aside && d.state == detourBack && d.next == nil:
		s.wg.Go(l.endDetour) // which waits for who else closes it
		return l.conn, nil
	}
	return nil, errMove
}

var errMove = error(protocolError("MOVE at the wrong time"))

func (l *lane) followAgent(aside bool) (Lane, error) {
	a, s := l.link, l.s
	s.mu.Lock()
	d := &a.detour
	state, pending := d.state, d.next != nil
	s.mu.Unlock()
	var conn Lane
	switch {
	case a.sider == nil || pending:
		return nil, errMove
	case aside && state == detourHome:
		ctx, cancel := context.WithTimeout(context.Background(), detourTime)
		defer cancel()
		var err error
		if conn, err = a.sider.Detour(ctx); err != nil {
			return nil, err
		}
	case aside || state != detourAway:
		return nil, errMove
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if aside {
		d.conn, d.next, d.state = conn, conn, detourAway
	} else {
		d.next, d.state = l.conn, detourBack
		conn = l.conn
	}
	a.first.kick()
	return conn, nil
}
