package publish

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// Options is what a Publisher works with. All of it may be left out.
type Options struct {
	Network Network            // nil: System{}
	Secret  []byte             // the same one lets a process have the mappings of the one before it; empty: a new one
	Check   time.Duration      // between two looks whether everything is still there; 0: DefaultCheck
	Only    []portmap.Protocol // that are spoken; none: all
	Log     *slog.Logger       // nil: none
}

// DefaultCheck is how often gateways are looked at.
const DefaultCheck = time.Minute

// watchEvery is how often this host's own routes and addresses are looked at.
const watchEvery = 5 * time.Second

// A Publisher has wishes fulfilled. Its methods may be called from anywhere.
type Publisher struct {
	tools
	check time.Duration
	kick  chan struct{} // capacity 1: the wishes are others

	mu       sync.Mutex
	wishes   map[string]Wish
	refused  map[string]State // of wishes that cannot be
	states   map[string]State
	changed  chan struct{}           // closed and replaced when a state is another
	current  *survey                 // nil: not yet
	resurvey chan struct{}           // closed and replaced when current is another, or a gateway lost its mappings
	guests   map[netip.Addr]*gateway // who is no default route's gateway, and says that it is one
}

// New returns a Publisher that Run has yet to start.
func New(o Options) *Publisher {
	p := &Publisher{
		tools: tools{net: o.Network, log: o.Log, secret: o.Secret, only: o.Only}, check: o.Check, kick: make(chan struct{}, 1),
		wishes: map[string]Wish{}, states: map[string]State{}, changed: make(chan struct{}), resurvey: make(chan struct{}),
		guests: map[netip.Addr]*gateway{},
	}
	if p.net == nil {
		p.net = System{}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if len(p.secret) == 0 {
		p.secret = []byte(rand.Text())
	}
	if p.check <= 0 {
		p.check = DefaultCheck
	}
	p.lost = p.lostBy
	return p
}

// Apply replaces all wishes. It does not wait; a wish that is the same as before is left alone. The error names the wishes that
// cannot be, which are asked of nobody.
func (p *Publisher) Apply(wishes []Wish) error {
	var errs []error
	next := make(map[string]Wish, len(wishes))
	refused := map[string]State{}
	for _, w := range wishes {
		err := w.Validate()
		switch {
		case err == nil && len(next) >= MaxWishes:
			err = fmt.Errorf("more than %d wishes", MaxWishes)
		case err == nil && next[w.Name].Name != "":
			err = errors.New("there are two wishes of this name")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("publish %q: %w", w.Name, err))
			if next[w.Name].Name == "" {
				refused[w.Name] = State{Name: w.Name, Phase: Failed, Problem: &Problem{Kind: KindFailed, Text: err.Error()}, Since: time.Now()}
			}
			continue
		}
		if w.Describe == "" {
			w.Describe = "fairlead " + w.Name
		}
		next[w.Name] = w
	}
	p.mu.Lock()
	p.wishes, p.refused = next, refused
	for name := range p.states {
		if _, wanted := next[name]; !wanted {
			delete(p.states, name)
		}
	}
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return errors.Join(errs...)
}

// State is what has become of a wish, and whether there is one of this name.
func (p *Publisher) State(name string) (State, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.wishes[name]; !ok {
		st, ok := p.refused[name]
		return st, ok
	}
	st := p.states[name]
	st.Name = name
	return st, true
}

// States is the states of all wishes, by name.
func (p *Publisher) States() []State {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]State, 0, len(p.wishes))
	for name := range p.wishes {
		st := p.states[name]
		st.Name = name
		list = append(list, st)
	}
	for _, st := range p.refused {
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Changed is closed when some state is another than now. Leases that were renewed change a state.
func (p *Publisher) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Run fulfils the wishes until ctx ends; then it deletes what it has mapped, in bounded time.
func (p *Publisher) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	keepers := map[string]*running{}
	defer func() {
		for _, r := range keepers {
			r.stop()
		}
		for _, r := range keepers {
			<-r.done
		}
	}()
	watching := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		}
		p.mu.Lock()
		wishes := p.wishes
		p.mu.Unlock()
		if len(wishes) > 0 && !watching { // nobody listens to the network before something is wished for
			watching = true
			tasks.Go(func() { p.watch(ctx) })
			tasks.Go(func() { p.patrol(ctx) })
		}
		for name, r := range keepers {
			if w, wanted := wishes[name]; !wanted || !w.Equal(r.wish) {
				r.stop()
				if !wanted {
					delete(keepers, name)
					tasks.Go(func() { <-r.done })
				}
			}
		}
		for name, w := range wishes {
			before := keepers[name]
			if before != nil && before.wish.Equal(w) {
				continue
			}
			keepers[name] = p.start(ctx, w, before)
		}
	}
}

// running is a keeper that runs.
type running struct {
	wish Wish
	stop context.CancelFunc
	done chan struct{}
}

// start starts a keeper, which waits for the one before it to have cleaned up.
func (p *Publisher) start(ctx context.Context, w Wish, before *running) *running {
	ctx, stop := context.WithCancel(ctx)
	r := &running{w, stop, make(chan struct{})}
	go func() {
		defer close(r.done)
		defer stop()
		if before != nil {
			<-before.done
		}
		newKeeper(p, w).run(ctx)
	}()
	return r
}

// survey is what is known of the network, as soon as that is anything, and a channel that is closed when it is time to look again.
func (p *Publisher) survey(ctx context.Context) (*survey, <-chan struct{}, error) {
	for {
		p.mu.Lock()
		s, changed := p.current, p.resurvey
		p.mu.Unlock()
		if s != nil {
			return s, changed, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
}

// set takes down the state of a wish. The keeper of a wish that was taken back has nothing to say any more.
func (p *Publisher) set(st State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, wanted := p.wishes[st.Name]; !wanted {
		return
	}
	before := p.states[st.Name]
	st.Since = before.Since
	if before.Phase != st.Phase {
		st.Since = time.Now()
	}
	if same(before, st) {
		return
	}
	p.states[st.Name] = st
	close(p.changed)
	p.changed = make(chan struct{})
	p.report(before, st)
}

func same(a, b State) bool {
	problem := a.Problem == b.Problem || a.Problem != nil && b.Problem != nil && *a.Problem == *b.Problem
	return a.Phase == b.Phase && problem && slices.EqualFunc(a.Endpoints, b.Endpoints, func(e, f Endpoint) bool {
		return sameEndpoint(e, f) && e.Expires.Equal(f.Expires) && e.Verified == f.Verified
	})
}

func sameEndpoint(e, f Endpoint) bool {
	return e.Network == f.Network && e.Public == f.Public && e.Internal == f.Internal && e.Protocol == f.Protocol && slices.Equal(e.Gateways, f.Gateways)
}

// report logs what is new for a person: not that a lease was renewed.
func (p *Publisher) report(before, now State) {
	why := ""
	if now.Problem != nil {
		why = now.Problem.Text
	}
	if before.Phase == now.Phase && slices.EqualFunc(before.Endpoints, now.Endpoints, sameEndpoint) {
		return
	}
	if len(now.Endpoints) == 0 {
		p.log.Warn("not published", keyWish, now.Name, keyWhy, why)
		return
	}
	for _, e := range now.Endpoints {
		p.log.Info("published", keyWish, now.Name, keyPublic, e.Public, "network", e.Network, keyProtocol, e.Protocol, keyGateway, e.Gateways, keyWhy, why)
	}
}

// lostEvery is the least time between two losses of a gateway that are believed. One restart shows in several ways within moments,
// and a liar could show one all the time.
const lostEvery = time.Second

// lostBy is told that a gateway may have lost its mappings.
func (p *Publisher) lostBy(g *gateway, why string) {
	g.mu.Lock()
	wait := lostEvery - time.Since(g.lostAt)
	if g.lostAt.IsZero() {
		wait = 0
	}
	pending := g.losing
	if wait > 0 {
		g.losing = true
	} else {
		g.lostAt = time.Now()
	}
	g.mu.Unlock()
	switch {
	case pending:
	case wait > 0:
		time.AfterFunc(wait, func() {
			g.mu.Lock()
			g.losing = false
			g.lostAt = time.Now()
			g.mu.Unlock()
			p.makeAnew(g, why)
		})
	default:
		p.makeAnew(g, why)
	}
}

func (p *Publisher) makeAnew(g *gateway, why string) {
	p.log.Info("the gateway may have lost its mappings, which are made anew", keyGateway, g.addr, keyWhy, why)
	g.generation.Add(1)
	p.wake()
}

// wake has all keepers look.
func (p *Publisher) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.resurvey)
	p.resurvey = make(chan struct{})
}

// strangers is who else says that it is a gateway, in the networks of gateways that did not help.
func (p *Publisher) strangers(ctx context.Context, gateways []*gateway) []*gateway {
	var list []*gateway
	for _, g := range gateways {
		if g.addr.Is6() {
			continue
		}
		f, err := g.search.get(ctx, g.probeSSDP)
		if err != nil {
			continue
		}
		for _, s := range f.others {
			if slices.ContainsFunc(gateways, func(o *gateway) bool { return o.addr == s.addr }) {
				continue
			}
			p.mu.Lock()
			guest := p.guests[s.addr]
			if (guest == nil || guest.local != g.local) && len(p.guests) < 4*maxStrangers {
				guest = newGateway(p.tools, s.addr, g.local)
				p.guests[s.addr] = guest
			}
			p.mu.Unlock()
			if guest != nil && !slices.Contains(list, guest) {
				list = append(list, guest)
			}
		}
	}
	return list
}
