package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
		if s.network == 0 { // GRE, which PPTP negotiates: it has no ports to show, and ends with its master
			return
		}
		out = append(out, forward.Session{ID: s.name(), Forward: f.Name, Network: s.network, Client: s.client.String(),
			Target: s.target.String(), Carried: forward.CarryKernel, Since: s.since, BytesIn: s.in, BytesOut: s.out})
	})
	return out, err
}

// Kill ends the session with this ID and those that it negotiated, or returns ErrNoSession.
func (c *Carrier) Kill(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var victims, related []session
	err := c.eachSession(func(s session, _ *forward.Forward) {
		if s.name() == id {
			victims = append(victims, s)
		} else if s.related() {
			related = append(related, s)
		}
	})
	if err != nil {
		return err
	}
	if len(victims) == 0 {
		return fmt.Errorf("%w: %s", ErrNoSession, id)
	}
	for _, s := range related {
		if slices.ContainsFunc(victims, func(v session) bool { return s.master == v.origin() }) {
			victims = append(victims, s)
		}
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
	here, err := localAddrs()
	if err != nil {
		return err
	}
	return c.withSocket(func(s *nlSocket) error {
		return sessions(s, func(entry session) {
			if f := owner(&c.index, c.former, entry, here); f != nil {
				yield(entry, f)
			}
		})
	})
}

// localAddrs is the addresses of this host, loopback left out.
func localAddrs() (map[netip.Addr]bool, error) {
	addrs, err := hostAddrs()
	out := map[netip.Addr]bool{}
	for _, a := range addrs {
		out[a.Prefix.Addr()] = true
	}
	return out, err
}

// first is the packet that began session s.
func (s session) first(here map[netip.Addr]bool) forward.Packet { return s.origin().packet(here) }

func (o origin) packet(here map[netip.Addr]bool) forward.Packet {
	addr := o.listened.Addr()
	return forward.Packet{Network: o.network, Client: o.client.Addr(), Addr: addr,
		Local: addr.IsLoopback() || here[addr], Port: o.listened.Port()}
}

// owner is the forward that translated a session, or the pinhole that let it through, or nil: one that claims its first packet
// and leads to where it went, now or before its target was changed. What another program translated leads elsewhere and is
// nobody's here.
//
// What a helper expected is its master's: it may go either way, by any port, and be translated or not.
func owner(x *forward.Index, former map[string][]*forward.Forward, s session, here map[netip.Addr]bool) *forward.Forward {
	first := s.origin()
	if s.related() {
		first = s.master
	}
	leads := func(f *forward.Forward) bool {
		return (s.related() || s.translated() != f.IsPinhole()) && leadsTo(f, s)
	}
	for f := range x.Candidates(first.packet(here)) {
		if f.Carry == forward.CarryKernel && (leads(f) || slices.ContainsFunc(former[f.Name], leads)) {
			return f
		}
	}
	return nil
}

// remember notes where changed forwards led, as long as sessions may last there, and forgets those that are gone.
func (c *Carrier) remember(ch *change) {
	const most = 8 // targets of one forward
	came := map[string]bool{}
	for _, f := range ch.added {
		came[f.Name] = true
	}
	for _, f := range ch.removed {
		if !came[f.Name] {
			delete(c.former, f.Name)
			continue
		}
		if c.former == nil {
			c.former = map[string][]*forward.Forward{}
		}
		list := append([]*forward.Forward{f}, c.former[f.Name]...)
		c.former[f.Name] = list[:min(len(list), most)]
	}
}

// leadsTo reports whether f could send the session where it went: to any of its targets.
func leadsTo(f *forward.Forward, s session) bool {
	return slices.ContainsFunc(f.To, func(t forward.Target) bool {
		addr := t.Addr
		if s.related() {
			if t.IsLocal() {
				addr = s.master.listened.Addr()
			}
			return f.Helper != forward.HelperNone && (addr == s.target.Addr() || addr == s.client.Addr())
		}
		if t.IsLocal() {
			addr = s.listened.Addr()
		}
		return s.target == netip.AddrPortFrom(addr, f.TargetPort(t, s.listened.Port()))
	})
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
