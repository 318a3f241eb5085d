package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// Options are what a Server is made of.
type Options struct {
	Log      *slog.Logger // nil: nothing is logged
	HostKeys []ssh.Signer // at least one; see LoadHostKeys and MakeHostKeys
	// Authorize returns the keys that may log in now. It is asked at each login and at each channel, so it has to be quick:
	// see KeyFiles.
	Authorize func() (*Keys, error)

	GatewayPorts string         // as in sshd_config(5): "no" (the default), "yes", "clientspecified"
	Policy       forward.Policy // where channels may lead, besides what keys say
	// ClosedSockets are unix sockets that no client reaches, whatever its key says and whatever the path is by which it
	// tries: those of this program, which trusts whoever has its own user id.
	ClosedSockets []string

	MaxConnections int // logged in at once; 0 is 1000
	MaxPerSource   int // from one address (IPv6: one /64), logged in or not; 0 is 100
	MaxStartups    int // that have not logged in yet; from half of it on some are turned away; 0 is 100
	MaxChannels    int // open or being opened in one connection; 0 is 2000
	MaxListeners   int // of one key; 0 is 100

	LoginGrace time.Duration // to log in; 0 is 30 s
	Keepalive  time.Duration // how often a silent client is asked whether it lives; 0 is 15 s

	// Dial connects to what a client wants to reach: "tcp" with host:port, or "unix" with a path. With a policy that speaks of
	// networks the host is an address, which was looked up here and found permitted.
	Dial func(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error)
	// Connect starts a connection to an address and returns the socket, which does not block: it is Dial for where the client
	// has named the address, without waiting. nil: there is only Dial.
	Connect func(to netip.AddrPort) (fd int, err error)
	// Lookup finds the addresses of a name; nil asks the system.
	Lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
	Forwards node.Forwards // takes what clients ask to have forwarded to them (-R)

	plain bool // every client is served by x/crypto
}

func (o Options) complete() (Options, error) {
	switch {
	case len(o.HostKeys) == 0:
		return o, errors.New("the SSH server needs a host key")
	case o.Authorize == nil || o.Dial == nil || o.Forwards == nil:
		return o, errors.New("the SSH server needs Authorize, Dial and Forwards")
	}
	switch o.GatewayPorts = cmp.Or(o.GatewayPorts, "no"); o.GatewayPorts {
	case "no", "yes", "clientspecified":
	default:
		return o, fmt.Errorf("gateway_ports is %q; it is \"no\", \"yes\" or \"clientspecified\"", o.GatewayPorts)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Lookup == nil {
		o.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	for _, limit := range []struct {
		value    *int
		ordinary int
	}{
		{&o.MaxConnections, 1000}, {&o.MaxPerSource, 100}, {&o.MaxStartups, 100}, {&o.MaxChannels, 2000}, {&o.MaxListeners, 100},
	} {
		*limit.value = cmp.Or(*limit.value, limit.ordinary)
	}
	o.LoginGrace = cmp.Or(o.LoginGrace, 30*time.Second)
	o.Keepalive = cmp.Or(o.Keepalive, 15*time.Second)
	return o, nil
}
