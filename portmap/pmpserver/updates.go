package pmpserver

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// A client that lost a mapping, or has it elsewhere, is told with the answer that it would have got (RFC 6887, section 14.2), a few times
// as nobody says that it came, and not faster than a client that asks all the time makes it.
const (
	updateTimes = 3
	updatePause = 250 * time.Millisecond // doubled each time
	updateBeat  = 10 * time.Millisecond
	updateBurst = 10 // mappings in a beat, each of which is told in two messages at most
	maxHeard    = 1 << 16
)

// heard is where clients have asked from for their mappings. Of those that are not known any more it does without.
type heard struct {
	mu sync.Mutex
	by map[portmap.Key]letter
}

// note remembers who has asked for a mapping and has it, and forgets who has ended it.
func (h *heard) note(a *ask, has bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !has:
	case a.errand == errandMap:
		if h.by == nil || len(h.by) >= maxHeard {
			h.by = map[portmap.Key]letter{}
		}
		h.by[a.key] = a.letter
	default:
		delete(h.by, a.key)
	}
}

func (h *heard) of(key portmap.Key) (letter, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l, ok := h.by[key]
	return l, ok
}

// A notice is what a client is about to be told.
type notice struct {
	portmap.Alteration
	sent int
	next time.Time
}

// update tells clients what befell their mappings, until ctx ends.
func (s *Server) update(ctx context.Context, doors []*door) error {
	var notices []*notice
	boxes := make(map[*door]*outbox, len(doors))
	for _, d := range doors {
		boxes[d] = &outbox{door: d}
	}
	beat := time.NewTimer(0)
	defer beat.Stop()
	for {
		list, more := s.o.Desk.Altered()
		for _, a := range list {
			notices = slices.DeleteFunc(notices, func(n *notice) bool { return n.Key == a.Key })
			notices = append(notices, &notice{Alteration: a})
		}
		notices = s.tell(notices, boxes)
		var wait <-chan time.Time
		if len(notices) > 0 {
			beat.Reset(updateBeat)
			wait = beat.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		case <-wait:
		}
	}
}

// tell sends some of what is due, and returns what is left to tell.
func (s *Server) tell(notices []*notice, boxes map[*door]*outbox) []*notice {
	now, told := time.Now(), 0
	places := s.o.Places()
	left := notices[:0]
	for _, n := range notices {
		if told == updateBurst || now.Before(n.next) {
			left = append(left, n)
			continue
		}
		m, there := s.o.Desk.ByKey(n.Key)
		if there == n.Gone {
			continue // its client has asked meanwhile, or it has ended otherwise
		}
		if !there {
			m = n.Mapping
		}
		told++
		for d, l := range s.addressees(&m, places, boxes) {
			if text := s.updateOf(&m, n.Gone, now); text != nil {
				boxes[d].put(&l, append(boxes[d].body(), text...))
			}
		}
		n.sent, n.next = n.sent+1, now.Add(updatePause<<n.sent)
		if n.sent < updateTimes {
			left = append(left, n)
		}
	}
	clear(notices[len(left):])
	for _, o := range boxes {
		o.flush()
	}
	return left
}

// addressees yields where a client hears of its mapping: the socket that asked for it, and the port at which clients listen for what they
// did not ask for. Only hosts of an interface that is served are told anything.
func (s *Server) addressees(m *portmap.Mapping, places []portmap.Place, boxes map[*door]*outbox) func(func(*door, letter) bool) {
	return func(yield func(*door, letter) bool) {
		client := m.Client
		var at *portmap.Place
		for i := range places {
			if near(&places[i], client) && (at == nil || !client.IsLinkLocalUnicast()) {
				at = &places[i]
			}
		}
		if at == nil {
			return
		}
		l, known := s.heard.of(m.Key)
		if known = known && l.client() == client && place(places, l.index) != nil && boxes[l.door] != nil; known {
			if !yield(l.door, l) || l.to.Port == pcp.ClientPort {
				return
			}
		} else {
			l = letter{index: at.Interface.Index}
			for d := range boxes {
				if d.six == client.Is6() {
					l.door = d
				}
			}
			if l.door == nil {
				return
			}
			for _, n := range at.Addrs {
				if n.Contains(client) {
					l.from = n.Addr().WithZone("").AsSlice()
				}
			}
		}
		l.to = net.UDPAddrFromAddrPort(netip.AddrPortFrom(client, pcp.ClientPort))
		yield(l.door, l)
	}
}

// updateOf is the answer to a renewal that was not asked for; one that is gone has no life left. Nil is that there is nothing to say yet.
func (s *Server) updateOf(m *portmap.Mapping, gone bool, now time.Time) []byte {
	r := pcp.Response{Opcode: pcp.Map, Epoch: s.o.Desk.Epoch()}
	r.Nonce, r.Internal, r.Protocol = m.Nonce, m.Key.Internal.Port(), pcp.ProtocolUDP
	if m.Network == forward.TCP {
		r.Protocol = pcp.ProtocolTCP
	}
	if m.Client != m.Key.Internal.Addr() {
		r.ThirdParty = m.Key.Internal.Addr()
	}
	r.Mapping.External = netip.AddrPortFrom(m.Public.Addr().Unmap(), m.Public.Port())
	if !gone {
		if r.Mapping.External.Addr().IsUnspecified() {
			return nil
		}
		r.Lifetime = remaining(m.Expires, now)
	}
	return pcp.AppendResponse(nil, &r)
}
