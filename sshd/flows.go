package sshd

import (
	"cmp"
	"context"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead-net/fairlead/internal/sshwire"
)

// A channel whose target does not read holds what has come for it: as much as its window. sshwire bounds all windows of a
// connection together, x/crypto has 2 MB for each channel; but clients are many. So those that stand still for longer than
// stuckTime may hold so much, in all clients together; of more than that some are ended, in the client whose hold most.
const (
	maxStuck    = 512 << 20
	plainWindow = 2 << 20 // of x/crypto
	stuckTime   = 10 * time.Second
	watchEvery  = time.Second
)

// A flow is a Session.
type flow struct {
	Session
	client  *client
	over    bool                 // guarded by the client's mutex
	waiting atomic.Int64         // since when a write to the target has not returned, in ns; 0: it has
	load    atomic.Pointer[load] // what carries it

	// These belong to watch.
	stuck int64  // since when nothing has moved although there is something to be moved, in ns; 0: it does
	holds int    // bytes
	moved uint64 // to the target
}

// A load is what a flow's bytes are carried by.
type load interface{ Kill() }

// closing is the load of a flow between goroutines, which end with the target.
type closing struct{ target net.Conn }

func (c closing) Kill() { _ = c.target.Close() }

// newFlow makes a flow that has not begun.
func (c *client) newFlow(kind, target string) *flow {
	return &flow{
		Session: Session{Key: c.node.key, User: c.peer.User(), Client: c.from, Kind: kind, Target: target, Since: time.Now()},
		client:  c,
	}
}

// begin lists the flow, unless it has ended already. load is what can end it, or nil.
func (f *flow) begin(l load) {
	if l != nil {
		f.load.Store(&l)
	}
	c := f.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.over {
		c.flows[f] = struct{}{}
	}
}

func (f *flow) finish() {
	c := f.client
	c.mu.Lock()
	defer c.mu.Unlock()
	f.over = true
	delete(c.flows, f)
}

// look notes since when the flow stands still, and how much it holds.
func (f *flow) look(now time.Time) {
	if since := f.waiting.Load(); since != 0 {
		f.stuck, f.holds = since, plainWindow
		return
	}
	since := f.stuck
	f.stuck, f.holds = 0, 0
	l := f.load.Load()
	if l == nil {
		return
	}
	if ca, ok := (*l).(*sshwire.Carried); ok {
		moved := ca.Moved(sshwire.ToSocket)
		if f.holds = ca.Held(); f.holds > 0 {
			f.stuck = now.UnixNano()
			if since != 0 && moved == f.moved {
				f.stuck = since
			}
		}
		f.moved = moved
	}
}

// allFlows is what is open in all clients.
func (s *Server) allFlows() []*flow {
	s.mu.Lock()
	clients := slices.Collect(maps.Keys(s.clients))
	s.mu.Unlock()
	var list []*flow
	for _, c := range clients {
		c.mu.Lock()
		list = slices.AppendSeq(list, maps.Keys(c.flows))
		c.mu.Unlock()
	}
	return list
}

// Sessions is what is open now, the oldest first.
func (s *Server) Sessions() []Session {
	var list []Session
	for _, f := range s.allFlows() {
		list = append(list, f.Session)
	}
	slices.SortFunc(list, func(a, b Session) int { return a.Since.Compare(b.Since) })
	return list
}

// watch ends flows that stand still, when they hold too much.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, f := range tooMany(s.allFlows(), now, maxStuck) {
				f.client.log.Warn("channel ended", "to", f.Target, "why", "too many targets do not read, and this is one")
				(*f.load.Load()).Kill()
			}
		}
	}
}

// tooMany picks from the flows that stand still for long those that are to be ended, so that the others hold no more than most:
// the ones that have waited longest, of whoever's hold most at that point.
func tooMany(flows []*flow, now time.Time, most int) []*flow {
	type share struct {
		flows []*flow
		holds int
	}
	shares := map[*client]*share{}
	total := 0
	for _, f := range flows {
		if f.look(now); f.stuck == 0 || f.stuck >= now.Add(-stuckTime).UnixNano() || f.load.Load() == nil {
			continue
		}
		s := shares[f.client]
		if s == nil {
			s = &share{}
			shares[f.client] = s
		}
		s.flows = append(s.flows, f)
		s.holds += f.holds
		total += f.holds
	}
	for _, s := range shares {
		slices.SortFunc(s.flows, func(a, b *flow) int { return cmp.Compare(b.stuck, a.stuck) })
	}
	var ended []*flow
	for total > most {
		var worst *share
		for _, s := range shares {
			if worst == nil || s.holds > worst.holds {
				worst = s
			}
		}
		last := len(worst.flows) - 1
		f := worst.flows[last]
		worst.flows = worst.flows[:last]
		worst.holds -= f.holds
		total -= f.holds
		ended = append(ended, f)
	}
	return ended
}
