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
	server *Server
	wire   *sshchan.Wire
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

func newClient(s *Server, wire *sshchan.Wire, conn *ssh.ServerConn, log *slog.Logger, from netip.AddrPort, who identity) *client {
	c := &client{server: s, wire: wire, conn: conn, log: log, from: from, who: who, flows: map[*flow]struct{}{}}
	c.node = newClientNode(c)
	return c
}

// run serves the client until its connection ends or ctx does, and says why.
func (c *client) run(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	running.Go(func() { c.serveRequests(ctx, requests) })
	running.Go(func() {
		// Who has not answered one question by the time of the next is dead: that is within two keepalives.
		c.wire.Keepalive(c.server.o.Keepalive, 1, c.ask, func(time.Duration) {
			cancel(errDead)
			_ = c.wire.Close() // what waits to write to it, too, ends with that
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
	case sshchan.Direct:
		to, err := sshchan.ParseDirect(nc.ExtraData())
		c.serveDirect(ctx, nc, to, err)
	case sshchan.DirectUnix:
		to, err := sshchan.ParseDirectUnix(nc.ExtraData())
		c.serveDirect(ctx, nc, to, err)
	default:
		_ = nc.Reject(ssh.UnknownChannelType, "this server forwards ports and knows no such channel")
	}
}

// ask is a question to which any answer will do.
func (c *client) ask() { _, _, _ = c.conn.SendRequest(sshchan.Keepalive, true, nil) }
