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

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/sshd"
)

// An sshDaemon is the SSH server of the settings, whichever that is at the moment.
type sshDaemon struct {
	*resident[*config.SSHD]
	host   node.Node
	guests *guests
	state  string   // directory for host keys
	closed []string // sockets of this program, which no client reaches
}

func newSSHDaemon(host node.Node, state string, log *slog.Logger) *sshDaemon {
	s := &sshDaemon{host: host, state: state}
	s.resident = newResident("the SSH server", log, (*config.SSHD).Equal, s.listen)
	return s
}

// listen runs one server until ctx ends; without one it is content at once.
func (s *sshDaemon) listen(ctx context.Context, c *config.SSHD, opened func()) error {
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
	opened()
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
