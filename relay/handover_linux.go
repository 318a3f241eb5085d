package relay

import (
	"context"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/relay/engine"
)

// CanHandOver reports whether this system hands sockets to the next process.
const CanHandOver = true

// leave takes the relay apart without closing a socket that the next process can use:
//
//	listeners detached ─► who is being dialled for gets there ─► loops end ─► sessions frozen
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
	for end := time.Now().Add(leaveTime); r.slow.Load() > 0 && time.Now().Before(end); {
		time.Sleep(minPause)
	}
	r.loops.stop()
	for _, t := range r.allTasks() {
		for _, l := range t.list() {
			switch s := l.(type) {
			case *quick:
				s.freeze(h)
				r.wg.Done()
			case *stream:
				if byEngine, ok := s.handed.(*handed); ok {
					byEngine.freeze(h)
					r.wg.Done()
				}
			}
		}
	}
	h.NextID = r.nextID.Load()
	r.shutDown() // what could not be handed over
	r.left.Store(h)
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
	h.Sessions = append(h.Sessions, HandedSession{
		ID: s.id, Forward: s.task.name, Place: s.place.handed(), Client: s.client, Peer: s.peer, Local: s.local, Since: s.since,
		Target: s.target.String(), Kept: s.kept, Where: where, FD: fds, Unix: frozen.Unix, Frozen: frozen,
		Earlier: [2]uint64{s.earlier[0] + frozen.Moved[0], s.earlier[1] + frozen.Moved[1]},
	})
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

// inherited is what an earlier process left for this one.
type inherited struct {
	listeners map[place]int
	rest      *Handover // until the first Apply
}

func inherit(h *Handover) inherited {
	in := inherited{listeners: map[place]int{}, rest: h}
	if h != nil {
		for _, l := range h.Listeners {
			in.listeners[l.Place.place()] = l.FD
		}
	}
	return in
}

// passOn leaves to the next process what this one, which ended before its first Apply, has not used.
func (in *inherited) passOn(h *Handover) {
	if in.rest == nil {
		return
	}
	for _, l := range in.rest.Listeners {
		if _, unused := in.listeners[l.Place.place()]; unused {
			h.Listeners = append(h.Listeners, l)
		}
	}
	h.Sessions = append(h.Sessions, in.rest.Sessions...)
	h.Clients = append(h.Clients, in.rest.Clients...)
	h.Flows = append(h.Flows, in.rest.Flows...)
	in.rest, in.listeners = nil, nil
}

// take is the socket that listens at p already, if there is one. The caller holds Relay.applyMu. A unix socket whose file has
// gone is not taken: no client finds it any more. (systemd clears directories of a service between two processes.)
func (in *inherited) take(p place) net.Listener {
	if fd, ok := in.listeners[p]; ok && p.path != "" && !hasSocketFile(p.path) {
		delete(in.listeners, p)
		_ = unix.Close(fd)
		return nil
	}
	l, _ := openInherited(in, p, net.FileListener)
	return l
}

func hasSocketFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSocket != 0
}

// takePackets is take for UDP.
func (in *inherited) takePackets(p place) net.PacketConn {
	c, _ := openInherited(in, p, net.FilePacketConn)
	return c
}

// openInherited makes a socket of package net's out of the one at p; the zero S when there is none.
func openInherited[S any](in *inherited, p place, open func(*os.File) (S, error)) (s S, err error) {
	fd, ok := in.listeners[p]
	if !ok {
		return s, nil
	}
	delete(in.listeners, p)
	f := os.NewFile(uintptr(fd), p.String())
	defer f.Close()
	return open(f)
}

// resume goes on with the sessions of an earlier process, after the first Apply, and closes what this one has no use for.
func (r *Relay) resume(ctx context.Context) {
	h := r.inherited.rest
	if h == nil {
		return
	}
	r.inherited.rest = nil
	for p, fd := range r.inherited.listeners {
		engine.Reset(fd)
		if p.path != "" {
			_ = os.Remove(p.path)
		}
	}
	r.inherited.listeners = nil
	e := r.loops.get()
	for i := range h.Sessions {
		s := &h.Sessions[i]
		if e == nil || !r.resumeSession(e, s) {
			engine.Reset(s.FD[engine.Client])
			engine.Reset(s.FD[engine.Target])
		}
	}
	for i := range h.Flows {
		r.resumeFlow(&h.Flows[i])
	}
	for _, c := range h.Clients {
		l := r.places[c.Place.place()]
		if e == nil || l == nil || l.door == nil {
			engine.Reset(c.FD)
			continue
		}
		engine.ResetOnClose(c.FD, false)
		e.Admit(&gate{relay: r, listener: l, ctx: context.WithoutCancel(ctx)}, c.FD, c.Client)
	}
}

// resumeSession reports false when no forward carries the session any more.
func (r *Relay) resumeSession(e *engine.Engine, s *HandedSession) bool {
	t := r.tasks[s.Forward]
	if t == nil || !t.running {
		return false
	}
	p := s.Place.place()
	q := &quick{attempts: attempts{relay: r}, resumed: s.Where}
	q.id, q.place, q.network, q.since = s.ID, &p, p.network, s.Since
	q.client, q.peer, q.local, q.earlier, q.kept = s.Client, s.Peer, s.Local, s.Earlier, s.Kept
	if !q.covered(t.f) || t.enter(q, t.f) != nil {
		return false
	}
	r.held.Add(2)
	r.wg.Add(1)
	t.resumed(q, targetNamed(t.f, s.Target))
	q.Init(engine.Options{
		Owner: q, Client: s.FD[engine.Client], Target: s.FD[engine.Target], Unix: s.Unix, Idle: t.f.IdleTimeout,
		Limits: [2]engine.Limit{&q.upload, &q.download}, Frozen: &s.Frozen,
	})
	e.Start(&q.Stream)
	return true
}
