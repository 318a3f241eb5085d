package sshnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// A link is one SSH connection that is logged in.
type link struct {
	n          *Node
	client     *ssh.Client
	conn       *sshchan.Wire
	address    string
	keepalive  time.Duration
	unanswered int           // how many keepalives may be
	channels   atomic.Int64  // open, and about to be
	done       chan struct{} // closed when the connection has ended

	mu       sync.Mutex
	reason   error // why it was ended from here
	closed   bool
	forwards []*forwarding
	pending  int           // registrations that the server has not answered
	answered chan struct{} // closed and replaced when it has
}

func newLink(n *Node, client *ssh.Client, conn *sshchan.Wire, r *Resolved) *link {
	return &link{
		n: n, client: client, conn: conn, address: r.address(), keepalive: r.ServerAliveInterval, unanswered: r.ServerAliveCountMax,
		done: make(chan struct{}), answered: make(chan struct{}),
	}
}

// run serves the connection until it ends, and says why.
func (l *link) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.kill(ctx.Err()) })
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { l.serve(l.client.HandleChannelOpen(sshchan.Forwarded), sshchan.ParseForwarded) })
	group.Go(func() { l.serve(l.client.HandleChannelOpen(sshchan.ForwardedUnix), sshchan.ParseForwardedUnix) })
	group.Go(func() { l.conn.Keepalive(l.keepalive, l.unanswered, l.ask, l.dead) })
	err := l.client.Wait()
	_ = l.conn.Close()
	l.mu.Lock()
	l.closed = true
	if l.reason != nil {
		err = l.reason
	}
	l.mu.Unlock()
	close(l.done)
	group.Wait()
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
	_ = l.conn.Close()
}

// ask sends a question to which any answer will do.
func (l *link) ask() { _, _, _ = l.client.SendRequest(sshchan.Keepalive, true, nil) }

func (l *link) dead(silent time.Duration) {
	l.kill(fmt.Errorf("no answer for %s", silent.Round(time.Millisecond)))
}

// alive reports whether the connection is not known to have ended.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.conn.Done():
		return false
	default:
		return !l.closed
	}
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

// open opens a channel that was counted by acquire, and counts until the server has let go of it.
func (l *link) open(ctx context.Context, o opening) (net.Conn, error) {
	ch, reqs, err := sshchan.Open(ctx, l.client, o.kind, o.payload, l.release)
	switch {
	case err == nil:
		return l.wrap(ch, reqs, localAddr(o.remote), o.remote), nil
	case ctx.Err() != nil && err == ctx.Err(): //nolint:errorlint // it is that, or the server's answer
		return nil, fmt.Errorf("%s: %w", o.what, err)
	}
	l.release()
	return nil, channelError(o.what, err)
}

// wrap makes a connection of a channel that is counted.
func (l *link) wrap(ch ssh.Channel, reqs <-chan *ssh.Request, local, remote net.Addr) net.Conn {
	return sshchan.New(ch, reqs, sshchan.Ends{Local: local, Remote: remote, Wire: l.conn, Gone: l.release})
}
