package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// Transparent prepares this machine for sockets that have a client's address: what is sent there reaches the socket.
type Transparent interface {
	// Acquire sets that up, or what is missing of it. It is called again and again, and is cheap when nothing is.
	Acquire() error
	// Release takes it away, what an earlier process left included.
	Release() error
}

// errNoTransparent is why source = "keep" fails in a relay that was given no Transparent.
var errNoTransparent = errors.New("this relay cannot keep clients' addresses")

// A keeper has a Transparent in use for as long as a forward keeps its clients' addresses, or a session that began so.
//
//	unknown ──(none is needed)──► released ◄──(none is needed any more)── held
//	   └──────(one is wanted)─────────┴────────────────────────────────────►┘
//
// It is guarded by Relay.applyMu.
type keeper struct {
	transparent Transparent // nil: there is none
	state       keeping
	wanted      int // forwards that need it
}

type keeping uint8

const (
	unknown keeping = iota // an earlier process may have left something
	released
	held
)

// keeps reports whether sessions of f have their client's address towards the target.
func keeps(f *forward.Forward) bool { return f.Source == forward.SourceKeep }

// prepare sets up what the forwards need, some of which went and others came. The error is why those that keep their clients'
// addresses fail.
func (k *keeper) prepare(removed, added []*forward.Forward) error {
	for _, f := range removed {
		if keeps(f) {
			k.wanted--
		}
	}
	for _, f := range added {
		if keeps(f) {
			k.wanted++
		}
	}
	switch {
	case k.wanted == 0 || k.state == held:
		return nil
	case k.transparent == nil:
		return errNoTransparent
	}
	if err := k.transparent.Acquire(); err != nil {
		return fmt.Errorf("keeping clients' addresses: %w", err)
	}
	k.state = held
	return nil
}

// letGo takes away what no forward wants and no session needs any more.
func (k *keeper) letGo(needed func() bool) error {
	switch {
	case k.transparent == nil, k.wanted > 0, k.state == released:
		return nil
	case needed(): // by a session that an earlier process left, perhaps
		k.state = held
		return nil
	}
	k.state = released
	return k.transparent.Release()
}

// letGoOfAddresses is letGo for this relay. The caller holds applyMu.
func (r *Relay) letGoOfAddresses() {
	level := slog.LevelWarn
	if r.keep.state == unknown {
		level = slog.LevelDebug // there may be nothing to take away, or another process's
	}
	needed := func() bool { return slices.ContainsFunc(r.allTasks(), (*task).keepsAddresses) }
	if err := r.keep.letGo(needed); err != nil {
		r.log.Log(context.Background(), level, "the routing for clients' addresses cannot be taken away", keyError, err)
	}
}

// reviewAddresses is letGoOfAddresses for Run: the last session that needed it may have ended.
func (r *Relay) reviewAddresses() {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	if r.keep.state == held {
		r.letGoOfAddresses()
	}
}

// Lost reports whether a listener has ended by itself, which the next Apply opens again, or what forwards with source = "keep"
// need of this machine is gone and does not come back: the next Apply says so of them.
func (r *Relay) Lost() bool {
	if r.anyBroken.Load() {
		return true
	}
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	if r.keep.state != held {
		return false
	}
	err := r.keep.transparent.Acquire()
	if err == nil {
		return false
	}
	r.log.Warn("the routing for clients' addresses is gone", keyError, err)
	r.keep.state = unknown
	return true
}

// Clear takes everything away that the relay has set up on this machine, whatever needs it.
func (r *Relay) Clear() error {
	r.applyMu.Lock()
	defer r.applyMu.Unlock()
	wanted := r.keep.wanted
	defer func() { r.keep.wanted = wanted }() // the next Apply sets it up again
	r.keep.wanted = 0
	return r.keep.letGo(func() bool { return false })
}

// keepsAddresses reports whether a session of t has its client's address.
func (t *task) keepsAddresses() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.sessions {
		if l.base().kept {
			return true
		}
	}
	return false
}

// from is the address that the target sees s come from: the client's own where f keeps it, zero for one of this machine. A
// client on this host has no address that could be told from the target's own.
func (s *session) from(f *forward.Forward) netip.AddrPort {
	if !keeps(f) || s.client.Addr().IsLoopback() {
		return netip.AddrPort{}
	}
	return s.client
}
