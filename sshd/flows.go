package sshd

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// A channel whose target does not read holds as much as its window, 2 MB, and x/crypto has no way to make that less. So this
// many may stand still for longer than stuckTime, in all clients together; of more than that some are ended, in the client that
// has most.
const (
	maxStuck   = 256
	stuckTime  = 10 * time.Second
	watchEvery = time.Second
)

// A flow is a Session that is open.
type flow struct {
	Session
	client  *client
	waiting atomic.Int64 // since when a write to the target has not returned, in ns; 0: it has
	end     func()       // closes the target
}

func (c *client) begin(kind, target string, end func()) *flow {
	f := &flow{
		Session: Session{Key: c.node.key, User: c.conn.User(), Client: c.from, Kind: kind, Target: target, Since: time.Now()},
		client:  c, end: end,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows[f] = struct{}{}
	return f
}

func (c *client) finish(f *flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.flows, f)
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

// watch ends flows that stand still, when they are too many.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, f := range tooMany(s.allFlows(), now.Add(-stuckTime), maxStuck) {
				f.client.log.Warn("channel ended", "to", f.Target, "why", "too many targets do not read, and this is one")
				f.end()
			}
		}
	}
}

// tooMany picks from the flows that have waited since before a moment those that are to be ended, so that most are left: the
// ones that have waited longest, of whoever has most at that point.
func tooMany(flows []*flow, before time.Time, most int) []*flow {
	stuck := map[*client][]*flow{}
	count := 0
	for _, f := range flows {
		if since := f.waiting.Load(); since != 0 && since < before.UnixNano() && f.end != nil {
			stuck[f.client] = append(stuck[f.client], f)
			count++
		}
	}
	for _, list := range stuck {
		slices.SortFunc(list, func(a, b *flow) int { return cmp.Compare(b.waiting.Load(), a.waiting.Load()) })
	}
	var ended []*flow
	for ; count > most; count-- {
		var worst *client
		for c, list := range stuck {
			if worst == nil || len(list) > len(stuck[worst]) {
				worst = c
			}
		}
		list := stuck[worst]
		ended = append(ended, list[len(list)-1])
		stuck[worst] = list[:len(list)-1]
	}
	return ended
}
