package sshd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/internal/sshwire"
)

const (
	// maxAsked is how many requests of a client may wait for others of it.
	maxAsked = 1024
	// maxAskedInChannel is the same for one channel, in which there is nothing much to ask for.
	maxAskedInChannel = 16
	// lingerTime is how long targets that take nothing are waited for after their client's connection has ended.
	lingerTime = 2 * time.Second
)

// A wirePeer speaks by sshwire: its channels are carried in a loop.
type wirePeer struct {
	*sshwire.Conn
	leave func() // the loop; may be called twice
}

func (p *wirePeer) User() string { return p.Login().User() }

func (p *wirePeer) ClientVersion() []byte { return p.Login().ClientVersion() }

func (p *wirePeer) Close() error {
	p.leave()
	return p.Conn.Close()
}

func (p *wirePeer) serve(outer context.Context, c *client) error {
	ctx, cancel := context.WithCancelCause(outer)
	asked := make(chan *request, maxAsked)
	var running sync.WaitGroup
	running.Go(func() {
		for r := range asked {
			c.serveRequest(ctx, r)
		}
	})
	ended := make(chan error, 2)
	c.running.Go(func() { // sockets may linger for longer than the client is there
		ended <- p.Run(outer, sshwire.Options{
			Channel: func(in *sshwire.Incoming) { c.serveOpening(ctx, &wireIncoming{in}) },
			Request: func(r *sshwire.Request) {
				if !mayWait(r.Type) {
					c.serveRequest(ctx, wireRequest(r))
					return
				}
				select {
				case asked <- wireRequest(r):
				default:
					r.Reply(false, nil)
				}
			},
			Ended: func(err error) { ended <- err },
			// Who has not answered one question by the time of the next is dead: that is within two keepalives.
			Keepalive: c.server.o.Keepalive, KeepaliveMax: 1, Linger: lingerTime,
			MaxChannels: 2*c.server.o.MaxChannels + 1000, // those included that we have closed and the client has not
		})
	})
	err := <-ended
	if errors.Is(err, sshwire.ErrDead) {
		err = errDead
	}
	cancel(err)
	close(asked)
	running.Wait()
	return err
}

func wireRequest(r *sshwire.Request) *request { return &request{r.Type, r.Payload, r.Reply} }

func (p *wirePeer) open(ctx context.Context, kind string, payload []byte, f *flow, e ends) (net.Conn, error) {
	ch, err := p.OpenChannel(ctx, kind, payload, nil)
	if err != nil {
		e.gone()
		return nil, sshchan.Refusal(err)
	}
	return sshchan.NewFast(p.Conn, ch, sshchan.FastEnds{
		Local: e.local, Remote: e.remote, Gone: e.gone, Carried: func(ca *sshwire.Carried) { f.begin(ca) },
	}), nil
}

type wireIncoming struct{ *sshwire.Incoming }

func (in *wireIncoming) kind() string { return in.Type }

func (in *wireIncoming) payload() []byte { return in.Extra }

func (in *wireIncoming) reject(reason ssh.RejectionReason, text string) {
	in.Reject(uint32(reason), text)
}

func (in *wireIncoming) accept() (channel, <-chan *request, error) {
	requests := make(chan *request, maxAskedInChannel)
	ch, err := in.Accept(func(r *sshwire.Request) {
		select {
		case requests <- wireRequest(r):
		default:
			r.Reply(false, nil)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	ch.WhenGone(func() { close(requests) }) // there are no more of them after that
	return wireChannel{ch}, requests, nil
}

// carry has the loop do it. Its windows are the memory that a target which does not read can take up; see watch for all of them
// together.
func (in *wireIncoming) carry(fd int, o carriage) {
	f := o.flow
	in.AcceptCarry(fd, sshwire.CarryOptions{
		Connecting: o.connecting,
		Opened:     func(ca *sshwire.Carried) { f.begin(ca) },
		Failed: func(err error) (int, time.Duration) {
			o.failed(err)
			return -1, 0
		},
		Ended: func(*sshwire.Carried) {
			f.finish()
			o.ended()
		},
	})
}

type wireChannel struct{ *sshwire.Channel }

func (ch wireChannel) complain(text string) { _, _ = ch.WriteStderr([]byte(text)) }

func (ch wireChannel) tell(name string, payload []byte) {
	_, _ = ch.SendRequest(context.Background(), name, false, payload) // does not wait
}
