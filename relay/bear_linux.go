package relay

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

// borne is a stream one of whose connections carries the other, which is a socket.
type borne struct {
	burden
	relay  *Relay
	stream *stream
	client bool // the socket is the client's; else the target's
	over   atomic.Bool
}

// bear has a node's connection carry the socket at the other end of a stream, and reports whether it does.
func (r *Relay) bear(s *stream) bool {
	far, fromClient := s.far.(node.Bearer)
	bearer, socket, from, to := far, s.near, &s.upload, &s.download
	if !fromClient {
		near, ok := s.near.(node.Bearer)
		if !ok {
			return false
		}
		bearer, socket, from, to = near, s.far, &s.download, &s.upload
	}
	if !isSocket(socket) {
		return false
	}
	fd, err := duplicate(socket)
	if err != nil {
		return false
	}
	b := &borne{relay: r, stream: s, client: fromClient}
	s.mu.Lock()
	if s.killed {
		s.mu.Unlock()
		_ = unix.Close(fd)
		return false
	}
	s.handed = b
	s.mu.Unlock()
	r.wg.Add(1)
	moving, ok := bearer.Bear(fd, node.BearOptions{Idle: s.f.IdleTimeout, From: limitOf(from), To: limitOf(to), Ended: b.ended})
	if ok {
		b.is(moving)
		_ = socket.Close() // the duplicate is still open
		return true
	}
	r.wg.Done()
	_ = unix.Close(fd)
	s.mu.Lock()
	s.handed = nil
	killed := s.killed
	s.mu.Unlock()
	if killed {
		s.kill()
	}
	return false
}

// limitOf is l, or nil where there is none to look at.
func limitOf(l *limit) node.Limit {
	if l.all == nil {
		return nil
	}
	return l
}

func (b *borne) bytes() (in, out uint64) {
	from, to := b.moved()
	if b.client {
		return from, to
	}
	return to, from
}

// ended lets go of what is held for the stream.
func (b *borne) ended(moved node.Borne) {
	b.is(moved) // it may end before Bear has returned
	if b.over.CompareAndSwap(false, true) {
		b.letGo()
	}
}

func (b *borne) letGo() {
	b.stream.task.leave(b.stream)
	b.relay.held.Add(-2)
	b.relay.wg.Done()
}
