package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// HubOptions are what a Hub is made of.
type HubOptions struct {
	Address string // of the hub, for people: "hub.example.com:443"
	Name    string // that this agent would like to have
	Program string // and version
	Log     *slog.Logger

	// Connect makes a link, and tries until there is one or ctx ends. It says by failed why a try did not come to one.
	Connect func(ctx context.Context, failed func(error)) (tunnel.Link, error)
	// Better waits for a link by a better transport than that of one that is used; nil: there is none.
	Better func(ctx context.Context, than tunnel.Link) (tunnel.Link, error)
	Resume time.Duration // how long a session is kept without a link, if the hub does not say less; 0 is 5 minutes

	// Allow is what the hub and other agents may have dialled from here, besides what arrives at this agent's own listeners. None: nothing.
	Allow []Allow
	// Dial connects to it.
	Dial   func(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error)
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error) // nil asks the system

	Places   Places         // at which the hub may have somebody listen here; none: nowhere
	Forwards node.Forwards  // who listens; nil: nobody
	Told     func(Told)     // what the hub says of this agent; nil: nobody listens
	Options  tunnel.Options // Window, Streams, Memory
}

// A Hub is the hub of this agent, as a node. It is of use while Run runs.
type Hub struct {
	*Far
	o     HubOptions
	log   *slog.Logger
	allow atomic.Pointer[[]Allow]

	mu   sync.Mutex
	why  string        // the last try to connect did not come to a link; "": it did
	no   *tunnel.Error // what the hub has answered to it, if to try again will not change that
	told Told
}

var (
	_ node.Remote           = (*Hub)(nil)
	_ node.PacketNode       = (*Hub)(nil)
	_ node.Introducer       = (*Hub)(nil)
	_ node.PacketIntroducer = (*Hub)(nil)
)

// NewHub returns the hub as a node. It connects to nothing before Run.
func NewHub(o HubOptions) (*Hub, error) {
	if o.Connect == nil {
		return nil, errors.New("a hub needs Connect")
	}
	o.Address = cmp.Or(o.Address, "the hub")
	h := &Hub{o: o, log: o.Log}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.SetAllow(o.Allow)
	far := Options{Name: o.Address, Log: h.log, Forwards: o.Forwards, Key: HubName, Landlord: o.Places, Told: h.isTold}
	if o.Dial != nil {
		far.Judge = &Dialler{Rules: h.rules, Connect: o.Dial, Lookup: o.Lookup}
	}
	h.Far = New(far)
	h.Far.state.Why = "connecting to " + o.Address
	return h, nil
}

// Caps is what the hub can do.
func (h *Hub) Caps() node.Caps { return Caps() }

// SetAllow replaces what may be dialled from here. What is no longer permitted ends.
func (h *Hub) SetAllow(list []Allow) {
	h.allow.Store(&list)
	if h.Far != nil && h.o.Dial != nil {
		h.Revise()
	}
}

func (h *Hub) rules(c tunnel.Call) []forward.Rule { return forCaller(*h.allow.Load(), c.Agent) }

func (h *Hub) isTold(t Told) {
	h.mu.Lock()
	h.told = t
	h.mu.Unlock()
	if h.o.Told != nil {
		h.o.Told(t)
	}
}

// Self is what the hub has said of this agent.
func (h *Hub) Self() Told {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}

// Agent is another agent of the hub's, as a node that dials through the hub. It listens nowhere.
func (h *Hub) Agent(name string) node.Node { return &neighbour{h, name} }

// Transport is that of the link that is used now; "" without one.
func (h *Hub) Transport() string {
	if s := h.Session(); s != nil {
		if links := s.Status().Links; len(links) > 0 {
			return links[0].Transport
		}
	}
	return ""
}

// State is up while there is a link.
func (h *Hub) State() node.State {
	s := h.Far.State()
	h.mu.Lock()
	why := h.why
	h.mu.Unlock()
	if !s.Up && why != "" && !errors.Is(h.ended(), node.ErrClosed) {
		s.Why = h.o.Address + ": " + why
	}
	return s
}

func (h *Hub) ended() error {
	h.Far.mu.Lock()
	defer h.Far.mu.Unlock()
	if h.Far.ended {
		return node.ErrClosed
	}
	return nil
}

// How long to wait after an answer that trying again at once would not change.
const (
	afterNo    = 30 * time.Second // somebody has to do something first
	afterFirst = 500 * time.Millisecond
	afterLast  = 15 * time.Second
	steady     = 5 * time.Second // a session that has lasted so long is begun anew at once
)

// Run keeps a session with the hub until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var keeping sync.WaitGroup
	keeping.Go(func() { h.keep(ctx) })
	err := h.Far.Run(ctx)
	keeping.Wait()
	return err
}

// An upkeep is what keep knows of the session.
type upkeep struct {
	session *tunnel.Session
	id      tunnel.ID
	met     bool // the hub knows of it
	began   time.Time
	wait    time.Duration
}

func (h *Hub) keep(ctx context.Context) {
	u := &upkeep{wait: afterFirst}
	if s := h.Session(); s != nil { // thawed
		u.session, u.id, u.met = s, s.Status().ID, true
	}
	for ctx.Err() == nil {
		link, err := h.o.Connect(ctx, func(err error) { h.failed(clean(err.Error()) + "; trying again") })
		if err == nil {
			err = h.attach(ctx, u, link)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			h.failed("")
			u.wait = afterFirst
			h.stay(ctx, u, link)
			if err = h.displaced(u); err == nil {
				continue
			}
		}
		var said *tunnel.Error
		if errors.As(err, &said) && said.Code == tunnel.Busy {
			err = errDisplaced
		}
		wait := h.after(u, err)
		if wait == 0 {
			continue
		}
		h.failed(fmt.Sprintf("%s; next try in %s", clean(err.Error()), wait.Round(time.Second)))
		h.refused(said)
		h.log.Warn("the hub is not to be had", keyNode, h.o.Address, keyError, err)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// displaced is that another one with this agent's key has come to the hub: two that throw each other out are to take their time.
func (h *Hub) displaced(u *upkeep) error {
	var said *tunnel.Error
	if !errors.As(u.session.Err(), &said) || said.Code != tunnel.Busy {
		return nil
	}
	return errDisplaced
}

var errDisplaced = &tunnel.Error{Code: tunnel.Busy, Text: "another agent with this one's key has come to the hub; enrol each machine by a token of its own"}

func (h *Hub) failed(why string) {
	h.mu.Lock()
	h.why, h.no = why, nil
	h.mu.Unlock()
}

// refused notes an answer that somebody has to change something about.
func (h *Hub) refused(said *tunnel.Error) {
	if said == nil || !final(said.Code) {
		return
	}
	h.mu.Lock()
	h.no = said
	h.mu.Unlock()
}

// Refusal is why the hub does not let this agent in, if it has said so at the last try and trying again will not change that; else nil.
func (h *Hub) Refusal() *tunnel.Error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.no
}

// Trying reports whether there is no link, and no try has come to an end yet that says why.
func (h *Hub) Trying() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why == "" && !h.Far.State().Up
}

// final reports whether a code is about what somebody has to change.
func final(code tunnel.Code) bool {
	switch code {
	case tunnel.Version, tunnel.Busy, tunnel.Unknown, tunnel.Secret, tunnel.Revoked, tunnel.Refused, tunnel.Unfit:
		return true
	}
	return false
}

// after decides what an error means: how long to wait before the next try, and whether the session can go on.
func (h *Hub) after(u *upkeep, err error) time.Duration {
	var said *tunnel.Error
	if errors.As(err, &said) {
		switch {
		case said.Code == tunnel.Gone:
			lasted := u.met && time.Since(u.began) >= steady
			u.drop(said)
			if lasted {
				return 0
			} // else a session that was just begun is gone: the next one may be, too
		case final(said.Code):
			u.drop(said)
			return jitter(afterNo)
		}
	}
	wait := jitter(u.wait)
	u.wait = min(2*u.wait, afterLast)
	return wait
}

// drop ends the session: the next link begins another one.
func (u *upkeep) drop(why *tunnel.Error) {
	if u.session != nil {
		u.session.End(why.Code, why.Text)
		u.session = nil
	}
}

func (h *Hub) options() tunnel.Options {
	o := h.o.Options
	o.Resume = h.o.Resume
	return o
}

// Thaw goes on with what another process has frozen: see Far.Thaw. It is called before Run.
func (h *Hub) Thaw(ctx context.Context, fr *Frozen, adopt Adopter) ([]tunnel.Numbered, error) {
	return h.Far.Thaw(ctx, fr, h.options(), adopt)
}

// attach has the session go on over a link, or begins one.
func (h *Hub) attach(ctx context.Context, u *upkeep, link tunnel.Link) error {
	if u.session == nil || u.session.Err() != nil {
		u.met, u.began = false, time.Now()
		_, _ = rand.Read(u.id[:]) // never fails
		o := h.options()
		o.Side, o.ID = tunnel.Agent, u.id
		u.session = h.Begin(o)
	}
	return h.move(ctx, u, link)
}

// move has the session go on over a link.
func (h *Hub) move(ctx context.Context, u *upkeep, link tunnel.Link) error {
	if err := u.session.Err(); err != nil { // nothing is to be said of it
		_ = link.Close()
		return err
	}
	_, err := u.session.Attach(ctx, link, tunnel.Hello{Session: u.id, Resume: u.met, Name: h.o.Name, Program: h.o.Program})
	if err != nil {
		_ = link.Close()
		return err
	}
	u.met = true
	return nil
}

// stay waits while the session has a link, and moves to better ones.
func (h *Hub) stay(ctx context.Context, u *upkeep, link tunnel.Link) {
	ctx, cancel := context.WithCancel(ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	if h.o.Better != nil {
		looking.Go(func() { h.look(ctx, u, link) })
	}
	for {
		changed := u.session.Changed()
		if u.session.Err() != nil || !u.session.State().Up {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// look moves the session to better links than the one that is used.
func (h *Hub) look(ctx context.Context, u *upkeep, used tunnel.Link) {
	for {
		link, err := h.o.Better(ctx, used)
		if err != nil {
			return
		}
		if err := h.move(ctx, u, link); err != nil {
			h.log.Info("the better link is not to be had", keyNode, h.o.Address, keyError, err)
			continue
		}
		used = link
	}
}
