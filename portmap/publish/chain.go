package publish

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// A link is a mapping at one gateway.
type link struct {
	g          *gateway
	m          mapper
	ask        ask
	grant      grant
	made       time.Time
	renew      time.Time
	generation uint64 // of g when it was made
	verified   bool
}

func (l *link) expires() time.Time {
	if l.grant.lifetime == 0 {
		return time.Time{}
	}
	return l.made.Add(l.grant.lifetime)
}

// minRenew keeps a gateway that grants seconds from being asked all the time.
const minRenew = 10 * time.Second

// settle takes down when the mapping was made, and when it is renewed: between half and five eighths of its life (RFC 6887, section
// 11.2.1), drawn so that not all of a network ask at the same moment.
func (l *link) settle(g grant) {
	l.grant, l.made, l.generation = g, time.Now(), l.g.generation.Load()
	life := g.lifetime
	if life == 0 || life > MaxLifetime {
		life = l.ask.lifetime // for ever is looked at as often as what was asked for
	}
	l.renew = l.made.Add(max(life/2+rand.N(life/8+1), minRenew))
}

// A chain is what leads to one port of this host by one transport: a mapping at the gateway next to it, and one at each gateway
// beyond as long as the addresses are not public.
//
//	internal ◄── links[0] at gateway ◄── links[1] at the gateway beyond ◄── the internet
type chain struct {
	gateway  *gateway
	network  forward.Networks
	internal uint16
	want     uint16 // the external port; 0: any
	links    []link
	problem  *Problem
	silent   bool   // nobody answered at the last try
	tried    uint64 // the generation of gateway at the last try
	apart    uint16 // the port that the other transport has, which this one could not have either
}

// A chainKey names a chain of a wish.
type chainKey struct {
	gateway  *gateway
	network  forward.Networks
	internal uint16
}

// keep makes what is missing, renews what is due, and looks whether the rest is still there. It leaves what is wrong in problem.
func (c *chain) keep(ctx context.Context, lifetime time.Duration, describe string) {
	g, client, internal := c.gateway, c.gateway.client, c.internal
	c.problem, c.silent, c.tried = nil, false, g.generation.Load()
	for level := 0; ; level++ {
		l, err := c.at(ctx, level, g, ask{c.network, client, internal, c.want, lifetime, describe})
		if err != nil {
			if c.release(ctx, level+1) == nil {
				c.cut(level)
				c.fail(ctx, level, g, err)
			}
			return
		}
		external := l.grant.public
		if ReachOf(external.Addr()) == Public {
			_ = c.release(ctx, level+1) // at the end, once more
			break
		}
		next, err := g.beyond(ctx, external.Addr())
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			_ = c.release(ctx, level+1)
			c.problem = worse(c.problem, notPublic(g.addr, external.Addr(), err))
			break
		}
		g, client, internal = next, external.Addr(), external.Port()
	}
	c.compare()
}

// compare says so when another port was taken than was wished for.
func (c *chain) compare() {
	got := c.public()
	if c.want == 0 || !got.IsValid() || got.Port() == c.want {
		return
	}
	g := c.links[len(c.links)-1].g
	c.problem = worse(c.problem, &Problem{
		Kind: KindConflict, Gateway: g.addr, Taken: got.Port(),
		Text: fmt.Sprintf("port %d is not to be had at the gateway %s; it gave %d instead", c.want, g.addr, got.Port()),
	})
}

// fail takes down why there is no mapping at a level.
func (c *chain) fail(ctx context.Context, level int, g *gateway, err error) {
	if level > 0 {
		last := c.links[level-1]
		c.problem = worse(c.problem, notPublic(last.g.addr, last.grant.public.Addr(), fmt.Errorf("%s", asProblem(g, err).Text)))
		return
	}
	c.problem = asProblem(g, err)
	c.silent = c.problem.Kind == KindSilent
	if c.problem.Kind == KindNoExternal && g.addr.Is4() {
		// Some do not map at all when their own address is private. The router behind them shows it.
		if hop, err := g.net.Hop(ctx, g.local.Addr(), g.level+2); err == nil && hop != g.addr {
			c.problem = behind(c.problem, g.addr, hop)
		}
	}
}

// at is the link at a level, made or renewed where that is due. A link that could not be renewed is kept as long as it lasts.
func (c *chain) at(ctx context.Context, level int, g *gateway, a ask) (*link, error) {
	var before *link
	if level < len(c.links) {
		before = &c.links[level]
		if before.g != g || before.ask.client != a.client || before.ask.internal != a.internal {
			if err := c.release(ctx, level); err != nil {
				return nil, err
			}
			before = nil
		}
	}
	if before == nil {
		return c.make(ctx, level, g, a)
	}
	l := before
	l.ask.describe, l.ask.lifetime = a.describe, a.lifetime
	due := !time.Now().Before(l.renew) || l.generation != g.generation.Load()
	if !due {
		if l.m.protocol() != portmap.UPnP { // of the others, clocks tell
			return l, nil
		}
		if held, err := l.m.holds(ctx, l.ask, l.grant); held || err != nil && !silent(err) {
			return l, nil
		}
		g.log.Info("a mapping is gone from the gateway and is made anew", keyGateway, g.addr, keyPublic, l.grant.public)
	}
	granted, err := l.m.add(ctx, l.ask, &l.grant) // that it is cut short does no harm: it is there already
	if err == nil {
		l.settle(granted)
		l.verify(ctx)
		return l, nil
	}
	if ctx.Err() != nil {
		return l, nil
	}
	g.log.Warn("a mapping could not be renewed", keyGateway, g.addr, keyProtocol, l.m.protocol(), keyPublic, l.grant.public, keyErr, err)
	if silent(err) {
		g.forget() // it may have restarted as something else
	}
	a.external = l.grant.public.Port()
	if made, err := c.make(ctx, level, g, a); err == nil {
		return made, nil
	}
	if end := l.expires(); l.generation == g.generation.Load() && (end.IsZero() || time.Now().Before(end)) {
		l.verified = false
		l.renew = time.Now().Add(minRenew + rand.N(minRenew))
		c.problem = worse(c.problem, asProblem(g, err))
		return l, nil
	}
	return nil, err
}

// make asks the gateway by each of its protocols until one grants.
func (c *chain) make(ctx context.Context, level int, g *gateway, a ask) (*link, error) {
	var errs []error
	var made *link
	err := g.mappers(ctx, func(m mapper) bool {
		// Who ends in the middle would not know what was granted, and leave it there.
		adding, end := linger(ctx)
		granted, err := m.add(adding, a, nil)
		end()
		if err != nil {
			errs = append(errs, err)
			return ctx.Err() == nil
		}
		made = &link{g: g, m: m, ask: a}
		made.settle(granted)
		return false
	})
	switch {
	case made == nil && err != nil:
		return nil, err
	case made == nil:
		return nil, ofRefusals(g.addr, g.only, errs)
	}
	made.verify(ctx)
	c.links = append(c.links[:level], append([]link{*made}, c.links[min(level+1, len(c.links)):]...)...)
	return &c.links[level], nil
}

// lingerTime is how long an answer that is under way is waited for at the end.
const lingerTime = time.Second

// linger is a context that ends lingerTime after ctx.
func linger(ctx context.Context) (context.Context, context.CancelFunc) {
	late, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(lingerTime):
			end()
		case <-late.Done():
		}
	})
	return late, func() {
		stop()
		end()
	}
}

// verify asks the gateway whether it has what it granted.
func (l *link) verify(ctx context.Context) {
	held, err := l.m.holds(ctx, l.ask, l.grant)
	l.verified = held && err == nil
	if err == nil && !held {
		l.g.log.Warn("the gateway granted a mapping and does not have it", keyGateway, l.g.addr, keyProtocol, l.m.protocol(), keyPublic, l.grant.public)
	}
}

// public is the outermost address and port, not valid while there is none.
func (c *chain) public() netip.AddrPort {
	if len(c.links) == 0 {
		return netip.AddrPort{}
	}
	return c.links[len(c.links)-1].grant.public
}

// cut forgets the links from a level on, whose gateways do not have them.
func (c *chain) cut(level int) { c.links = c.links[:min(level, len(c.links))] }

// release deletes the links from a level on, the outermost first. The error is that of ctx: what was not deleted by then is still
// there, to be tried again.
func (c *chain) release(ctx context.Context, level int) error {
	for i := len(c.links) - 1; i >= level; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		l := &c.links[i]
		err := l.remove(ctx)
		if ctx.Err() != nil && err != nil {
			return ctx.Err()
		}
		c.cut(i)
		if err != nil {
			l.g.log.Info("a mapping could not be deleted; it ends by itself", keyGateway, l.g.addr, keyPublic, l.grant.public, keyErr, err)
		}
	}
	return nil
}

// remove deletes the mapping. A gateway that does not answer may have started anew since, and serve UPnP at another port.
func (l *link) remove(ctx context.Context) error {
	err := l.m.remove(ctx, l.ask, l.grant)
	if err == nil || !silent(err) || l.m.protocol() != portmap.UPnP || ctx.Err() != nil {
		return err
	}
	l.g.search.forget()
	l.g.igd.forget()
	m, probeErr := l.g.igd.get(ctx, l.g.probeIGD)
	if probeErr != nil || m == nil || !m.usable(l.ask.client) {
		return err
	}
	return m.remove(ctx, l.ask, l.grant)
}

// due is when keep has something to do, zero when there are no links.
func (c *chain) due() time.Time {
	var first time.Time
	for i := range c.links {
		if l := &c.links[i]; first.IsZero() || l.renew.Before(first) {
			first = l.renew
		}
	}
	return first
}

// endpoint is what the chain comes to.
func (c *chain) endpoint() (Endpoint, bool) {
	if len(c.links) == 0 {
		return Endpoint{}, false
	}
	e := Endpoint{
		Network: c.network, Public: c.public(), Internal: netip.AddrPortFrom(c.gateway.local.Addr(), c.internal),
		Protocol: c.links[0].m.protocol(), Verified: true,
	}
	for i := range c.links {
		l := &c.links[i]
		e.Gateways = append(e.Gateways, l.g.addr)
		e.Verified = e.Verified && l.verified
		if end := l.expires(); !end.IsZero() && (e.Expires.IsZero() || end.Before(e.Expires)) {
			e.Expires = end
		}
	}
	return e, true
}
