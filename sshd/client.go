package sshd

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// A client is one connection that has logged in.
type client struct {
	server  *Server
	peer    peer
	log     *slog.Logger
	from    netip.AddrPort
	node    *clientNode
	opened  atomic.Int64 // channels that are open or being opened
	quiet   throttle
	running sync.WaitGroup

	noMoreSessions atomic.Bool

	mu      sync.Mutex
	who     identity
	revoked error
	flows   map[*flow]struct{}
}

var (
	errRevoked = errors.New("the key is no longer authorised")
	errDead    = errors.New("the client did not answer a keepalive")
)

func newClient(s *Server, p peer, log *slog.Logger, from netip.AddrPort, who identity) *client {
	c := &client{server: s, peer: p, log: log, from: from, who: who, flows: map[*flow]struct{}{}}
	c.node = newClientNode(c)
	return c
}

// run serves the client until its connection ends or ctx does, and says why.
func (c *client) run(ctx context.Context) error {
	why := c.peer.serve(ctx, c)
	c.giveBack(ctx)
	c.running.Wait()
	return why
}

// hold counts one channel more, if there may be one.
func (c *client) hold() bool {
	if c.opened.Add(1) > int64(c.server.o.MaxChannels) {
		c.opened.Add(-1)
		return false
	}
	return true
}

func (c *client) release() { c.opened.Add(-1) }

// rights is what the client may do at this moment: keys that were taken away, or have expired, open nothing more.
func (c *client) rights() (*Rights, error) {
	keys, err := c.server.o.Authorize()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if keys != c.who.keys {
		r, err := keys.Login(c.who.key, c.who.user, c.from.Addr(), now)
		c.who.keys, c.revoked = keys, err
		if err == nil {
			r.name = c.who.name // as long as it lives, its listeners are under this name
			c.who.Rights = r
		}
	}
	switch {
	case c.revoked != nil:
		return nil, errRevoked
	case !c.who.expires.IsZero() && !now.Before(c.who.expires):
		return nil, errExpired
	}
	return c.who.Rights, nil
}

// serveOpening takes a channel that the client opens. It does not wait for anything.
func (c *client) serveOpening(ctx context.Context, in incoming) {
	if in.kind() == channelSession && c.noMoreSessions.Load() {
		in.reject(ssh.Prohibited, "the client has said that it wants no more sessions")
		return
	}
	if !c.hold() {
		if leftOut, ok := c.quiet.may(); ok {
			c.log.Warn("channel refused", "why", "the connection has as many as it may", keyLeftOut, leftOut)
		}
		in.reject(ssh.ResourceShortage, "too many channels in this connection")
		return
	}
	if c.serveAtOnce(in) {
		return
	}
	c.running.Go(func() {
		if !c.serveChannel(ctx, in) {
			c.release()
		}
	})
}

// serveChannel reports whether the channel goes on when it returns, and releases itself at its end.
func (c *client) serveChannel(ctx context.Context, in incoming) (goesOn bool) {
	if in.kind() == channelSession {
		c.serveSession(in)
		return false
	}
	to, known, err := parseDirect(in)
	if !known {
		in.reject(ssh.UnknownChannelType, "this server forwards ports and knows no such channel")
		return false
	}
	return c.serveDirect(ctx, in, to, err)
}

func parseDirect(in incoming) (to sshchan.Place, known bool, err error) {
	switch in.kind() {
	case sshchan.Direct:
		to, err = sshchan.ParseDirect(in.payload())
	case sshchan.DirectUnix:
		to, err = sshchan.ParseDirectUnix(in.payload())
	default:
		return to, false, nil
	}
	return to, true, err
}
