package publish

import (
	"cmp"
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A keeper has one wish fulfilled, and keeps it so.
//
//	          ┌───────────── a lease is due, a gateway lost it, the network is another, time to look ─────────────┐
//	round ──► wait ──┴──► wish taken back or the end: every mapping is deleted, within deleteTime
type keeper struct {
	p       *Publisher
	wish    Wish
	items   []item
	chains  map[chainKey]*chain // each is changed by one goroutine at a time
	tries   int                 // rounds one after the other in which something was missing
	retry   time.Time           // when what is missing is asked for again
	strange []*gateway

	mu      sync.Mutex
	results map[chainKey]result
}

// A result is what a chain has come to.
type result struct {
	endpoint Endpoint
	leads    bool // there is an endpoint
	problem  *Problem
	silent   bool
}

// The times of a keeper.
const (
	retryFirst = 5 * time.Second
	retryLast  = 10 * time.Minute
	deleteTime = 3 * time.Second
	roundTime  = 5 * time.Minute
)

func newKeeper(p *Publisher, w Wish) *keeper {
	return &keeper{p: p, wish: w, items: w.items(), chains: map[chainKey]*chain{}, results: map[chainKey]result{}}
}

// run works until ctx ends, and returns when the mappings are deleted or time is up.
func (k *keeper) run(ctx context.Context) {
	defer k.close(ctx)
	for {
		s, changed, err := k.p.survey(ctx)
		if err != nil {
			return
		}
		k.round(ctx, s)
		if ctx.Err() != nil {
			return
		}
		k.p.set(k.state(s))
		select {
		case <-time.After(time.Until(k.next())):
		case <-changed:
			// Not all at the same moment, and one change rarely comes alone.
			select {
			case <-time.After(50*time.Millisecond + rand.N(200*time.Millisecond)):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// round brings all chains up to date.
func (k *keeper) round(ctx context.Context, s *survey) {
	ctx, end := context.WithTimeout(ctx, roundTime)
	defer end()
	var wanted []*gateway
	for _, g := range s.gateways {
		if k.wish.takes(g.local.Addr()) {
			wanted = append(wanted, g)
		}
	}
	again := !k.retry.IsZero() && !time.Now().Before(k.retry)
	if again {
		for _, g := range wanted {
			g.forgetSilence(ctx)
		}
	}
	k.leave(ctx, append(slices.Clone(wanted), k.strange...))
	k.at(ctx, s, wanted, again)
	if !slices.ContainsFunc(k.working(), func(c *chain) bool { return c.gateway.main && c.gateway.addr.Is4() }) {
		k.strange = k.p.strangers(ctx, wanted)
		k.at(ctx, s, k.strange, again)
	} else if len(k.strange) > 0 {
		k.strange = nil
		k.leave(ctx, wanted)
	}
	k.schedule(again)
}

// at keeps the chains of all items at gateways, at all of them at once. What was refused is asked for again only when again says so.
func (k *keeper) at(ctx context.Context, s *survey, gateways []*gateway, again bool) {
	var asking sync.WaitGroup
	for _, g := range gateways {
		var list []*chain // of an item they stand side by side
		for _, it := range k.items {
			for n := range it.networks.Each {
				key := chainKey{g, n, it.internal}
				if k.chains[key] == nil {
					k.chains[key] = &chain{gateway: g, network: n, internal: it.internal, want: it.external}
				}
				if c := k.chains[key]; again || len(c.links) > 0 || c.problem == nil || c.tried != g.generation.Load() {
					list = append(list, c)
				}
			}
		}
		asking.Go(func() {
			k.keepAll(ctx, list)
			if k.note(list) && ctx.Err() == nil { // the others may take their time
				k.p.set(k.state(s))
			}
		})
	}
	asking.Wait()
}

// note takes down what chains have come to, and reports whether one of them leads somewhere.
func (k *keeper) note(list []*chain) (leads bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range list {
		r := result{problem: c.problem, silent: c.silent}
		r.endpoint, r.leads = c.endpoint()
		if !r.leads && c.silent && ReachOf(c.gateway.client) == Public && c.gateway.client.Is4() {
			// Nobody translates, so nobody has to be asked.
			at := netip.AddrPortFrom(c.gateway.client, c.internal)
			r = result{endpoint: Endpoint{Network: c.network, Public: at, Internal: at}, leads: true}
		}
		k.results[chainKey{c.gateway, c.network, c.internal}] = r
		leads = leads || r.leads
	}
	return leads
}

// keepAll keeps the chains of one gateway, one after the other: gateways are small.
func (k *keeper) keepAll(ctx context.Context, list []*chain) {
	life, text := k.wish.lifetime(), k.wish.Describe
	for i := 0; i < len(list); i++ {
		if ctx.Err() != nil {
			return
		}
		c := list[i]
		c.keep(ctx, life, text)
		if c.silent && len(c.links) == 0 { // then the others would only wait
			for _, other := range list {
				if len(other.links) == 0 {
					other.problem, other.silent = c.problem, true
				}
			}
		}
		if i > 0 && list[i-1].internal == c.internal {
			k.together(ctx, list[i-1], c)
		}
	}
}

// together tries once to have both transports of a port at one external port.
func (k *keeper) together(ctx context.Context, tcp, udp *chain) {
	a, b := tcp.public(), udp.public()
	if !a.IsValid() || !b.IsValid() || a.Port() == b.Port() || udp.apart == a.Port() {
		return
	}
	udp.apart = a.Port()
	life, text, want := k.wish.lifetime(), k.wish.Describe, tcp.want
	if udp.release(ctx, 0) != nil {
		return
	}
	udp.want = a.Port()
	udp.keep(ctx, life, text)
	if p := udp.public(); p.IsValid() && p.Port() != a.Port() {
		if tcp.release(ctx, 0) != nil {
			return
		}
		tcp.want = p.Port()
		tcp.keep(ctx, life, text)
		udp.apart = tcp.public().Port()
	}
	// What was wished for first stays the wish: a later round may say that it was not to be had.
	tcp.want, udp.want = want, want
	for _, c := range []*chain{tcp, udp} {
		c.compare()
	}
}

// leave deletes the mappings of gateways that are no longer ours.
func (k *keeper) leave(ctx context.Context, wanted []*gateway) {
	var leaving sync.WaitGroup
	for key, c := range k.chains {
		if slices.Contains(wanted, key.gateway) {
			continue
		}
		delete(k.chains, key)
		k.mu.Lock()
		delete(k.results, key)
		k.mu.Unlock()
		leaving.Go(func() {
			ctx, end := context.WithTimeout(ctx, deleteTime)
			defer end()
			if err := c.release(ctx, 0); err != nil {
				k.p.log.Warn("not all mappings could be deleted in time; they end by themselves", keyWish, k.wish.Name, keyGateway, c.gateway.addr, keyErr, err)
			}
		})
	}
	leaving.Wait()
}

// close deletes everything.
func (k *keeper) close(ctx context.Context) {
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
	defer end()
	k.leave(ctx, nil)
}

// working is the chains that lead somewhere.
func (k *keeper) working() []*chain {
	var list []*chain
	for _, c := range k.chains {
		if len(c.links) > 0 {
			list = append(list, c)
		}
	}
	return list
}

// schedule says when what is missing is asked for again.
func (k *keeper) schedule(again bool) {
	missing := len(k.chains) == 0
	for _, c := range k.chains {
		missing = missing || len(c.links) == 0 || c.problem != nil && c.problem.Kind != KindConflict
	}
	switch {
	case !missing:
		k.tries, k.retry = 0, time.Time{}
	case again || k.retry.IsZero():
		wait := min(retryFirst<<min(k.tries, 10), retryLast)
		k.tries++
		k.retry = time.Now().Add(wait + rand.N(wait/4+1))
	}
}

// next is when the next round is.
func (k *keeper) next() time.Time {
	at := time.Now().Add(k.p.check + rand.N(k.p.check/8+1))
	if !k.retry.IsZero() && k.retry.Before(at) {
		at = k.retry
	}
	for _, c := range k.chains {
		if due := c.due(); !due.IsZero() && due.Before(at) {
			at = due
		}
	}
	return at
}

// state is what the chains have come to.
func (k *keeper) state(s *survey) State {
	k.mu.Lock()
	defer k.mu.Unlock()
	st := State{Name: k.wish.Name, Problem: s.problem}
	var problems, other *Problem                        // of IPv4, and of IPv6
	global, global4 := map[item]bool{}, map[item]bool{} // ports that the internet reaches, and by IPv4
	for key, r := range k.results {
		if r.leads {
			st.Endpoints = append(st.Endpoints, r.endpoint)
			if at := (item{networks: key.network, internal: key.internal}); r.endpoint.Global() {
				global[at] = true
				if key.gateway.addr.Is4() {
					global4[at] = true
				}
			}
		}
		if key.gateway.addr.Is4() {
			problems = worse(problems, r.problem)
		} else {
			other = worse(other, r.problem)
		}
	}
	wanted := 0
	for _, it := range k.items {
		for range it.networks.Each {
			wanted++
		}
	}
	switch {
	case len(global) == wanted:
		st.Phase = Open
	case len(st.Endpoints) > 0:
		st.Phase = Limited
	default:
		st.Phase = Failed
	}
	if len(global4) == wanted { // then silence elsewhere is nothing to worry about: many have IPv6 and no way to open it
		problems, other = heard(problems), heard(other)
	}
	st.Problem = worse(worse(st.Problem, problems), other)
	if st.Phase != Open && st.Problem == nil && len(s.gateways) > 0 && len(k.results) == 0 {
		st.Problem = &Problem{Kind: KindLocal, Text: "it listens on " + k.wish.Addr.String() + ", where no gateway leads to", Hint: hintLocal}
	}
	slices.SortFunc(st.Endpoints, func(a, b Endpoint) int {
		return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Internal.Port(), b.Internal.Port()), cmp.Compare(a.Network, b.Network), a.Public.Compare(b.Public))
	})
	return st
}

// heard is p, unless it is that nobody answers.
func heard(p *Problem) *Problem {
	if p != nil && p.Kind == KindSilent {
		return nil
	}
	return p
}

// rank puts what the internet reaches first, and IPv4 before IPv6.
func rank(e Endpoint) int {
	n := 0
	if !e.Global() {
		n += 2
	}
	if e.Public.Addr().Is6() {
		n++
	}
	return n
}
