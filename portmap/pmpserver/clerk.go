package pmpserver

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// A clerk has in hand what the Desk is asked for at once, and the answers.
type clerk struct {
	*Server
	out      map[*door]*outbox
	requests []portmap.Request
	asks     []*ask              // of requests, in their order
	waiting  map[portmap.Key]int // the last request of a key

	deletions []*ask
	leaving   map[portmap.Key]bool // of deletions
}

func newClerk(s *Server, doors ...*door) *clerk {
	c := &clerk{Server: s, out: map[*door]*outbox{}, waiting: map[portmap.Key]int{}, leaving: map[portmap.Key]bool{}}
	for _, d := range doors {
		c.out[d] = &outbox{door: d}
	}
	return c
}

// clerk asks the Desk for what waits, until ctx ends. Whatever comes meanwhile is the next batch.
func (s *Server) clerk(ctx context.Context, doors []*door) error {
	c := newClerk(s, doors...)
	var asks []*ask
	for {
		if asks = s.queue.take(ctx, asks[:0]); len(asks) == 0 {
			return nil
		}
		c.serve(ctx, asks)
		clear(asks)
	}
}

// serve decides a batch: first the deletions, which can only make room, then the mappings. Where one of either kind may mean what one
// of the other does, they stay in order.
func (c *clerk) serve(ctx context.Context, asks []*ask) {
	for _, a := range asks {
		switch a.errand {
		case errandMap:
			if c.leaving[a.key] {
				c.settle(ctx)
			}
			c.add(ctx, a)
		case errandAll:
			c.settle(ctx)
			c.answer(ctx, a, portmap.Result{Err: c.unmap(ctx, a)})
		default:
			if _, ok := c.waiting[a.key]; ok || c.leaving[a.key] {
				c.settle(ctx)
			}
			c.deletions, c.leaving[a.key] = append(c.deletions, a), true
		}
	}
	c.settle(ctx)
	for _, o := range c.out {
		c.seen.answers.Add(uint64(o.flush()))
	}
}

// add puts a mapping to the others. Filters add to those that the mapping has by then.
func (c *clerk) add(ctx context.Context, a *ask) {
	var before []netip.Prefix
	if i, ok := c.waiting[a.key]; ok {
		before = c.requests[i].From
	} else if a.protocol == portmap.PCP {
		if m, ok := c.o.Desk.ByKey(a.key); ok {
			before = m.From
		}
	}
	request, err := a.request(before)
	if err == nil && len(a.pcp.Filters) > 0 {
		err = c.fewLengths(&request)
	}
	if err != nil {
		c.answer(ctx, a, portmap.Result{Err: err})
		return
	}
	c.waiting[a.key] = len(c.requests)
	c.requests, c.asks = append(c.requests, request), append(c.asks, a)
}

// lengths is how many different lengths of prefixes the filters of one client may have: for each there is a place of its own where a
// packet is looked up.
const lengths = 4

// fewLengths refuses filters by which a client would have more lengths than that, in all its mappings.
func (c *clerk) fewLengths(r *portmap.Request) error {
	seen := map[int]bool{}
	count := func(of *portmap.Request) {
		for _, p := range of.From {
			seen[p.Bits()] = true
		}
	}
	count(r)
	if len(seen) > lengths {
		return pcp.ExcessiveRemotePeers
	}
	for _, m := range c.o.Desk.Of(r.Client) {
		if _, replaced := c.waiting[m.Key]; !replaced && m.Key != r.Key {
			count(&m.Request)
		}
	}
	for key, i := range c.waiting {
		if waits := &c.requests[i]; key != r.Key && waits.Client == r.Client {
			count(waits)
		}
	}
	if len(seen) > lengths {
		return pcp.ExcessiveRemotePeers
	}
	return nil
}

// settle has the Desk do what waits.
func (c *clerk) settle(ctx context.Context) {
	c.delete(ctx)
	if len(c.requests) == 0 {
		return
	}
	results := c.o.Desk.Map(ctx, c.requests)
	for i, a := range c.asks {
		result := portmap.Result{Err: portmap.ErrFailed}
		if i < len(results) {
			result = results[i]
		}
		c.answer(ctx, a, result)
	}
	clear(c.requests)
	clear(c.asks)
	clear(c.waiting)
	c.requests, c.asks = c.requests[:0], c.asks[:0]
}

// deletedAtOnce is how many deletions the Desk is asked for at the same time, which it does in one change of the system.
const deletedAtOnce = 64

func (c *clerk) delete(ctx context.Context) {
	for some := range slices.Chunk(c.deletions, deletedAtOnce) {
		errs := make([]error, len(some))
		var asking sync.WaitGroup
		for i, a := range some {
			asking.Go(func() { errs[i] = c.unmap(ctx, a) })
		}
		asking.Wait()
		for i, a := range some {
			c.answer(ctx, a, portmap.Result{Err: errs[i]})
		}
	}
	clear(c.deletions)
	clear(c.leaving)
	c.deletions = c.deletions[:0]
}

// unmap ends what a deletion is of. Whose own it is needs no nonce: clients draw a new one for each request. Who deletes for
// another host shows that it was the one who asked (RFC 6887, section 11.3).
func (c *clerk) unmap(ctx context.Context, a *ask) error {
	if a.errand == errandAll {
		return c.o.Desk.UnmapAll(ctx, a.client(), a.key.Network, portmap.NATPMP)
	}
	if a.client() != a.key.Internal.Addr() {
		if m, ok := c.o.Desk.ByKey(a.key); ok && m.Nonce != a.pcp.Nonce {
			return portmap.ErrNonce
		}
	}
	return c.o.Desk.Unmap(ctx, a.client(), a.key)
}

// answer tells a client the result. What failed because the server is about to end is not told: the next one will be asked again.
func (c *clerk) answer(ctx context.Context, a *ask, result portmap.Result) {
	// Before it has the answer: it may send the very same request as soon as that is there.
	c.queue.done(a)
	if result.Err != nil && ctx.Err() != nil {
		return
	}
	if a.protocol == portmap.PCP {
		c.heard.note(a, result.Err == nil)
	}
	o := c.out[a.door]
	outside, _ := c.o.Desk.External()
	o.put(&a.letter, a.answer(o.body(), result, c.o.Desk.Epoch(), outside, time.Now()))
	if o.full() {
		c.seen.answers.Add(uint64(o.flush()))
	}
}
