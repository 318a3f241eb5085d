package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// ErrNoSession says that no session has the ID.
var ErrNoSession = errors.New("no such session")

// Sessions lists the live sessions of the forwards carried here, as conntrack knows them.
func (c *Carrier) Sessions() ([]forward.Session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []forward.Session
	err := c.eachSession(func(s session, f *forward.Forward) {
		out = append(out, forward.Session{ID: s.name(), Forward: f.Name, Network: s.network, Client: s.client.String(),
			Target: s.target.String(), Carried: forward.CarryKernel, Since: s.since, BytesIn: s.in, BytesOut: s.out})
	})
	return out, err
}

// Kill ends the session with this ID, or returns ErrNoSession.
func (c *Carrier) Kill(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var victims []session
	err := c.eachSession(func(s session, _ *forward.Forward) {
		if s.name() == id {
			victims = append(victims, s)
		}
	})
	if err != nil {
		return err
	}
	if len(victims) == 0 {
		return fmt.Errorf("%w: %s", ErrNoSession, id)
	}
	return c.withSocket(func(s *nlSocket) error { return end(s, victims) })
}

// name is the session's ID for users: conntrack's own, and the client's port, so that a number that conntrack uses again
// does not end a stranger's session.
func (s session) name() string { return fmt.Sprintf("k%08x%04x", s.id, s.client.Port()) }

// eachSession calls yield for every session of a forward that the kernel carries.
func (c *Carrier) eachSession(yield func(session, *forward.Forward)) error {
	if c.handle == 0 {
		return nil
	}
	here := localAddrs()
	return c.withSocket(func(s *nlSocket) error {
		return sessions(s, func(entry session) {
			if f := owner(&c.index, entry, here); f != nil {
				yield(entry, f)
			}
		})
	})
}

// localAddrs is the addresses of this host, loopback included.
func localAddrs() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range hostAddrs() {
		out[a.Prefix.Addr()] = true
	}
	return out
}

// first is the packet that began session s.
func (s session) first(here map[netip.Addr]bool) forward.Packet {
	addr := s.listened.Addr()
	return forward.Packet{Network: s.network, Client: s.client.Addr(), Addr: addr,
		Local: addr.IsLoopback() || here[addr], Port: s.listened.Port()}
}

// owner is the forward that translated a session, or nil. Where several could have, the one that leads to where the
// session went did; where none does, the target was changed since, and the first of them keeps the session.
func owner(x *forward.Index, s session, here map[netip.Addr]bool) *forward.Forward {
	if !s.translated() {
		return nil
	}
	var first *forward.Forward
	for f := range x.Candidates(s.first(here)) {
		if f.Carry != forward.CarryKernel {
			continue
		}
		if leadsTo(f, s) {
			return f
		}
		if first == nil {
			first = f
		}
	}
	return first
}

// leadsTo reports whether f would send the session where it went.
func leadsTo(f *forward.Forward, s session) bool {
	t := f.To[0]
	addr := t.Addr
	if t.IsLocal() {
		addr = s.listened.Addr()
	}
	return s.target == netip.AddrPortFrom(addr, f.TargetPort(t, s.listened.Port()))
}

func end(s *nlSocket, victims []session) error {
	var errs []error
	for _, v := range victims {
		errs = append(errs, v.end(s))
	}
	return errors.Join(errs...)
}

func interfaceName(key []byte) string {
	name, _, _ := strings.Cut(string(key[:min(16, len(key))]), "\x00")
	return name
}
