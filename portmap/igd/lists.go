package igd

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// How long, and for how many clients, the list of a client's mappings is kept while it is read entry by entry.
const (
	listTime = 2 * time.Second
	maxLists = 16
)

// lists are what clients are reading. An entry is asked for by its number, and a list of thousands would be made anew for each.
type lists struct {
	mu   sync.Mutex
	kept []list // the newest last
}

type list struct {
	client   netip.Addr
	at       time.Time
	changes  uint32 // of mappings, when it was made
	mappings []portmap.Mapping
}

// get is the mappings that a client may see, in a fixed order: as they were when it began to read, if it goes on and nobody has changed
// any by this server; else as they are now.
func (l *lists) get(s *Server, client netip.Addr, goOn bool) []portmap.Mapping {
	now, changes := time.Now(), s.events.count()
	l.mu.Lock()
	i := slices.IndexFunc(l.kept, func(k list) bool { return k.client == client })
	if i >= 0 {
		if k := l.kept[i]; goOn && k.changes == changes && now.Sub(k.at) < listTime {
			l.mu.Unlock()
			return k.mappings
		}
		l.kept = slices.Delete(l.kept, i, i+1)
	}
	l.mu.Unlock()
	made := list{client, now, changes, s.visible(client)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) >= maxLists {
		l.kept = slices.Delete(l.kept, 0, 1)
	}
	l.kept = append(l.kept, made)
	return made.mappings
}

// visible is the mappings of IPv4 that a client may see: its own, or all where the operator lets clients act for others.
func (s *Server) visible(client netip.Addr) []portmap.Mapping {
	if s.Spec.ThirdParty {
		client = netip.Addr{}
	}
	return slices.DeleteFunc(s.Desk.Of(client), func(m portmap.Mapping) bool { return !m.Internal.Addr().Is4() })
}
