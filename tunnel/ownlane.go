package tunnel

import (
	"context"
	"errors"
	"time"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// Of a transport with many lanes, a stream that sends a lot gets one of its own: what is lost there delays nobody else. Those that
// send little share the first lane, where they are no burden to each other: a lane of its own would cost each of them two goroutines.
// The lane is for one direction, and its end closes it when the stream is over.
const (
	ownAfter    = 64 << 10 // bytes that a stream has sent on the first lane,
	ownPiece    = 2 << 10  // in pieces of so many at the least: what is in small ones is no burden there
	ownMost     = 255      // lanes of a link that each end has begun, beside the first: more are not let in by QUIC
	ownOpenTime = 10 * time.Second
	ownUnready  = 16 // that the other end may have begun before its READY has come

	sideAfter     = 128 << 10        // as ownAfter, of a lane beside the link, which costs a handshake
	sideOpenTime  = 3 * time.Second  // then it is one of the link's own
	sideAgain     = 10 * time.Second // after one failed, and twice as long each time
	sideAgainMost = 10 * time.Minute
	bringMost     = 16 // that an agent makes at a time for the hub
	vainMost      = 32 // that it makes in a row without anything coming there
)

// wantOwn has a lane opened for a stream that has just sent n bytes on the first one.
func (l *lane) wantOwn(st *Stream, n int) {
	a := l.link
	if n < ownPiece {
		return
	}
	st.sentShared += n
	if !l.isOne || st.sentShared < ownAfter || st.wantsOwn || len(a.own) >= ownMost || a.s.ended {
		return
	}
	side := a.sider != nil && time.Since(a.s.began) >= a.sideAgain
	if !a.many && !side || side && st.sentShared < sideAfter {
		return
	}
	st.wantsOwn = true
	a.s.wg.Go(func() { a.openOwn(st, side) })
}

func (a *attached) openOwn(st *Stream, side bool) {
	if side {
		ctx, cancel := context.WithTimeout(context.Background(), sideOpenTime)
		conn, err := a.sider.Side(ctx, a.askSide)
		cancel()
		switch {
		case err != nil:
			a.s.log.Debug("no lane beside the link", "error", err)
			a.sideFailed(st)
		case !a.useOwn(st, conn, true, nil):
			_ = conn.Close()
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), ownOpenTime)
	defer cancel()
	conn, err := a.conn.Open(ctx)
	if !a.useOwn(st, conn, false, err) && err == nil {
		_ = conn.Close()
	}
}

// askSide asks the agent to bring a lane.
func (a *attached) askSide() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.first.ctl = wire.AppendEmpty(a.first.ctl, wire.TypeSide)
	a.first.kick()
}

// sideFailed has the link do without lanes beside it for a while.
func (a *attached) sideFailed(st *Stream) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.sideFailedLocked(st)
}

func (a *attached) sideFailedLocked(st *Stream) {
	a.sidesRest()
	st.wantsOwn = false
}

// sidesRest has lanes beside the link not be tried for a while, the longer the more often that was said. The caller holds s.mu.
func (a *attached) sidesRest() {
	a.sideAgain = time.Since(a.s.began) + min(sideAgain<<min(a.sideFails, 10), sideAgainMost)
	a.sideFails++
}

// bring makes a lane for the hub to write, as that has asked for, or tells it that there will be none. The caller holds s.mu.
func (a *attached) bring() {
	if a.s.o.Side == Hub {
		return
	}
	if a.sider == nil || a.bringing >= bringMost || time.Since(a.s.began) < a.sideAgain {
		a.bringsNone()
		return
	}
	a.bringing++
	a.s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), ownOpenTime)
		defer cancel()
		err := a.sider.Bring(ctx)
		a.s.mu.Lock()
		defer a.s.mu.Unlock()
		if a.bringing--; err != nil {
			a.s.log.Debug("no lane beside the link", "error", err)
			a.sidesRest()
			a.bringsNone()
		}
	})
}

// bringsNone answers the hub, which may not know that word and wait. The caller holds s.mu.
func (a *attached) bringsNone() { a.first.answer(wire.AppendEmpty(nil, wire.TypeNoSide)) }

// notBrought is that answer. The caller holds s.mu.
func (a *attached) notBrought() {
	if a.sider != nil && a.s.o.Side == Hub {
		a.sider.NotBrought()
	}
}

// broughtInVain is that a lane which an agent has brought has ended. A stream that is over before its lane comes is no fault of the hub's, but one that
// has lanes brought and never writes there is not to have its agent dial for ever. The caller holds s.mu.
func (a *attached) broughtInVain(vain bool) {
	switch {
	case a.s.o.Side == Hub:
	case !vain:
		a.inVain, a.sideFails = 0, 0
	default:
		if a.inVain++; a.inVain >= vainMost {
			a.inVain = 0
			a.sidesRest()
		}
	}
}

func (a *attached) useOwn(st *Stream, conn Lane, side bool, err error) bool {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, ErrOneLane):
		a.many = false
		return false
	case err != nil || a.dead || s.ended || st.over || st.err != nil || st.lane != a.first:
		return false
	}
	l := newLane(a, conn, false)
	l.side = side
	if side {
		a.sideFails = 0
		s.wg.Go(l.watchSide)
	}
	a.own[l] = st
	a.lanes++
	s.wg.Go(l.write)
	st.own = l
	st.enqueue()
	return true
}

// broke is that the other end wants no more of the lane, or that the link has died. The stream goes on on the first lane.
func (l *lane) broke() {
	_ = l.conn.Close()
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st := l.link.own[l]
	if st == nil {
		return
	}
	delete(l.link.own, l)
	l.finish()
	if st.own != l {
		return
	}
	st.own = nil // which it may not have begun to use
	if st.lane == l {
		st.lane = nil
		st.move(l.link.first)
	}
	if st.wantsOwn = true; l.side { // else not again
		l.link.sideFailedLocked(st)
	}
}

// watchSide notices that a lane beside the link has died with bytes that nobody will acknowledge, although there is nothing more to write. Nothing
// is ever read there.
func (l *lane) watchSide() {
	var b [1]byte
	_, _ = l.conn.Read(b[:])
	l.broke()
}

// finish has a lane closed when everything has been written.
func (l *lane) finish() {
	if l != nil && !l.isOne {
		l.over = true
		l.brisk, l.bulk = laneQueue{}, laneQueue{}
		l.kick()
	}
}

// accept takes in the lanes that the other end begins. The link's first lane tells when it ends.
func (a *attached) accept() {
	for {
		conn, err := a.conn.Accept(context.Background())
		if err != nil {
			return
		}
		a.take(conn, false)
	}
}

// take reads a lane, which may be beside the link.
func (a *attached) take(conn Lane, side bool) {
	s := a.s
	s.mu.Lock()
	if a.dead || s.ended || s.accepted >= ownMost*2 || !a.ready && a.accepted >= ownUnready {
		s.mu.Unlock()
		_ = conn.Close()
		return
	}
	defer s.mu.Unlock()
	a.lanes++
	a.accepted++
	s.accepted++
	l := newLane(a, conn, false)
	l.side = side
	s.wg.Go(func() {
		l.read(nil)
		_ = conn.Close()
		s.mu.Lock()
		a.accepted--
		s.accepted--
		if side {
			a.broughtInVain(!l.heard)
		}
		s.mu.Unlock()
	})
}
