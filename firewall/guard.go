package firewall

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// Errors of a Guard.
var (
	// ErrNotAllowed means that this process may not look at the firewalls of this host: that takes CAP_NET_ADMIN.
	ErrNotAllowed = errors.New("whether another firewall of this host is in the way cannot be told without CAP_NET_ADMIN")
	// ErrUnsupported means that this system's firewalls are not known.
	ErrUnsupported = errors.New("the firewalls of this system are not known")
)

// Options is what a Guard works with.
type Options struct {
	Log *slog.Logger // nil: none
}

// The keys of log attributes.
const (
	keyForward  = "forward"
	keyFirewall = "firewall"
	keyWhy      = "why"
	keyRemedy   = "remedy"
	keyChain    = "chain"
	keyCount    = "count"
	keyErr      = "err"
)

// A Guard looks after the other firewalls of the network namespace it is used in. It may be used by several goroutines;
// calls wait for each other.
type Guard struct {
	log *slog.Logger

	mu         sync.Mutex
	generation uint32 // of nftables, when rules were read; 0: never
	legacyRead time.Time
	legacy     []Saved
	rules      *Ruleset
	digest     uint64
	host       Host
	findings   map[*forward.Forward]*finding
	list       []*forward.Forward // what result is about
	result     map[string]Obstacle
	complete   bool // no forward was left for later

	marked *marks // what the table of marks has; nil: not known
	told   map[string]string
	last   *kept // nil: the next Keep has to look at everything
}

// A finding is what was found out about one forward on the rules as they are.
type finding struct {
	obstacle *Obstacle
	spots    []spot
	again    bool      // left was found out
	left     *Obstacle // what remains where marked packets are accepted
}

// marks is what Fairlead has in the table of marks.
type marks struct {
	handle   uint64 // of the table
	forwards map[*forward.Forward]bool
	sets     map[setID]bool
	local    opening // the addresses of this host
}

// kept is what the last Keep was about, and what came of it.
type kept struct {
	digest uint64
	auto   bool
	spots  []spot
	marks  uint64 // the handle of the table of marks
	list   []*forward.Forward
	found  map[string]Obstacle
}

// holds reports whether k is still so: the rules of others, what Fairlead has among them, and what is wanted.
func (k *kept) holds(g *Guard, want []*forward.Forward, auto bool) bool {
	return k != nil && k.digest == g.digest && k.auto == auto && k.marks == g.rules.marks && slices.Equal(k.list, want) &&
		len(g.rules.edits(k.spots)) == 0
}

// New returns a Guard that has not looked yet.
func New(o Options) *Guard {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Guard{log: log, told: map[string]string{}}
}

// workAtOnce is how many forwards are followed through the rules in one look, at the most; the others have their turn in
// the next. Nothing is known of them until then.
const workAtOnce = 100_000

// Check says what keeps each of want from working, by name; of those that are missing nothing is known to. It changes
// nothing. With auto, what Keep would see to is left out. How each is carried is decided: its Carry is not CarryAuto. While neither rules, nor host, nor forwards change, it
// costs one small question to the kernel.
func (g *Guard) Check(ctx context.Context, want []*forward.Forward, host Host, auto bool) (map[string]Obstacle, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.refresh(ctx, host); err != nil {
		return nil, err
	}
	out := g.look(want)
	if !auto {
		return out, nil
	}
	left := map[string]Obstacle{}
	for _, f := range want {
		if known := g.findings[f]; known != nil && known.obstacle != nil && len(known.spots) == 0 {
			left[f.Name] = *known.obstacle
		}
	}
	return left, nil
}

// Keep is Check for a daemon, which is to call it every few seconds. With auto it has other firewalls accept what they would
// drop of the sessions of want, where they have a place for that, and takes away again what is no longer needed; what it
// returns is what remains. Without, nothing of Fairlead is left in them.
func (g *Guard) Keep(ctx context.Context, want []*forward.Forward, host Host, auto bool) (map[string]Obstacle, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	const tries = 4
	for range tries {
		if err := g.refresh(ctx, host); err != nil {
			return nil, err
		}
		if g.last.holds(g, want, auto) {
			return g.last.found, nil
		}
		g.last = nil
		found := g.look(want)
		var spots []spot
		var blocked []*forward.Forward
		if auto && len(found) > 0 {
			spots, blocked = g.places(want)
		}
		changed, err := g.ensure(ctx, spots, blocked)
		if errors.Is(err, errAgain) {
			g.generation = 0
			continue
		}
		if err != nil {
			return found, err
		}
		if changed {
			g.generation, g.list = 0, nil
			for _, f := range g.findings {
				f.again = false
			}
			continue // to see what became of it
		}
		if len(blocked) > 0 {
			found = g.remaining(want)
		}
		g.tell(found)
		if g.complete {
			g.last = &kept{g.digest, auto, spots, g.rules.marks, slices.Clone(want), found}
		}
		return found, nil
	}
	return nil, errChanging
}

// errAgain means that somebody else changed the rules meanwhile.
var errAgain = errors.New("the rules were changed meanwhile")

// errChanging is a ruleset that did not hold still while it was read.
var errChanging = errors.New("nftables kept changing while it was looked at")

// look is what is in the way of want where nothing of Fairlead's is in other firewalls.
func (g *Guard) look(want []*forward.Forward) map[string]Obstacle {
	if g.complete && g.list != nil && slices.Equal(g.list, want) {
		return g.result
	}
	findings := make(map[*forward.Forward]*finding, len(want))
	out, left := map[string]Obstacle{}, workAtOnce
	for _, f := range want {
		known := g.findings[f]
		if known == nil && left > 0 {
			left--
			drops := g.rules.drops(f, g.host, 0)
			known = &finding{obstacle: g.rules.obstacle(f, drops)}
			for _, d := range drops {
				known.spots = append(known.spots, g.rules.spots(d)...)
			}
		}
		if known == nil {
			continue
		}
		findings[f] = known
		if known.obstacle != nil {
			out[f.Name] = *known.obstacle
		}
	}
	g.findings, g.list, g.result, g.complete = findings, slices.Clone(want), out, left > 0
	return out
}

// places is where marked packets have to be accepted, and the forwards whose packets have to be marked for that.
func (g *Guard) places(want []*forward.Forward) (spots []spot, blocked []*forward.Forward) {
	seen := map[chainID]bool{}
	for _, f := range want {
		known := g.findings[f]
		if known == nil || len(known.spots) == 0 {
			continue
		}
		blocked = append(blocked, f)
		for _, s := range known.spots {
			if !seen[s.chain] {
				seen[s.chain] = true
				spots = append(spots, s)
			}
		}
	}
	return spots, blocked
}

// remaining is what is in the way of want although marked packets are accepted.
func (g *Guard) remaining(want []*forward.Forward) map[string]Obstacle {
	out := map[string]Obstacle{}
	for _, f := range want {
		known := g.findings[f]
		if known == nil || known.obstacle == nil {
			continue
		}
		if len(known.spots) == 0 {
			out[f.Name] = *known.obstacle
			continue
		}
		if !known.again {
			known.again, known.left = true, g.rules.obstacle(f, g.rules.drops(f, g.host, Mark))
		}
		if known.left != nil {
			out[f.Name] = *known.left
		}
	}
	return out
}

// tell logs what is new among the obstacles, and what is over.
func (g *Guard) tell(found map[string]Obstacle) {
	const most = 20 // lines of one look; the others are counted
	lines := 0
	for name, o := range found {
		if g.told[name] == o.Why {
			continue
		}
		g.told[name] = o.Why
		if lines++; lines <= most {
			g.log.Warn("another firewall drops what a forward lets in", keyForward, name, keyFirewall, o.Owner, keyWhy, o.Why, keyRemedy, o.Remedy)
		}
	}
	if lines > most {
		g.log.Warn("other firewalls drop what more forwards let in", keyCount, lines-most)
	}
	for name := range g.told {
		if _, still := found[name]; !still {
			delete(g.told, name)
			g.log.Info("no other firewall is in the way any more, as far as is known", keyForward, name)
		}
	}
}
