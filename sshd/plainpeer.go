package sshd

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// A plainPeer speaks by golang.org/x/crypto/ssh: all algorithms, on all systems, with goroutines for each channel.
type plainPeer struct {
	*ssh.ServerConn
	wire     *sshchan.Wire
	channels <-chan ssh.NewChannel
	requests <-chan *ssh.Request
}

func (p *plainPeer) serve(ctx context.Context, c *client) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		for r := range p.requests {
			c.serveRequest(ctx, plainRequest(r))
		}
	})
	running.Go(func() {
		// Who has not answered one question by the time of the next is dead: that is within two keepalives.
		p.wire.Keepalive(c.server.o.Keepalive, 1, p.ask, func(time.Duration) {
			cancel(errDead)
			_ = p.wire.Close() // what waits to write to it, too, ends with that
		})
	})
	for nc := range p.channels {
		c.serveOpening(ctx, plainIncoming{nc})
	}
	cancel(p.Wait()) // it has ended, or there would be channels to come
	_ = p.Close()
	running.Wait()
	return context.Cause(ctx)
}

// ask is a question to which any answer will do.
func (p *plainPeer) ask() { _, _, _ = p.SendRequest(sshchan.Keepalive, true, nil) }

func (p *plainPeer) open(ctx context.Context, kind string, payload []byte, _ *flow, e ends) (net.Conn, error) {
	opened, requests, err := sshchan.Open(ctx, p.ServerConn, kind, payload, e.gone)
	switch {
	case err == nil:
		return sshchan.New(opened, requests, sshchan.Ends{Local: e.local, Remote: e.remote, Wire: p.wire, Gone: e.gone}), nil
	case ctx.Err() != nil && err == ctx.Err():
		return nil, err
	}
	e.gone()
	return nil, err
}

func plainRequest(r *ssh.Request) *request {
	return &request{r.Type, r.Payload, func(ok bool, payload []byte) { _ = r.Reply(ok, payload) }}
}

type plainIncoming struct{ ssh.NewChannel }

func (in plainIncoming) kind() string { return in.ChannelType() }

func (in plainIncoming) payload() []byte { return in.ExtraData() }

func (in plainIncoming) reject(reason ssh.RejectionReason, text string) { _ = in.Reject(reason, text) }

func (in plainIncoming) accept() (channel, <-chan *request, error) {
	ch, theirs, err := in.Accept()
	if err != nil {
		return nil, nil, err
	}
	requests := make(chan *request)
	go func() {
		defer close(requests)
		for r := range theirs {
			requests <- plainRequest(r)
		}
	}()
	return plainChannel{ch}, requests, nil
}

type plainChannel struct{ ssh.Channel }

func (ch plainChannel) complain(text string) { _, _ = io.WriteString(ch.Stderr(), text) }

func (ch plainChannel) tell(name string, payload []byte) {
	_, _ = ch.SendRequest(name, false, payload)
}
