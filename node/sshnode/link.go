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
)

// A link is one SSH connection that is logged in.
type link struct {
	n          *Node
	client     *ssh.Client
	conn       *countedConn
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

func newLink(n *Node, client *ssh.Client, conn *countedConn, r *Resolved) *link {
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
	group.Go(func() { l.serve(l.client.HandleChannelOpen(tcpChannel), parseForwardedTCP) })
	group.Go(func() { l.serve(l.client.HandleChannelOpen(unixChannel), parseForwardedUnix) })
	group.Go(l.watch)
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

// alive reports whether the connection is not known to have ended.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed && !l.conn.ended.Load()
}

// release takes back what acquire counted.
func (l *link) release() { l.channels.Add(-1) }

// watch asks a silent peer whether it lives. The question wants no particular answer: a server that does not know the
// request says so, and lives.
func (l *link) watch() {
	wait := time.NewTimer(l.keepalive)
	defer wait.Stop()
	asked := 0         // since something was heard
	var last time.Time // that it was asked
	for {
		select {
		case <-l.done:
			return
		case <-wait.C:
		}
		heard := l.conn.heard()
		if heard.After(last) { // an answer, even if it came at once and this timer is late
			asked = 0
		}
		silent := time.Since(heard)
		switch {
		case silent < l.keepalive:
			asked = 0
			wait.Reset(l.keepalive - silent)
		case asked < l.unanswered:
			asked++
			last = time.Now()
			// The request may block as the connection does. It ends with it.
			go func() { _, _, _ = l.client.SendRequest("keepalive@openssh.com", true, nil) }()
			wait.Reset(l.keepalive)
		default:
			l.kill(fmt.Errorf("no answer for %s", silent.Round(time.Millisecond)))
			return
		}
	}
}

// An opening is a channel to be opened.
type opening struct {
	kind    string
	payload []byte
	remote  net.Addr
	what    string
}

// open opens a channel that was counted by acquire; the count is the channel's from then on.
func (l *link) open(ctx context.Context, o opening) (net.Conn, error) {
	type result struct {
		ch   ssh.Channel
		reqs <-chan *ssh.Request
		err  error
	}
	answer := make(chan result) // nobody takes it after ctx has ended
	gone := make(chan struct{})
	go func() {
		ch, reqs, err := l.client.OpenChannel(o.kind, o.payload)
		select {
		case answer <- result{ch, reqs, err}:
		case <-gone:
			if err == nil {
				go ssh.DiscardRequests(reqs)
				_ = ch.Close()
			}
		}
	}()
	select {
	case r := <-answer:
		if r.err != nil {
			return nil, channelError(o.what, r.err)
		}
		return newConn(l, r.ch, r.reqs, localAddr(o.remote), o.remote), nil
	case <-l.done:
		close(gone)
		return nil, fmt.Errorf("%s: %w", o.what, errLinkDied)
	case <-ctx.Done():
		close(gone)
		return nil, fmt.Errorf("%s: %w", o.what, ctx.Err())
	}
}
