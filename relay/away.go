package relay

import (
	"context"
	"fmt"
	"net"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// waiting is why clients of f have to wait: the node that it listens at is away, or the one that it dials from; else "". note is what else is to be known
// of these.
func (r *Relay) waiting(f *forward.Forward) (why, note string) {
	look := func(name string, s node.Stated) (away bool) {
		state := s.State()
		if state.Why == "" {
			return false
		}
		if note = fmt.Sprintf("node %s: %s", name, state.Why); !state.Up {
			why = note
		}
		return !state.Up
	}
	if f.ListensAt() != forward.Host {
		for _, p := range placesOf(f) {
			r.mu.RLock()
			l := r.places[p]
			r.mu.RUnlock()
			if l == nil || l.stated == nil {
				continue
			}
			if look(f.ListensAt(), l.stated) {
				return why, ""
			}
		}
	}
	if f.DialsFrom() != forward.Host {
		n, err := r.nodes(f.DialsFrom())
		if err != nil {
			return err.Error(), "" // it may be declared again
		}
		if s, ok := n.(node.Stated); ok {
			if look(f.DialsFrom(), s) {
				return why, ""
			}
		}
	}
	return "", note
}

// dialFor is how n is dialled for a session: it is told for whom, where it can pass that on.
func (s *session) dialFor(n node.Node) dialFunc {
	if far, ok := n.(node.Introducer); ok {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			return far.DialFor(ctx, s.client, network, addr)
		}
	}
	return n.Dial
}
