package sshnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// How long to wait between tries. A connection that lived for livedLong was a good one, so the next try starts at once.
const (
	firstRetry    = 500 * time.Millisecond
	lastRetry     = 30 * time.Second
	livedLong     = 30 * time.Second
	afterRefusal  = 30 * time.Second // what somebody has to mend first, such as a host key, is not asked for more often
	refusedListen = 10 * time.Second // the longest wait between tries to listen
)

// Run keeps the connections up until ctx ends. It is called once.
func (n *Node) Run(ctx context.Context) error {
	n.mu.Lock()
	if n.running || n.ended {
		n.mu.Unlock()
		return errors.New("an SSH node runs once")
	}
	n.running = true
	n.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var group sync.WaitGroup
	for i := range max(n.ssh.Connections, 1) {
		group.Go(func() {
			if err := n.keep(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	for done := false; !done; {
		for _, l := range n.takeWaiting() {
			group.Go(func() { l.tend(ctx) })
		}
		for _, hop := range n.takeStarting() {
			group.Go(func() { _ = hop.Run(ctx) })
		}
		select {
		case <-n.tendable:
		case <-ctx.Done():
			done = true
		}
	}
	n.end()
	group.Wait()
	if err := context.Cause(ctx); errors.Is(err, errGivenUp) {
		return n.Err()
	}
	return ctx.Err()
}

// errGivenUp is that the first connection did not come about and was asked for under that condition.
var errGivenUp = errors.New("the first connection failed")

// end tells everybody that there will be no connection any more.
func (n *Node) end() {
	n.mu.Lock()
	n.ended = true
	why := "the node was closed"
	if n.lastErr != nil {
		why = clean(n.lastErr.Error())
	}
	n.state = node.State{Why: why, Since: time.Now()}
	n.changedLocked()
	waiting := n.waiting
	n.waiting = nil
	all := make([]*listener, 0, len(n.listeners))
	for l := range n.listeners {
		all = append(all, l)
	}
	n.mu.Unlock()
	for _, l := range all {
		l.shut(node.ErrClosed)
	}
	for _, l := range waiting {
		close(l.tended)
	}
}

func (n *Node) takeWaiting() []*listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.waiting
	n.waiting = nil
	return list
}

func (n *Node) takeStarting() []*Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.starting
	n.starting = nil
	return list
}

// wake makes Run look for what has to be started.
func (n *Node) wake() {
	select {
	case n.tendable <- struct{}{}:
	default:
	}
}

// keep keeps one connection up. All but the first wait until there is one, so that nobody is asked the same twice.
func (n *Node) keep(ctx context.Context, slot int) error {
	if slot > 0 {
		select {
		case <-n.first:
		case <-ctx.Done():
			return nil
		}
	}
	b := backoff{first: firstRetry, last: lastRetry}
	for ctx.Err() == nil {
		l, err := n.connect(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			wait := b.next()
			if Permanent(err) {
				wait = jitter(afterRefusal)
			}
			n.failed(err, wait)
			if n.o.MustConnect && !n.everUp() {
				return errGivenUp
			}
			sleep(ctx, wait)
			continue
		}
		n.added(l)
		since := time.Now()
		reason := l.run(ctx)
		var wait time.Duration
		if time.Since(since) >= livedLong {
			b.reset()
		} else {
			wait = b.next()
		}
		if ctx.Err() != nil {
			reason = nil
		}
		n.removed(l, reason, wait)
		sleep(ctx, wait)
	}
	return nil
}

func (n *Node) everUp() bool {
	select {
	case <-n.first:
		return true
	default:
		return false
	}
}

func (n *Node) failed(err error, wait time.Duration) {
	n.mu.Lock()
	again := n.lastErr != nil && n.lastErr.Error() == err.Error()
	n.lastErr = err
	n.next = time.Now().Add(wait)
	if len(n.links) == 0 && !n.ended {
		since := n.state.Since
		if n.state.Up {
			since = time.Now()
		}
		n.state = node.State{Why: clean(err.Error()), Since: since}
	}
	n.mu.Unlock()
	level := slog.LevelWarn
	if again {
		level = slog.LevelDebug // that was said
	}
	n.log.Log(context.Background(), level, "cannot connect to the SSH server", "error", err, "again_in", wait.Round(time.Millisecond))
}

func (n *Node) added(l *link) {
	n.mu.Lock()
	n.links = append(n.links, l)
	if !n.state.Up && !n.ended {
		n.state = node.State{Up: true, Since: time.Now()}
	}
	n.lastErr, n.next = nil, time.Time{}
	if !n.everUp() {
		close(n.first)
	}
	n.changedLocked()
	n.mu.Unlock()
	n.log.Info("connected to the SSH server", "address", l.address, "server", clean(l.server()))
}

func (n *Node) removed(l *link, reason error, wait time.Duration) {
	n.mu.Lock()
	n.links = slices.DeleteFunc(n.links, func(other *link) bool { return other == l })
	if reason != nil {
		n.lastErr = fmt.Errorf("the connection to %s broke: %w", l.address, reason)
		n.next = time.Now().Add(wait)
	}
	if len(n.links) == 0 && !n.ended {
		why := "not connected"
		if n.lastErr != nil {
			why = clean(n.lastErr.Error())
		}
		n.state = node.State{Why: why, Since: time.Now()}
	}
	n.changedLocked()
	n.mu.Unlock()
	if reason != nil {
		n.log.Warn("lost the SSH server", "error", reason, "again_in", wait.Round(time.Millisecond))
	}
}

// A backoff counts tries.
type backoff struct{ first, last, now time.Duration }

func (b *backoff) next() time.Duration {
	if b.now == 0 {
		b.now = b.first
	} else {
		b.now = min(2*b.now, b.last)
	}
	return jitter(b.now)
}

func (b *backoff) reset() { b.now = 0 }

// jitter spreads d, so that the clients of a server that comes back do not all come at once.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
