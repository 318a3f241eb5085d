package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/sshd"
)

// sshRetry is how long to wait before an SSH server that could not start is tried again.
const sshRetry = 5 * time.Second

// An sshDaemon keeps the SSH server of the settings running, whichever that is at the moment.
type sshDaemon struct {
	host   node.Node
	guests *guests
	state  string   // directory for host keys
	closed []string // sockets of this program, which no client reaches
	log    *slog.Logger

	changed chan struct{} // capacity 1
	mu      sync.Mutex
	want    *config.SSHD
}

func (s *sshDaemon) settle(want *config.SSHD) {
	s.mu.Lock()
	same := s.want.Equal(want)
	s.want = want
	s.mu.Unlock()
	if same {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// run serves until ctx ends. Another configuration ends the server that runs, with its clients.
func (s *sshDaemon) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-s.changed: // what is read now is what that was about
		default:
		}
		s.mu.Lock()
		want := s.want
		s.mu.Unlock()
		serving, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.serve(serving, want) }()
		var retry <-chan time.Time
		for again := false; !again; {
			select {
			case err := <-ended:
				if ended = nil; err != nil && ctx.Err() == nil {
					s.log.Error("the SSH server does not run", keyError, err)
					retry = time.After(sshRetry)
				}
				again = ctx.Err() != nil
			case <-retry:
				again = true
			case <-s.changed:
				again = true
			case <-ctx.Done():
				again = true
			}
		}
		stop()
		if ended != nil {
			<-ended //nolint:errcheck // why it ended does not matter any more
		}
	}
}

// serve runs one server until ctx ends; without one it is content at once.
func (s *sshDaemon) serve(ctx context.Context, c *config.SSHD) error {
	if c == nil {
		return nil
	}
	keys, err := s.hostKeys(c)
	if err != nil {
		return err
	}
	server, err := sshd.New(sshd.Options{
		Log: s.log, HostKeys: keys, Authorize: sshd.NewKeyFiles(s.log, c.AuthorizedKeys, c.UserCAs).Keys,
		GatewayPorts: c.GatewayPorts, Policy: c.Policy, ClosedSockets: s.closed,
		MaxConnections: c.MaxConnections, MaxPerSource: c.MaxPerSource, MaxStartups: c.MaxStartups,
		LoginGrace: c.LoginGrace, Keepalive: c.Keepalive,
		Dial: func(ctx context.Context, _ netip.AddrPort, network, addr string) (net.Conn, error) {
			return s.host.Dial(ctx, network, addr)
		},
		Connect:  s.connect(),
		Forwards: s.guests,
	})
	if err != nil {
		return err
	}
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	for _, l := range c.Listen {
		for port := range l.Ports.Each {
			network, addr := "tcp", ":"+strconv.Itoa(int(port))
			if l.Addr.IsValid() {
				addr = netip.AddrPortFrom(l.Addr, port).String()
			}
			listener, err := s.host.Listen(ctx, network, addr)
			if err != nil {
				return fmt.Errorf("listen = %q: %w", l, err)
			}
			listeners = append(listeners, listener)
			s.log.Info("the SSH server listens", keyListen, listener.Addr().String())
		}
	}
	if err := server.Run(ctx, listeners...); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// connect is the way to dial without waiting, nil where the host has none.
func (s *sshDaemon) connect() func(to netip.AddrPort) (int, error) {
	host, ok := s.host.(node.SocketNode)
	if !ok {
		return nil
	}
	return func(to netip.AddrPort) (int, error) { return host.Connect(to, node.ConnectOptions{}) }
}

func (s *sshDaemon) hostKeys(c *config.SSHD) ([]ssh.Signer, error) {
	if len(c.HostKeys) > 0 {
		return sshd.LoadHostKeys(c.HostKeys)
	}
	dir := filepath.Join(s.state, "ssh")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return sshd.MakeHostKeys(dir)
}

// Keys of log attributes.
const (
	keyListen = "listen"
	keyError  = "err"
)
