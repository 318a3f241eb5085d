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
)

// A client is one connection that has logged in.
type client struct {
	server *Server
	conn   *ssh.ServerConn
	log    *slog.Logger
	from   netip.AddrPort
	node   *clientNode
	opened atomic.Int64 // channels that are open or being opened
	quiet  throttle

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

func newClient(s *Server, conn *ssh.ServerConn, log *slog.Logger, from netip.AddrPort, who identity) *client {
	c := &client{server: s, conn: conn, log: log, from: from, who: who, flows: map[*flow]struct{}{}}
	c.node = newClientNode(c)
	return c
}

// run serves the client until its connection ends or ctx does, and says why.
func (c *client) run(ctx context.Context, wire *wireConn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	running.Go(func() { c.serveRequests(ctx, requests) })
	running.Go(func() {
		c.keepalive(ctx, wire, func() {
			cancel(errDead)
			_ = wire.Close() // what waits to write to it, too, ends with that
		})
	})
	for nc := range channels {
		if !c.hold() {
			c.quiet.log(c.log, slog.LevelWarn, "channel refused", "why", "the connection has as many as it may")
			_ = nc.Reject(ssh.ResourceShortage, "too many channels in this connection")
			continue
		}
		running.Go(func() {
			defer c.release()
			c.serveChannel(ctx, nc)
		})
	}
	cancel(c.conn.Wait()) // it has ended, or there would be channels to come
	c.conn.Close()
	running.Wait()
	c.giveBack(ctx)
	return context.Cause(ctx)
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

func (c *client) serveChannel(ctx context.Context, nc ssh.NewChannel) {
	switch nc.ChannelType() {
	case channelSession:
		c.serveSession(ctx, nc)
	case channelDirect:
		to, err := parseDirect(nc.ExtraData())
		c.serveDirect(ctx, nc, to, err)
	case channelDirectUnix:
		to, err := parseDirectUnix(nc.ExtraData())
		c.serveDirect(ctx, nc, to, err)
	default:
		_ = nc.Reject(ssh.UnknownChannelType, "this server forwards ports and knows no such channel")
	}
}

// keepalive asks a client that has said nothing since the last look whether it lives. When it has still said nothing at the
// next look, it is dead: that is within two keepalives.
func (c *client) keepalive(ctx context.Context, wire *wireConn, dead func()) {
	tick := time.NewTicker(c.server.o.Keepalive)
	defer tick.Stop()
	var asked sync.WaitGroup
	defer asked.Wait() // it ends with the connection
	seen, waiting := wire.in.Load(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch now := wire.in.Load(); {
		case now != seen:
			seen, waiting = now, false
		case waiting:
			dead()
			return
		default:
			waiting = true
			asked.Go(func() { _, _, _ = c.conn.SendRequest(requestKeepalive, true, nil) }) // any answer will do
		}
	}
}
