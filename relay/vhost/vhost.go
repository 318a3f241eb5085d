// Package vhost is for forwards that share a port and are told apart by the name that a client calls: in the first message of TLS
// (SNI, RFC 6066), or in each request of HTTP. It reads what a client says first, ends TLS and HTTP where that has to be, and knows
// who may ask: certificates, logins, the page that is shown while a target is away.
//
// Which forward a name leads to, limits, and how targets are dialled belong to the relay: a Front is what it is here. A request is
// routed and authorised by one and the same name, that of the request itself; nothing that was true of an earlier request of the
// connection counts for the next. Targets are spoken to over connections that belong to one client connection alone.
package vhost

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// A Front is where one client connection came in.
type Front interface {
	// Client is who called; zero where that is not known.
	Client() netip.AddrPort
	// Visit finds the forward for a name, as forward.NameCalled has it, and takes the client in there. The same Visit comes
	// back for as long as that is the same forward. The error is ErrNoSite, or why the client is not taken in.
	Visit(host string) (Visit, error)
}

// A Visit is one client connection at one forward.
type Visit interface {
	Site() *Site
	// Dial connects to a target. What is carried is counted and limited.
	Dial(ctx context.Context) (net.Conn, error)
	// Login checks a name and a password.
	Login(ctx context.Context, name, password string) error
}

// ErrNoSite is that no forward has the name.
var ErrNoSite = errors.New("there is no site of this name here")
