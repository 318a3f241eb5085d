package sshnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A link is one SSH connection that is logged in.
type link struct {
	wire
	n          *Node
	address    string
	keepalive  time.Duration
	unanswered int            // how many keepalives may be
	channels   atomic.Int64   // open, and about to be
	done       chan struct{}  // closed when the connection has ended
	late       sync.WaitGroup // channels that wait for an answer of the server

	mu       sync.Mutex
	reason   error // why it was ended from here
	closed   bool
	forwards []*forwarding
	pending  int           // registrations that the server has not answered
	answered chan struct{} // closed and replaced when it has
}

func newLink(n *Node, w wire, r *Resolved) *link {
	return &link{
		n: n, wire: w, address: r.address(), keepalive: r.ServerAliveInterval, unanswered: r.ServerAliveCountMax,
		done: make(chan struct{}), answered: make(chan struct{}),
	}
}

// run serves the connection until it ends, and says why.
func (l *link) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.kill(ctx.Err()) })
	defer stop()
	err := l.wire.serve(l.keepalive, l.unanswered, l.arrive)
	l.mu.Lock()
	l.closed = true
	if l.reason != nil {
		err = l.reason
	}
	l.mu.Unlock()
	close(l.done)
	l.late.Wait()
	if err == nil {
		err = errors.New("the server closed it")
	}
	return err
}

// kill ends the connection. Its channels end with it.
func (l *link) kill(reason error) {
	l.mu.Lock()
	if l.reason == nil {
		l.reason = reason
	}
	l.closed = true
	l.mu.Unlock()
	l.close()
}

func silentError(silent time.Duration) error {
	return fmt.Errorf("no answer for %s", silent.Round(time.Millisecond))
}

// alive reports whether the connection is not known to have ended.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && l.wire.alive()
}

// release takes back what acquire counted.
func (l *link) release() { l.channels.Add(-1) }

// An opening is a channel to be opened.
type opening struct {
	kind    string
	payload []byte
	remote  net.Addr
	what    string
}

// dial opens a channel that was counted by acquire, and counts until the server has let go of it.
func (l *link) dial(ctx context.Context, o opening) (net.Conn, error) {
	c, err := l.open(ctx, o, l.release)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil && err == ctx.Err():
		return nil, fmt.Errorf("%s: %w", o.what, err)
	}
	l.release()
	return nil, channelError(o.what, err)
}
