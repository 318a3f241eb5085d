package relay

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// drainTime bounds how long a reset is held back for bytes that are still on their way to the peer, who would lose them.
	drainTime = time.Second
	drainStep = 2 * time.Millisecond
)

// A half is one direction of a stream.
type half struct {
	dst, src net.Conn
	other    *half
	count    *atomic.Uint64 // bytes moved
	passedOn atomic.Bool    // src's FIN is on its way to dst
	limit    *limit
}

// An ending is how a direction ended.
type ending uint8

const (
	endedWell  ending = iota // src sent its FIN and all of it is with dst
	sourceDied               // src was reset, or cannot be read for another reason
	targetDied               // dst was reset, or cannot be written
)

// carryStream moves bytes both ways until both directions have ended, and closes both connections. This is the engine's
// seam: what it is given is two open connections, and all that it reports is in the counts of the two halves.
//
// The end of one direction (FIN) is passed on alone. A connection that dies takes the other one with it, by a reset, after
// what it had sent before has been delivered.
//
//	            src FIN: dst.CloseWrite ─────────────► this half is done; both done: Close
//	copying ──► src dies: drain dst, reset both ─────► the other half ends, too
//	            dst dies: read on from dst, what it sent last ► when both are done: drain, reset both
func carryStream(ctx context.Context, up, down *half, pool *buffers) {
	up.other, down.other = down, up
	done := make(chan ending)
	go carryDown(ctx, down, pool, done)
	first := copyHalf(ctx, up, pool)
	second := <-done
	client, target := up.src, up.dst
	if first == endedWell && second == endedWell {
		_ = client.Close()
		_ = target.Close()
		return
	}
	drain(client)
	drain(target)
	reset(client)
	reset(target)
}

// carryDown is named so that a stack dump says which goroutine this is.
func carryDown(ctx context.Context, h *half, pool *buffers, done chan<- ending) {
	done <- copyHalf(ctx, h, pool)
}

// copyHalf moves one direction to its end and passes that end on.
func copyHalf(ctx context.Context, h *half, pool *buffers) ending {
	end := copyStream(ctx, h, pool)
	if end == endedWell && isDead(h.src) && !h.other.passedOn.Load() {
		end = sourceDied // the other half's write has taken the error, and what is left looks like an orderly end
	}
	if end == endedWell {
		h.passedOn.Store(true)
		if closeWrite(h.dst) != nil {
			end = targetDied
		}
	}
	if end == sourceDied {
		drain(h.dst)
		reset(h.dst)
		reset(h.src)
	}
	return end
}

// copyStream moves what src sends to dst, through a buffer that is held only while it is in use.
func copyStream(ctx context.Context, h *half, pool *buffers) ending {
	r := newReader(h.src, pool)
	defer r.release()
	for {
		limit := bufferSize
		if slice := h.limit.Slice(); slice > 0 {
			limit = min(limit, slice)
		}
		data, err := r.read(limit)
		n := len(data)
		if n > 0 {
			h.limit.await(ctx, int64(n))
			written, err := h.dst.Write(data)
			h.count.Add(uint64(written))
			if err != nil {
				return targetDied
			}
		}
		r.release()
		switch {
		case err == io.EOF:
			return endedWell
		case err != nil:
			return sourceDied
		}
	}
}

// closeWrite ends the direction to c. A connection that cannot end one direction alone ends both: its peer has to learn.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// drain waits, not for long, until c's peer has what was sent to it: a reset throws away what is still queued, and a
// server that answers early and resets (413 Content Too Large) would have its answer lost.
func drain(c net.Conn) {
	for range drainTime / drainStep {
		if unsent(c) == 0 || isDead(c) {
			return
		}
		time.Sleep(drainStep)
	}
}

// reset closes c so that its peer sees a reset rather than an orderly end, where c is TCP.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// turnAway resets who has got nothing yet. A stream of a node tells its own peer, which resets the client; it would throw
// away what it has yet to send, so that reset leaves it alone.
func turnAway(c net.Conn) {
	if s, ok := c.(interface{ Abort() }); ok {
		s.Abort()
	}
	reset(c)
}
