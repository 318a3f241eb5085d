// Package socks is the head for SOCKS 4, 4a and 5 (RFC 1928 and 1929): CONNECT, BIND and UDP ASSOCIATE. It reads what clients
// ask for and answers; where they may go, and how one gets there, is not for this package to know.
package socks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
)

// bindWait is how long a peer may take to call a port that BIND has opened; the SOCKS 4 protocol says two minutes.
const bindWait = 2 * time.Minute

// The versions, the first byte of each request.
const (
	version4 = 4
	version5 = 5
)

// The commands (RFC 1928, section 4; SOCKS 4 has the first two).
const (
	cmdConnect   = 1
	cmdBind      = 2
	cmdAssociate = 3
)

// Errors of clients, to be matched with errors.Is.
var (
	// ErrProtocol is the error of a client who does not speak SOCKS.
	ErrProtocol = errors.New("the client does not speak SOCKS")
	// ErrNoLogin is that of one who has to log in and offers no way to do so. It is an error of logging in, too.
	ErrNoLogin = fmt.Errorf("the client does not offer to log in: %w", head.ErrLogin)
)

// A Server is a head.Head.
type Server struct {
	buffers sync.Pool // of *[bufferSize]byte, for datagrams
}

// New returns a head for SOCKS.
func New() *Server {
	return &Server{buffers: sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

// Prompt says that Serve can be called again for a client who has said more; only BIND and UDP ASSOCIATE wait for others.
func (s *Server) Prompt() {}

// Serve reads what a client wants and has it done.
func (s *Server) Serve(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error) {
	r := &reader{conn: client}
	first, err := r.peek(1)
	if err != nil {
		return head.Outcome{}, fmt.Errorf("the client said nothing: %w", err)
	}
	var q request
	switch first[0] {
	case version4:
		q, err = read4(r, env.NeedsLogin())
	case version5:
		if err = s.greet(ctx, r, env); err == nil {
			q, err = read5(r)
		}
	default:
		return head.Outcome{}, fmt.Errorf("%w: its first byte is %#02x", ErrProtocol, first[0])
	}
	if err != nil {
		return head.Outcome{}, err
	}
	switch q.command {
	case cmdConnect:
		return connect(ctx, r, env, q)
	case cmdBind:
		return bind(ctx, r, env, q)
	case cmdAssociate:
		return head.Outcome{}, s.associate(ctx, r, env, q)
	}
	return head.Outcome{}, fmt.Errorf("SOCKS command %d", q.command) // the readers let no other through
}

// A request is what a client asks for.
type request struct {
	dialect
	command byte
	host    string // an IP address or a name, as head.Host gives it
	port    uint16
}

func connect(ctx context.Context, r *reader, env head.Env, q request) (head.Outcome, error) {
	target, err := env.Dial(ctx, "tcp", q.host, q.port)
	if err != nil {
		return head.Outcome{}, r.refuse(q.dialect, err)
	}
	if err := r.write(q.granted(head.AddrPort(target.LocalAddr()))); err != nil {
		target.Close()
		return head.Outcome{}, err
	}
	return head.Outcome{Target: target, Ahead: r.rest()}, nil
}

// A dialect is how to answer, which the version decides.
type dialect byte

// granted is the answer that something was done.
func (d dialect) granted(bound netip.AddrPort) []byte {
	if d == version4 {
		return reply4(granted4, bound)
	}
	return reply5(granted5, bound)
}

// refused is the answer that it was not.
func (d dialect) refused(why head.Reason) []byte {
	if d == version4 {
		return reply4(rejected4, netip.AddrPort{})
	}
	return reply5(code5(why), netip.AddrPort{})
}

// refuse answers that something cannot be done, and returns why.
func (r *reader) refuse(d dialect, why error) error {
	if err := r.write(d.refused(head.ReasonOf(why))); err != nil {
		return fmt.Errorf("%w; and %w", why, err)
	}
	return why
}
