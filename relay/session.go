package relay

import (
	"net/netip"
	"strconv"
	"sync/atomic"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head"
)

// A session is what streams and flows have in common.
type session struct {
	id      uint64
	task    *task
	f       *forward.Forward // as it was when the session began
	head    head.Head        // of f, where that is a dynamic forward
	place   *place           // where it came in
	whole   *ftpControl      // that it is a data connection of; nil: a session of its own
	network forward.Networks
	local   netip.Addr     // this host's address that the client used, where it is known
	peer    netip.Addr     // whom from and except are about; zero for a client of a unix socket
	client  netip.AddrPort // peer, or whom a trusted peer speaks for
	host    string         // whom the client called by name, where that matters
	since   int64          // Unix time, nanoseconds
	oneDoor bool           // the node that dials leads to one place, whatever the address
	in, out atomic.Uint64  // bytes carried
	earlier [2]uint64      // and those that an earlier process carried: from the client, from the target

	upload, download limit // from the client, and to it; set when the session enters

	// Guarded by task.mu.
	kept    bool            // began with source = "keep", here or in an earlier process
	carried bool            // the target has been reached
	target  *forward.Target // which of the forward's it was
}

// A live is a session as its task keeps it.
type live interface {
	base() *session
	bytes() (in, out uint64) // carried by now
	where() string           // the address that was dialled; called under task.mu
	kill()                   // ends it abruptly; may be called more than once, and from anywhere
}

func (s *session) base() *session { return s }

// clientText is the client as people see it.
func (s *session) clientText() string {
	if !s.client.IsValid() {
		return "unix"
	}
	return s.client.String()
}

// covered reports whether f would take the session in, too: whoever changes a forward so that it no longer does wants the
// session ended.
func (s *session) covered(f *forward.Forward) bool {
	if f.ListensAt() != s.place.node || f.Listen.Path != s.place.path {
		return false
	}
	if s.place.path != "" {
		return true
	}
	addr := f.Listen.Addr
	here := !addr.IsValid() || !s.local.IsValid() || addr == s.local.WithZone("") || addr.IsUnspecified() && addr.Is4() == s.local.Is4()
	return here && f.Listen.Networks&s.network != 0 && f.Listen.Ports.Contains(s.place.port) &&
		(f.Interface == "" || f.Interface == s.place.iface) && f.Admits(s.peer) && f.Serves(s.host)
}

// sessionID and parseID turn the number of a session into what people see and back. Carriers tell their ids apart by the
// first letter.
func sessionID(n uint64) string { return "r" + strconv.FormatUint(n, 10) }

func parseID(id string) (uint64, bool) {
	if len(id) < 2 || id[0] != 'r' {
		return 0, false
	}
	n, err := strconv.ParseUint(id[1:], 10, 64)
	return n, err == nil && sessionID(n) == id
}
