package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A Server serves SSH clients. It is made with New.
type Server struct {
	o      Options
	limits *limits
	claims *claims
	loops  loops
	quiet  throttle // of what strangers cause

	mu      sync.Mutex
	clients map[*client]struct{}
}

// New returns a server that has not started.
func New(o Options) (*Server, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	return &Server{
		o: o, limits: newLimits(o.MaxConnections, o.MaxPerSource, o.MaxStartups), claims: newClaims(o.MaxListeners),
		clients: map[*client]struct{}{},
	}, nil
}

// Run serves the clients of listeners until ctx ends or a listener fails. It closes them, and returns when every client is gone
// and its listeners are given back.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	for _, l := range listeners {
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		running.Go(func() {
			if err := s.accept(ctx, l, &running); err != nil {
				cancel(err)
			}
		})
	}
	running.Go(func() { s.watch(ctx) })
	<-ctx.Done()
	running.Wait()
	s.loops.end()
	cancel(nil)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// Accepting is tried again after these pauses, while the system has no room for one more (accept(2), EMFILE and the like).
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

func (s *Server) accept(ctx context.Context, l net.Listener, running *sync.WaitGroup) error {
	pause := firstPause
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("the listener of the SSH server at %s was closed", l.Addr())
		case err != nil:
			s.o.Log.Warn("an SSH client could not be accepted", "listen", l.Addr().String(), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		running.Go(func() { s.serve(ctx, conn) })
	}
}

// serve is the life of one connection.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	from := addrPortOf(conn.RemoteAddr())
	log := s.o.Log.With("client", from.String())
	src := sourceOf(from.Addr())
	delay, refusal := s.limits.enter(src, time.Now())
	if refusal != "" {
		if leftOut, ok := s.quiet.may(); ok {
			log.Warn("SSH client refused", "why", refusal, keyLeftOut, leftOut)
		}
		return
	}
	wasIn, failed := false, false
	defer func() { s.limits.leave(src, wasIn, failed, time.Now()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	deadline := time.Now().Add(s.o.LoginGrace)
	_ = conn.SetDeadline(deadline) // fails on a closed connection, as everything after it will
	if delay > 0 && !sleep(ctx, delay) {
		return
	}
	l := &login{log: log, authorize: s.o.Authorize, from: from, hostKeys: s.o.HostKeys}
	p, who, err := s.handshake(ctx, l, conn, deadline)
	if err != nil {
		failed = l.failures > 0
		if failed || !errors.Is(err, io.EOF) {
			if leftOut, ok := s.quiet.may(); ok {
				log.Info("SSH client did not log in", "error", cmp.Or(l.last, err), keyLeftOut, leftOut)
			}
		}
		return
	}
	defer p.Close()
	if wasIn = s.limits.login(src); !wasIn {
		log.Warn("SSH client refused", "why", "as many are logged in as may be", "key", who.name)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	log = log.With("user", p.User(), "key", who.name)
	log.Info("SSH client logged in", "version", string(p.ClientVersion()))
	c := newClient(s, p, log, from, who)
	s.add(c)
	defer s.remove(c)
	err = c.run(ctx)
	log.Info("SSH client left", "why", err)
}

func (s *Server) add(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c] = struct{}{}
}

func (s *Server) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
}

// A Session is one channel that carries bytes.
type Session struct {
	Key, User string
	Client    netip.AddrPort
	Kind      string // the type of channel: "direct-tcpip" and so on
	Target    string // host:port or path
	Since     time.Time
}

func addrPortOf(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// sleep reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
