package relay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/health"
)

// errDraining is why nobody gets in at a forward of which every target is drained.
var errDraining = errors.New("every target is draining: drain names all of them")

const (
	// What a client waits for a target before another one is tried beside it, or instead: for one of which nothing good is
	// known, the connection attempt delay of RFC 8305, section 5; for one that answered the last time, as long as Linux waits
	// before it sends a SYN again (RFC 6298, section 2), so that a long way to it is no reason to go elsewhere.
	patienceFirst = 250 * time.Millisecond
	patienceUp    = time.Second
)

// A target is one of the targets of a task: what is known of it, and how many sessions it has. A forward with one target has
// none of these unless it is checked or drained, because nothing depends on it.
type target struct {
	forward.Target
	open     int     // sessions that reached it
	turn     float64 // round-robin: what it is owed, in sessions
	draining bool
	record   health.Record // of streams, and of everything when there is a check
	rest     health.Rest   // of flows
	at       []address     // where the last session failed to reach it, to ask again there

	timer   *time.Timer        // until it is asked; nil: it never was
	cancel  context.CancelFunc // of the question under way; nil: there is none
	removed bool               // it is not asked any more
}

// targetsOf is the targets of f, those that old has among them as they are.
func targetsOf(f *forward.Forward, old []*target) []*target {
	if len(f.To) == 1 && f.Check.Kind == forward.CheckNone && len(f.Drain) == 0 {
		return nil
	}
	list := make([]*target, len(f.To))
	for i := range f.To {
		g := findTarget(list[:i], f.To[i]) // written twice, it is one target with twice the share
		if g == nil {
			g = findTarget(old, f.To[i])
		}
		if g == nil {
			g = &target{Target: f.To[i]}
		}
		list[i] = g
	}
	return list
}

func findTarget(list []*target, t forward.Target) *target {
	for _, g := range list {
		if g.Target == t {
			return g
		}
	}
	return nil
}

// setTargets changes the targets from those of was to those of f. What is known of a target stays known, unless f dials from
// another node. The caller holds t.mu.
func (t *task) setTargets(was, f *forward.Forward) {
	now, old := time.Now(), t.targets
	t.targets = targetsOf(f, old)
	for _, g := range old {
		if findTarget(t.targets, g.Target) == nil {
			g.stop()
		}
	}
	moved := was.DialsFrom() != f.DialsFrom()
	asksOther := moved || was.Check != f.Check
	for _, g := range t.targets {
		if moved {
			g.record, g.rest = health.Record{}, health.Rest{}
		}
		if f.Check.Kind == forward.CheckNone {
			g.record.CheckGone()
		}
		added := was != f && !slices.Contains(was.To, g.Target)
		if draining := f.Draining(g.Target); added || g.draining && !draining {
			g.record.Joined(now)
		}
		g.draining = f.Draining(g.Target)
		if asksOther || g.timer == nil {
			t.askAnew(g)
		}
	}
}

// known is what the task knows of one of its forward's targets, or nil. The caller holds t.mu.
func (t *task) known(to *forward.Target) *target {
	if t.targets == nil {
		return nil
	}
	return findTarget(t.targets, *to)
}

// patience is how long a client waits for a target while there is another one.
func (t *task) patience(to *forward.Target) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.known(to); g != nil && g.record.State() == health.Up {
		return patienceUp
	}
	return patienceFirst
}

// failed notes that a session could not reach a target, so that the next ones try another one first.
func (t *task) failed(s *session, to *forward.Target, err error) {
	if !blames(s.f, to, err) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g, now := t.known(to), time.Now()
	if g == nil {
		return
	}
	if s.network == forward.UDP {
		g.rest.Failed(now, cause(err))
		return
	}
	was := g.record.State()
	if g.record.Failed(now, cause(err)) {
		g.at = s.addresses(to)
		t.logChange(g, was)
		t.askLater(g)
	}
}

// refusedFlow notes that a flow's target has said by ICMP that nobody listens there.
func (t *task) refusedFlow(s *session, where string) {
	t.unreachable(&DialError{Target: where, Err: syscall.ECONNREFUSED})
	t.mu.Lock()
	to := s.target
	t.mu.Unlock()
	if to == nil {
		return
	}
	t.failed(s, to, syscall.ECONNREFUSED)
}

// blames reports whether an error of a dial is the target's fault, rather than this host's. One closed port of several says
// nothing about the others.
func blames(f *forward.Forward, to *forward.Target, err error) bool {
	switch {
	case isScarce(err), errors.Is(err, context.Canceled), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, fs.ErrPermission):
		return false
	case errors.Is(err, syscall.ECONNREFUSED):
		return !severalPorts(f, to)
	}
	return true
}

// severalPorts reports whether clients are carried to more than one port of a target.
func severalPorts(f *forward.Forward, to *forward.Target) bool {
	if to.IsUnix() || !to.Ports.IsZero() {
		return to.Ports.First != to.Ports.Last
	}
	return f.Listen.Ports.All || f.Listen.Ports.Count() > 1
}

// state is how the target is doing in a word, since when, and why when that is no good. The caller holds task.mu.
func (g *target) state(f *forward.Forward, now time.Time) forward.TargetStats {
	state := g.record.State()
	since, err := g.record.Why()
	if f.Listen.Networks == forward.UDP && f.Check.Kind == forward.CheckNone {
		if state = health.Unknown; g.rest.On(now) {
			state = health.Failing
			since, err = g.rest.Why()
		}
	}
	s := forward.TargetStats{Target: g.String(), State: state.String(), Draining: g.draining, Open: g.open, Since: since}
	if err != nil {
		s.Why = err.Error()
	}
	return s
}

// targetStats is how the targets are doing, and what an operator should know of that. failing says that every one is down.
// The caller holds t.mu.
func (t *task) targetStats(now time.Time) (list []forward.TargetStats, note, failing string) {
	if t.targets == nil {
		return nil, "", ""
	}
	down, drained := 0, 0
	var bad []string
	for _, g := range t.targets {
		s := g.state(t.f, now)
		list = append(list, s)
		switch {
		case g.draining:
			drained++
		case s.Why != "":
			bad = append(bad, fmt.Sprintf("%s is %s: %s (since %s)", s.Target, s.State, s.Why, s.Since.Format(time.TimeOnly)))
			if g.record.State() == health.Down {
				down++
			}
		}
	}
	switch {
	case drained == len(list):
		return list, errDraining.Error(), ""
	case len(bad) == 0:
		return list, "", ""
	}
	note = notWell(bad, len(list))
	if down == len(list)-drained {
		failing = note
	}
	return list, note, failing
}

// notWell lists the targets that are not well, of so many, the first few of them in full.
func notWell(bad []string, of int) string {
	const inFull = 3
	more := ""
	count := fmt.Sprintf("%d of %d targets: ", len(bad), of)
	if of == 1 {
		count = ""
	}
	if n := len(bad) - inFull; n > 0 {
		bad, more = bad[:inFull], fmt.Sprintf("; and %d more", n)
	}
	return count + strings.Join(bad, "; ") + more
}
