package link

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// A pace is how often a Dialer looks for a better transport than the one in use.
type pace struct {
	first, last time.Duration // from one look to the next; each wait is twice the one before
	settle      time.Duration // after a change of the network
	blocked     time.Duration // how long a transport that was of no use is left alone at first
	limit       time.Duration // how long a measurement takes at most
}

// usual paces: a look costs a handshake or two, and a mebibyte.
func usual() pace {
	return pace{first: 5 * time.Second, last: 30 * time.Minute, settle: 2 * time.Second, blocked: blockedFirst, limit: dialTime}
}

// Upgrade waits until there is a better link than the one that is in use, makes it and returns it: by a better transport that is not much
// slower, or by another one because the one in use is much slower. It does not touch the one in use, unless the address is gone that it came
// from: then it ends that. The error is that ctx or that link ended.
//
// How fast a transport is, is measured on a connection of its own, which takes some data there and back: see slower.
func (d *Dialer) Upgrade(ctx context.Context, have tunnel.Link) (tunnel.Link, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	changed := watch(ctx, &wait, d.in)
	from := homeOf(have, d.in)
	every := d.pace.first
	timer := time.NewTimer(every/2 + rand.N(every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-have.Done():
			return nil, have.Err()
		case <-changed: // what was blocked may not be here
			d.forgive()
			every = d.pace.first
			timer.Reset(d.pace.settle)
			continue
		case <-timer.C:
		}
		if err := from.left(); err != nil {
			return nil, err
		}
		if link := d.better(ctx, have.Transport()); link != nil {
			return link, nil
		}
		every = min(2*every, d.pace.last)
		timer.Reset(every/2 + rand.N(every))
	}
}

// better makes a link that is better than by the transport have, or none.
func (d *Dialer) better(ctx context.Context, have string) tunnel.Link {
	all := Transports()
	rank := slices.Index(all, have)
	var mine time.Duration // how long the transport in use takes; 0: not measured yet
	for i, t := range all {
		if i == rank || !slices.Contains(d.Transports, t) || d.blocked(t, time.Now()) || ctx.Err() != nil {
			continue
		}
		theirs, err := d.measure(ctx, t)
		if err != nil {
			if ctx.Err() == nil {
				d.failed(t, time.Now())
			}
			continue
		}
		if mine == 0 {
			if mine, err = d.measure(ctx, have); err != nil {
				mine = theirs // new connections do not get through, but this one does: it is kept
			}
		}
		if i < rank && slower(theirs, mine) {
			d.Log.Info("a better transport is too slow", "transport", t, "took", theirs, "inuse", mine)
			d.failed(t, time.Now())
			continue
		}
		if i > rank {
			if !slower(mine, theirs) || !d.confirmed(ctx, have, t) {
				break // what comes after is not better, either
			}
			d.Log.Info("the transport in use is slow", "transport", have, "took", mine, "instead", t, "would", theirs)
			d.failed(have, time.Now())
		}
		if link, err := d.by(ctx, t); err == nil {
			d.worked(t)
			return link
		}
		if ctx.Err() == nil {
			d.failed(t, time.Now())
		}
	}
	return nil
}

// confirmed measures once more, in the other order, since one measurement may have had bad luck.
func (d *Dialer) confirmed(ctx context.Context, slow, fast string) bool {
	a, err := d.measure(ctx, slow)
	if err != nil {
		return false
	}
	b, err := d.measure(ctx, fast)
	return err == nil && slower(a, b)
}

// slower reports whether one transport is so much slower than another that it is worth to change: what takes the other so long takes it more
// than three times that, and a fifth of a second more. A little slower is no matter: QUIC is worth something, too.
func slower(a, b time.Duration) bool { return a > 3*b && a > b+200*time.Millisecond }
