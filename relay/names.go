package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// A forward to a host name listens at once, whether the name can be found or not: the name may come later, and nobody
// else should wait for it. So that its owner need not wait for the first client to learn of a mistake, each name is looked
// up when its forward comes, and again, less and less often, while it is not found.
//
//	new ──► looking ──(found)──► known ──(a dial does not find it)──► missing
//	           ▲  └──(not found)──► missing ──(its wait is over)──┐
//	           └──────────────────────────────────────────────────┘
type name struct {
	host string        // "": the forward leads to no name, or to several targets
	busy bool          // it is being looked up
	err  error         // why it was not found; nil: it was, or nobody has looked yet
	due  time.Time     // when to look; zero: not at all
	wait time.Duration // before the next look
}

const (
	nameTime      = 5 * time.Second
	firstNameWait = time.Second
	lastNameWait  = time.Minute
)

func nameOf(f *forward.Forward) name {
	if len(f.To) != 1 || f.To[0].Host == "" || f.DialsFrom() != forward.Host {
		return name{} // names are looked up by the node that dials
	}
	return name{host: f.To[0].Host, due: time.Now()}
}

// lookUpNames looks up the names that are due, each in its own goroutine, and returns how long the others can wait.
func (r *Relay) lookUpNames(ctx context.Context) time.Duration {
	wait := lastNameWait
	for _, t := range r.allTasks() {
		host, left := t.nameDue(time.Now())
		wait = min(wait, left)
		if host == "" {
			continue
		}
		r.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, nameTime)
			defer cancel()
			_, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			t.lookedUp(host, err)
			r.kickNames()
		})
	}
	return wait
}

// kickNames has Run see to the names.
func (r *Relay) kickNames() {
	select {
	case r.names <- struct{}{}:
	default:
	}
}

// nameDue returns the name to look up now, or "" and how long that can wait.
func (t *task) nameDue(now time.Time) (host string, left time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := &t.target
	switch left = n.due.Sub(now); {
	case n.due.IsZero() || n.busy || t.gone:
		return "", lastNameWait
	case left > 0:
		return "", left
	}
	n.busy = true
	return n.host, lastNameWait
}

func (t *task) lookedUp(host string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.target.host == host { // else the forward leads elsewhere by now
		t.target.busy = false
		t.target.outcome(err)
	}
}

// outcome notes whether the name was found.
func (n *name) outcome(err error) {
	if err == nil {
		*n = name{host: n.host, busy: n.busy}
		return
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		err = errors.New(dns.Err) // without the server that said so
	}
	n.err = fmt.Errorf("the name %s is not found: %w", n.host, err)
	n.wait = min(max(2*n.wait, firstNameWait), lastNameWait)
	n.due = time.Now().Add(n.wait)
}
