package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// How long to wait between tries to listen where that was refused.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
	keepPort   = 5 // refusals after which a port that the other end picked is let go
)

// tend asks for the listener in every session, until it is closed or ctx ends.
func (a *asking) tend(ctx context.Context) {
	defer close(a.tended)
	defer a.drain()
	defer a.far.asked.remove(a)
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	defer close(watched)
	go a.watch(cancel, watched)
	wait, refusals := firstRetry, 0
	for {
		s, err := a.far.acquire(asking)
		if err != nil {
			return
		}
		name, request := a.request(refusals)
		reply, err := s.Ask(asking, name, encode(request))
		if err == nil {
			addr, port, err := parseReply(reply)
			if err != nil {
				a.down(err.Error())
				s.End(tunnel.Protocol, err.Error())
			} else {
				wait, refusals = firstRetry, 0
				a.up(s, addr, port)
			}
			if !a.stay(asking, s) {
				a.unlisten(ctx, s)
				return
			}
			continue
		}
		if asking.Err() != nil {
			a.unlisten(ctx, s) // it may have been heard
			return
		}
		if errors.Is(err, node.ErrClosed) { // the session has ended
			select {
			case <-s.over:
			case <-asking.Done():
			}
			continue
		}
		if refusals++; refusals == 1 {
			a.far.log.Warn("the other end does not listen", keyNode, a.far.name(), keyListen, a.at.String(), keyError, err)
		}
		err = a.refusal(err)
		a.refused(err)
		a.down(clean(err.Error()) + "; next try in " + wait.Round(100*time.Millisecond).String())
		t := time.NewTimer(jitter(wait))
		select {
		case <-t.C:
		case <-a.again:
		case <-s.over:
		case <-asking.Done():
		}
		t.Stop()
		wait = min(2*wait, lastRetry)
	}
}

// watch cancels when the listener is closed.
func (a *asking) watch(cancel context.CancelFunc, stop <-chan struct{}) {
	select {
	case <-a.closed:
		cancel()
	case <-stop:
	}
}

// stay waits while the other end listens; false: it is to listen no longer.
func (a *asking) stay(ctx context.Context, s *session) bool {
	for {
		select {
		case <-s.over:
			a.down("the session has ended")
			return true
		case <-ctx.Done():
			return false
		case <-a.again:
			a.mu.Lock()
			up := a.session == s
			a.mu.Unlock()
			if !up { // it was closed there
				return true
			}
		}
	}
}

// unlisten has the other end close the listener. At the end of all it does not: the next run of this program is to find its place.
func (a *asking) unlisten(ctx context.Context, s *session) {
	if ctx.Err() == nil {
		_, _ = s.Ask(ctx, askUnlisten, encode(UnlistenRequest{ID: a.id}))
	}
}

// request is what to ask for: a port that the other end picked is kept while it has it for us.
func (a *asking) request(refusals int) (name string, request any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := ListenRequest{ID: a.id, Network: a.network, Address: a.host, Port: a.at.Ports.Ranges[0].First}
	if r.Port == 0 && refusals < keepPort {
		r.Prefer = a.chose
	}
	if !a.at.Named() {
		return askListen, r
	}
	serve := ServeRequest{ListenRequest: r, Names: a.at.Hosts, Redirect: a.at.RedirectHTTPS}
	if a.at.TLS != forward.TLSPass {
		serve.TLS = a.at.TLS.String()
	}
	return askServe, serve
}

// refusal is why the other end does not listen, as people are told.
func (a *asking) refusal(err error) error {
	var said *tunnel.Error
	if a.at.Named() && errors.As(err, &said) && said.Code == tunnel.Unfit {
		return &tunnel.Error{Code: said.Code, Text: a.far.name() + " knows no names, it is older than this program; leave host out, and share a port"}
	}
	return err
}

// drain refuses what waits.
func (a *asking) drain() {
	a.shut(context.Canceled)
	for {
		select {
		case arrival := <-a.queue:
			arrival.Refuse(tunnel.Refused, "nobody listens any more")
		default:
			return
		}
	}
}

// jitter spreads d, so that all who wait for the same do not come at once.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(rand.Int64N(int64(d/2)+1))
}
