package relay

import (
	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

// borne is a stream one of whose connections carries the other, which is a socket.
type borne struct {
	node.Borne
	relay  *Relay
	stream *stream
	client bool // the socket is the client's; else the target's
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
	s.mu.Lock() // until b is in place: the end may come at once
	defer s.mu.Unlock()
	ok := !s.killed
	if ok {
		r.wg.Add(1)
		b.Borne, ok = bearer.Bear(fd, node.BearOptions{Idle: s.f.IdleTimeout, From: limitOf(from), To: limitOf(to), Ended: b.ended})
		if !ok {
			r.wg.Done()
		}
	}
	if !ok {
		_ = unix.Close(fd)
		return false
	}
	s.handed = b
	_ = socket.Close() // the duplicate is still open
	return true
}

// limitOf is l, or nil where there is none to look at.
func limitOf(l *limit) node.Limit {
	if l.all == nil {
		return nil
	}
	return l
}

func (b *borne) kill() { b.Kill() }

func (b *borne) bytes() (in, out uint64) {
	from, to := b.Moved()
	if b.client {
		return from, to
	}
	return to, from
}

// ended lets go of what is held for the stream.
func (b *borne) ended() {
	b.stream.task.leave(b.stream)
	b.relay.held.Add(-2)
	b.relay.wg.Done()
}
