package relay

import (
	"context"
	"io/fs"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/relay/engine"
)

// inherited is what an earlier process left for this one.
type inherited struct {
	listeners map[place]int
	rest      *Handover // what nobody has gone on with yet; nil: nothing, or not any more
	patient   bool      // forwards may still come that want it: see Options.Patient
	wards     *wards
}

func inherit(h *Handover, patient bool) inherited {
	in := inherited{listeners: map[place]int{}, rest: h, patient: patient && h != nil, wards: newWards(h)}
	if h != nil {
		for _, l := range h.Listeners {
			in.listeners[l.Place.place()] = l.FD
		}
	}
	return in
}

// passOn leaves to the next process what this one has not used.
func (in *inherited) passOn(h *Handover) {
	h.Borne = append(h.Borne, in.wards.passOn()...)
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

// LetGo ends the patience with what an earlier process has left: see Options.Patient. All forwards have been applied.
func (r *Relay) LetGo(ctx context.Context) {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	if r.inherited.patient && !r.ended {
		r.inherited.patient = false
		r.resume(ctx)
	}
}

// resume goes on with what an earlier process has left, after an Apply, and closes what this one has no use for.
func (r *Relay) resume(ctx context.Context) {
	h, patient := r.inherited.rest, r.inherited.patient
	if h == nil {
		return
	}
	r.bindWards(!patient)
	if !patient {
		r.inherited.rest = nil
		for p, fd := range r.inherited.listeners {
			engine.Reset(fd)
			if p.path != "" {
				_ = os.Remove(p.path)
			}
		}
		r.inherited.listeners = nil
	}
	e := r.loops.get()
	h.Sessions = slices.DeleteFunc(h.Sessions, func(s HandedSession) bool {
		if patient && r.tasks[s.Forward] == nil {
			return false
		}
		if e == nil || !r.resumeSession(e, &s) {
			engine.Reset(s.FD[engine.Client])
			engine.Reset(s.FD[engine.Target])
		}
		return true
	})
	h.Flows = slices.DeleteFunc(h.Flows, func(s HandedFlow) bool {
		if patient && r.places[s.Place.place()] == nil {
			return false
		}
		r.resumeFlow(&s)
		return true
	})
	h.Clients = slices.DeleteFunc(h.Clients, func(c HandedClient) bool {
		l := r.places[c.Place.place()]
		if patient && l == nil {
			return false
		}
		r.resumeClient(context.WithoutCancel(ctx), e, l, &c)
		return true
	})
}

// resumeClient goes on with a client, or resets him when nobody listens any more where he came.
func (r *Relay) resumeClient(ctx context.Context, e *engine.Engine, l *listener, c *HandedClient) {
	if l == nil || l.packets != nil || !l.started {
		engine.Reset(c.FD)
		return
	}
	engine.ResetOnClose(c.FD, false)
	if e != nil && l.door != nil && c.Said == nil {
		e.Admit(&gate{relay: r, listener: l, ctx: ctx}, c.FD, c.Client)
		return
	}
	conn, err := netConn(c.FD)
	if err != nil {
		return // it is closed
	}
	var begun *talk
	if c.Said != nil {
		begun = &talk{said: c.Said}
	}
	r.goServe(ctx, l, conn, begun)
}

// resumeSession reports false when no forward carries the session any more.
func (r *Relay) resumeSession(e *engine.Engine, s *HandedSession) bool {
	t := r.tasks[s.Forward]
	if t == nil || !t.running {
		return false
	}
	q := &quick{attempts: attempts{relay: r}, resumed: s.Where}
	q.known(&s.HandedStream)
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

// known is what written was.
func (s *session) known(h *HandedStream) {
	p := h.Place.place()
	s.id, s.place, s.network, s.since = h.ID, &p, p.network, h.Since
	s.client, s.peer, s.local, s.host, s.earlier, s.kept = h.Client, h.Peer, h.Local, h.Host, h.Earlier, h.Kept
}
