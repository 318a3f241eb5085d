package relay

import (
	"context"
	"math/rand/v2"
	"net"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/health"
)

const (
	// maxAsking is how many targets are asked at once in the whole relay, so that thousands that do not answer take neither
	// all descriptors nor a burst of packets. The others wait for their turn.
	maxAsking = 256
	// maxAskTime is the longest time that a target has to answer a check; a check that comes more often has until the next.
	maxAskTime = 5 * time.Second
	// askSpread is how far the first checks of targets that come together are apart.
	askSpread = 2 * time.Second
)

// A question is put to a target once: whether it is well, or, where no check looks after it, whether it can be reached again
// where a session failed to reach it. So no client has to be the one who tries a target that has failed.
type question struct {
	ctx     context.Context //nolint:containedctx // the question's own, which ends it when its target goes
	check   forward.Check   // CheckNone: it asks a failing target again
	via     string
	at      []address // which are tried in turn
	timeout time.Duration
}

// askLater has a target asked when that is due, or not at all. The caller holds t.mu.
func (t *task) askLater(g *target) {
	if t.f.Check.Kind == forward.CheckNone {
		t.askIn(g, g.record.NextRetry())
		return
	}
	d := g.record.NextCheck(t.f.Check.Every())
	t.askIn(g, d-time.Duration(rand.Int64N(int64(d)/10+1))) // so that those that once came together do not stay so
}

// askAnew has a target asked that was not asked before, or in another way. The caller holds t.mu.
func (t *task) askAnew(g *target) {
	if g.cancel != nil {
		g.cancel()
	}
	if t.f.Check.Kind == forward.CheckNone {
		t.askLater(g)
		return
	}
	t.askIn(g, 1+time.Duration(rand.Int64N(int64(min(t.f.Check.Every(), askSpread)))))
}

// askIn sets the timer of a target; 0 is never. The caller holds t.mu.
func (t *task) askIn(g *target, d time.Duration) {
	switch {
	case t.relay == nil || t.gone || g.removed: // nobody asks
	case g.timer != nil && d == 0:
		g.timer.Stop()
	case g.timer != nil:
		g.timer.Reset(d)
	case d > 0:
		g.timer = time.AfterFunc(d, func() { t.ask(g) })
	}
}

// stop ends all questions to a target for good. The caller holds task.mu.
func (g *target) stop() {
	g.removed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	if g.cancel != nil {
		g.cancel()
	}
}

// ask puts the question that is due to a target, in a goroutine of its own.
func (t *task) ask(g *target) {
	q := t.nextQuestion(g)
	if q == nil {
		return
	}
	defer t.relay.wg.Done()
	err := t.relay.put(q)
	t.answered(g, q, err)
}

// nextQuestion is what to ask a target now, or nil.
func (t *task) nextQuestion(g *target) *question {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone || g.removed || g.cancel != nil {
		return nil
	}
	q := &question{check: t.f.Check, via: t.f.DialsFrom(), timeout: min(t.f.Check.Every(), maxAskTime)}
	switch {
	case q.check.Kind != forward.CheckNone:
		q.at = addresses(g.Target, t.f.CheckPort(g.Target), &session{network: forward.TCP})
	case g.record.State() == health.Failing:
		q.at, q.timeout = g.at, dialTimeoutEach
	default:
		return nil
	}
	q.ctx, g.cancel = context.WithCancel(context.Background())
	t.relay.wg.Add(1) // Run waits for it: a task that is not gone is not shut down yet
	return q
}

// answered takes in what a question led to. One that was called off, or that this host could not put, says nothing.
func (t *task) answered(g *target, q *question, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	calledOff := q.ctx.Err() != nil
	g.cancel()
	g.cancel = nil
	was := g.record.State()
	switch {
	case calledOff || isScarce(err):
	case q.check.Kind == forward.CheckNone:
		g.record.Retried(time.Now(), err)
	default:
		g.record.Checked(time.Now(), err)
	}
	t.logChange(g, was)
	t.askLater(g)
}

// put asks, when it is its turn.
func (r *Relay) put(q *question) error {
	select {
	case r.asking <- struct{}{}:
	case <-q.ctx.Done():
		return q.ctx.Err()
	}
	defer func() { <-r.asking }()
	if r.crowded() {
		return errCrowded // clients come first
	}
	r.held.Add(1)
	defer r.held.Add(-1)
	n, err := r.nodes(q.via)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(q.ctx, q.timeout)
	defer cancel()
	err = health.Ask(ctx, q.check, func(ctx context.Context) (conn net.Conn, err error) {
		for _, a := range q.at {
			if conn, err = n.Dial(ctx, a.network, a.addr); err == nil {
				return conn, nil
			}
		}
		return nil, err
	})
	if err == nil || isScarce(err) {
		return err
	}
	return cause(err)
}

// logChange says what a target has become that was in another state. That one is well of which nothing was known before is
// no news. The caller holds t.mu.
func (t *task) logChange(g *target, was health.State) {
	state := g.record.State()
	if t.relay == nil || state == was || state == health.Up && was == health.Unknown {
		return
	}
	if state == health.Up {
		t.relay.log.Info("a target is up", keyForward, t.name, keyTarget, g.String())
		return
	}
	_, err := g.record.Why()
	t.relay.log.Warn("a target is not well", keyForward, t.name, keyTarget, g.String(), keyState, state.String(), keyError, err)
}
