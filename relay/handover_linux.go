package relay

import (
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/engine"
)

// CanHandOver reports whether this system hands sockets to the next process.
const CanHandOver = true

// leave takes the relay apart without closing a socket that the next process can use:
//
//	listeners detached ─► who is being dialled for gets there ─► nodes freeze ─► loops end ─► sessions frozen
//
// Clients that come meanwhile wait in the queues of the listening sockets.
func (r *Relay) leave() {
	h := &Handover{}
	r.applyMu.Lock()
	r.ended = true
	for p, l := range r.places {
		if d, ok := l.door.(*socketDoor); ok {
			d.Detach()
			h.Listeners = append(h.Listeners, HandedListener{Place: p.handed(), FD: d.FD()})
			l.door = detached{rawSocket(d.FD())}
		}
		if l.packets != nil {
			h.addPackets(p, l.packets)
			l.close() // while there are loops to do it; what is handed over are duplicates
		}
	}
	r.inherited.passOn(h)
	r.applyMu.Unlock()
	if r.nodesLeave.Quiet != nil {
		r.nodesLeave.Quiet()
	}
	r.unanswered.begin()
	r.awaitDials(dialTimeAtEnd, &r.slow, &r.leading)
	r.handDialling(h)
	r.awaitDials(leaveTime-dialTimeAtEnd, &r.slow)
	if r.nodesLeave.Freeze != nil {
		r.nodesLeave.Freeze()
	}
	r.loops.stop()
	for _, t := range r.allTasks() {
		for _, l := range t.list() {
			switch s := l.(type) {
			case *quick:
				s.freeze(h)
				r.wg.Done()
			case *ward:
				s.freeze(h)
			case *led:
				s.freeze(h)
			case *met:
				s.freeze(h)
			case *stream:
				switch m := s.mover().(type) {
				case *handed:
					m.freeze(h)
					r.wg.Done()
				case *borne:
					m.freeze(h)
				}
			}
		}
	}
	r.handDialling(h)
	for _, c := range r.unanswered.end() {
		engine.ResetOnClose(c.FD, true)
		h.Clients = append(h.Clients, c)
	}
	h.NextID = r.nextID.Load()
	r.shutDown() // what could not be handed over
	r.left.Store(h)
}

// awaitDials waits until none of those is being dialled for, or for so long.
func (r *Relay) awaitDials(d time.Duration, counts ...*atomic.Int64) {
	waits := func(n *atomic.Int64) bool { return n.Load() > 0 }
	time.Sleep(minPause) // who was just accepted is counted in a moment
	for end := time.Now().Add(d); slices.ContainsFunc(counts, waits) && time.Now().Before(end); {
		time.Sleep(minPause)
	}
}

// handDialling hands clients over who still wait for their target, as if they had just come.
func (r *Relay) handDialling(h *Handover) {
	for _, t := range r.allTasks() {
		for _, l := range t.list() {
			if s, ok := l.(*stream); ok {
				s.comeAgain(h)
			}
		}
	}
}

// comeAgain leaves the client to the next process, if no more was read of him than whom he calls. What is done for him here ends.
func (s *stream) comeAgain(h *Handover) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var said []byte
	if s.calling.begun != nil {
		said = s.calling.begun.Said
	}
	read := s.begun != nil || s.calling.known && said == nil || len(s.f.AcceptProxy) > 0 || s.f.Dynamic() != forward.HeadNone
	if s.killed || s.far != nil || s.handed != nil || read || !isSocket(s.near) {
		return
	}
	fd, err := duplicate(s.near)
	if err != nil {
		return
	}
	s.killed = true
	s.cancel()
	h.Clients = append(h.Clients, HandedClient{Place: s.place.handed(), Client: s.client, FD: fd, Said: said})
}

// detached stands in for a door whose socket is somebody else's now.
type detached struct{ rawSocket }

func (detached) Close() error { return nil }

func (d detached) SyscallConn() (syscall.RawConn, error) { return d.rawSocket, nil }

// freeze writes a session down that the engine carried; its loops have ended.
func (q *quick) freeze(h *Handover) {
	if q.Waiting() {
		engine.Reset(q.FD(engine.Target))
		engine.ResetOnClose(q.FD(engine.Client), true) // as a session's, see engine.Stream.Freeze
		q.task.leave(q)
		h.Clients = append(h.Clients, HandedClient{Place: q.place.handed(), Client: q.client, FD: q.FD(engine.Client)})
		return
	}
	h.add(&q.session, &q.Stream, q.where())
	q.task.leave(q)
}

func (s *handed) freeze(h *Handover) {
	h.add(&s.stream.session, &s.Stream, s.stream.where())
	s.stream.task.leave(s.stream)
}

// add writes a session down. One that cannot go on is reset.
func (h *Handover) add(s *session, stream *engine.Stream, where string) {
	fds := [2]int{stream.FD(engine.Client), stream.FD(engine.Target)}
	frozen, ok := stream.Freeze()
	if !ok {
		for _, fd := range fds {
			engine.Reset(fd)
		}
		return
	}
	known := s.written(where)
	known.Earlier = [2]uint64{s.earlier[0] + frozen.Moved[0], s.earlier[1] + frozen.Moved[1]}
	h.Sessions = append(h.Sessions, HandedSession{HandedStream: known, FD: fds, Unix: frozen.Unix, Frozen: frozen})
}

// written is what the next process has to know of a session.
func (s *session) written(where string) HandedStream {
	return HandedStream{
		ID: s.id, Forward: s.task.name, Place: s.place.handed(), Client: s.client, Peer: s.peer, Local: s.local, Since: s.since, Host: s.host,
		Target: s.target.String(), Kept: s.kept, Where: where, Earlier: s.earlier,
	}
}

// addPackets writes a UDP socket down, and the flows of its clients. Those whose datagrams begin with a header are left out:
// the next datagram says all that is needed.
func (h *Handover) addPackets(at place, p *packetListener) {
	g, ok := p.door.(*packetGate)
	if !ok {
		return
	}
	fd, err := duplicate(g)
	if err != nil {
		return
	}
	h.Listeners = append(h.Listeners, HandedListener{Place: at.handed(), FD: fd})
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, fl := range p.flows {
		if fd, ok := fl.socketForNext(key); ok {
			h.Flows = append(h.Flows, HandedFlow{
				Place: at.handed(), Peer: key.peer, Local: key.local, From: fl.direct.client.Bytes(), FD: fd,
				Target: fl.target.String(), Where: fl.reachedAt, Answered: fl.answered.Load(),
				Earlier: [2]uint64{fl.earlier[0] + fl.in.Load(), fl.earlier[1] + fl.out.Load()},
			})
		}
	}
}

// socketForNext is a duplicate of the flow's socket, if the engine has one and another process can go on with it.
func (fl *flow) socketForNext(key flowKey) (fd int, ok bool) {
	fl.mu.Lock()
	far := fl.far
	fl.mu.Unlock()
	if _, direct := far.(*directFlow); !direct || key != (flowKey{peer: key.peer, local: key.local}) {
		return -1, false
	}
	fl.task.mu.Lock()
	defer fl.task.mu.Unlock()
	if fl.target == nil {
		return -1, false
	}
	fd, err := fl.direct.Duplicate()
	return fd, err == nil
}

// resumeFlow goes on with a flow, or closes its socket when no forward carries it any more.
func (r *Relay) resumeFlow(s *HandedFlow) {
	l := r.places[s.Place.place()]
	if l == nil || l.packets == nil {
		_ = unix.Close(s.FD)
		return
	}
	g, ok := l.packets.door.(*packetGate)
	if !ok {
		_ = unix.Close(s.FD)
		return
	}
	fl := g.newFlow(origin{key: flowKey{peer: s.Peer, local: s.Local}}, engine.AddressOf(s.From))
	if fl == nil {
		_ = unix.Close(s.FD)
		return
	}
	fl.reachedAt, fl.earlier = s.Where, s.Earlier
	fl.answered.Store(s.Answered)
	fl.task.resumed(fl, targetNamed(fl.f, s.Target))
	fl.direct.begin(g, nil, s.FD)
}
