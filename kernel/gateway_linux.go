package kernel

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// A Gateway keeps the nftables table in which this host is a network's gateway in step with what is asked for, and the
// settings of the kernel that a router needs. Its methods may be called from anywhere; they work in the network namespace
// of the calling thread, one at a time. Like the carrier's, its table stays when the process ends.
type Gateway struct {
	table  string
	log    *slog.Logger
	router *router

	mu         sync.Mutex
	claim      net.Listener // the right to change the table, once it was needed
	socket     keptSocket
	failed     bool   // the last Apply was refused
	generation uint32 // of nftables when the table was as the gateway left it; 0: it may not be
	ledger     *Ledger

	known    bool         // the fields below are what the kernel has; else it must be read first
	handle   uint64       // of the table; 0: there is none
	plan     *gatewayPlan // nil: this host is nobody's gateway
	forwards forward.List
	wishes   wishes        // of forwards
	counts   map[setID]int // elements of each set
}

// NewGateway returns a gateway that has not looked at the kernel yet.
func NewGateway(o GatewayOptions) *Gateway {
	g := &Gateway{table: o.Table, ledger: o.Ledger, log: o.Log}
	if g.ledger == nil {
		g.ledger = new(Ledger)
	}
	if g.table == "" {
		g.table = DefaultGatewayTable
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.router = &router{dir: o.StateDir, log: g.log}
	return g
}

// Apply makes this host the gateway that spec says, or nobody's where spec is nil. open is what else of this host the
// outside may reach. forwards have their Carry decided, those included that the relay carries: they
// open their holes, and those with Outbound keep their ports. What already is as wanted is not touched, and a table that an
// earlier process left is adopted, with what its rules have learned.
//
// The rules hold where only the settings of the kernel could not be changed; the error says which.
func (g *Gateway) Apply(ctx context.Context, spec *forward.Gateway, open []forward.Listen, forwards forward.List) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if spec == nil {
		return g.clear(ctx)
	}
	plan := newGatewayPlan(spec, open)
	settled := g.known && g.plan != nil && g.plan.equal(plan)
	err := g.socket.with(func(s *nlSocket) error { return g.apply(ctx, s, plan, forwards) })
	if g.failed = err != nil; g.failed {
		g.known = false
		g.log.Error("nftables cannot be changed", "table", g.table, "error", explain(err))
		return explain(err)
	}
	if !settled {
		return g.router.set(spec.WAN)
	}
	return nil
}

// Clear removes the table and gives the kernel's settings back.
func (g *Gateway) Clear() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = false // somebody wants to be sure
	return g.clear(context.Background())
}

func (g *Gateway) clear(ctx context.Context) error {
	if g.known && g.plan == nil {
		return nil
	}
	err := g.socket.with(func(s *nlSocket) error { return g.apply(ctx, s, nil, forward.List{}) })
	if forbidden(err) && g.handle == 0 {
		err = nil // who may not make a table has none to remove
	}
	if g.failed = err != nil; g.failed {
		g.known = false
	}
	return errors.Join(explain(err), g.router.restore())
}

// Close gives back what the gateway holds in this process. What it has in the kernel stays.
func (g *Gateway) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.socket.Close()
	if g.claim != nil {
		err = errors.Join(err, g.claim.Close())
		g.claim = nil
	}
	return err
}

func (g *Gateway) apply(ctx context.Context, s *nlSocket, plan *gatewayPlan, forwards forward.List) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch, err := g.difference(s, plan, forwards)
	if err != nil {
		return err
	}
	if ch.touches() {
		if g.claim == nil {
			if g.claim, err = claim(g.table); err != nil {
				return err
			}
		}
		err := ch.batch(g.table).commit(s)
		if errors.Is(err, unix.ERESTART) && ch.at != 0 {
			if ch, err = g.another(s, ch, plan, forwards); err == nil && ch.touches() {
				err = ch.batch(g.table).commit(s)
			}
		}
		if err != nil {
			g.known = false // the wishes are ahead of the kernel
			return err
		}
		// What is forgotten are commits of its own, after which the next change asks the kernel what it follows.
		if err := g.forget(s, plan, ch); err != nil {
			g.known = false
			return err
		}
		if ch.at != 0 {
			g.generation = g.ledger.made(ch.at)
		}
		g.log.Debug("nftables changed", "table", g.table, "added", len(ch.add), "deleted", len(ch.del), "rules", ch.rules)
	}
	if !g.known || ch.fresh || ch.dropTable {
		if g.handle, _, err = getTable(s, g.table); err != nil {
			return err
		}
		if g.generation, err = generation(s); err != nil {
			return err
		}
	}
	g.plan, g.forwards, g.counts, g.known = plan, forwards, ch.counts, true
	return nil
}

// another is what to do instead of ch when somebody else has changed something in nftables: the same, unless the table is gone.
func (g *Gateway) another(s *nlSocket, ch *gatewayChange, plan *gatewayPlan, forwards forward.List) (*gatewayChange, error) {
	ch.at, g.generation = 0, 0
	if there, err := g.isThere(s); there || err != nil {
		return ch, err
	}
	g.known = false
	return g.differenceFromKernel(s, plan, forwards)
}

// Lost reports whether the kernel does not have what the last Apply asked for: because that was refused, or because
// somebody else removed or emptied the table since, or has switched forwarding off. The next Apply puts it right.
func (g *Gateway) Lost() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed {
		return true
	}
	if !g.known || g.plan == nil {
		return false
	}
	intact := g.router.holds(g.plan.spec.WAN)
	err := g.socket.with(func(s *nlSocket) error {
		now, err := generation(s)
		if err != nil || now == g.ledger.since(g.generation) || !intact {
			return err
		}
		if intact, err = g.intact(s); err == nil && intact {
			g.generation = now
		}
		return err
	})
	if err != nil {
		g.log.Warn("whether the table is intact cannot be told", "table", g.table, "error", err)
		return false
	}
	g.known = g.known && intact
	return !intact
}

// intact compares the table with what the gateway left, as the carrier does; what is learned is nobody's to compare.
func (g *Gateway) intact(s *nlSocket) (bool, error) {
	const few = 2000
	handle, _, err := getTable(s, g.table)
	if err != nil || handle != g.handle {
		return false, err
	}
	sets := g.plan.sets(keysOf(g.counts))
	wanted := 0
	for _, c := range g.plan.chains(sets) {
		wanted += len(c.rules)
	}
	rules, err := countRulesOf(s, g.table)
	if err != nil || rules != wanted {
		return false, err
	}
	names, err := setNames(s, g.table)
	if err != nil || len(names) != len(sets) {
		return false, err
	}
	for id, n := range g.counts {
		if n > few {
			continue
		}
		list, err := elementsOf(s, g.table, id.name())
		if err != nil || len(list) != n {
			return false, err
		}
	}
	return true, nil
}

// gatewayComment says whether a table with this comment is a gateway's, and of this version.
func gatewayComment(text string) (ours, current bool) {
	return strings.HasPrefix(text, gatewayLayoutPrefix), text == gatewayLayout
}
