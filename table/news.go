package table

import (
	"log/slog"

	"github.com/fairlead-net/fairlead/forward"
)

// manyNews is how many changes of state of one cycle are logged one by one. More are counted: at the start there is one
// for each forward.
const manyNews = 20

// news is what has changed in a cycle.
type news struct {
	count [forward.StateFailed + 1]int
	items []item // the first of each state, up to manyNews
}

type item struct {
	f        *forward.Forward
	state    forward.State
	decision Decision
	err      error
}

func (n *news) add(e *entry) {
	if n.count[e.state]++; n.count[e.state] <= manyNews {
		n.items = append(n.items, item{e.f, e.state, e.decision, e.err})
	}
}

func (n *news) log(log *slog.Logger) {
	for _, i := range n.items {
		attrs := []any{keyForward, i.f.Name, keyOrigin, i.f.Origin}
		switch {
		case i.f.Origin.IsLease() && i.state != forward.StateFailed: // who grants them tells, with more words
			log.Debug("lease", append(attrs, "state", i.state.String())...)
		case i.state == forward.StateFailed:
			log.Warn("forward failed", append(attrs, keyWhy, i.decision.Why, keyErr, i.err)...)
		case n.count[i.state] > manyNews:
		case i.state == forward.StateUp:
			log.Info("forward up", append(attrs, keyCarried, i.decision.Carry.String(), keyWhy, i.decision.Why)...)
		case i.state == forward.StateWaiting:
			log.Info("forward waiting for its schedule", attrs...)
		default:
			log.Info("forward off", attrs...)
		}
	}
	for state, count := range n.count {
		if count > manyNews {
			log.Info("many forwards changed", "state", forward.State(state), keyCount, count)
		}
	}
}
