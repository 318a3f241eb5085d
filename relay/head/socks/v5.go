package socks

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	"github.com/fairlead-net/fairlead/relay/head"
)

// Ways to log in (RFC 1928, section 3). GSSAPI, which the RFC asks for as well, is offered by no client that has no other.
const (
	methodNone     = 0
	methodPassword = 2
	methodNoneFits = 0xff
)

// passwordVersion is the version of the messages of RFC 1929.
const passwordVersion = 1

// Answers of SOCKS 5 (RFC 1928, section 6).
const (
	granted5            = 0
	failed5             = 1
	denied5             = 2
	networkUnreachable5 = 3
	hostUnreachable5    = 4
	refused5            = 5
	timedOut5           = 6 // "TTL expired", which servers answer for a target that says nothing
	noCommand5          = 7
	noAddressType5      = 8
)

func code5(why head.Reason) byte {
	switch why {
	case head.Denied:
		return denied5
	case head.NetworkUnreachable:
		return networkUnreachable5
	case head.HostUnreachable, head.NotFound:
		return hostUnreachable5
	case head.Refused:
		return refused5
	case head.TimedOut:
		return timedOut5
	case head.Unfit:
		return noCommand5
	}
	return failed5
}

// greet agrees on a way to log in, and logs the client in.
func (s *Server) greet(ctx context.Context, r *reader, env head.Env) error {
	start, err := r.peek(2)
	if err != nil {
		return fmt.Errorf("read the greeting: %w", err)
	}
	greeting, err := r.take(2 + int(start[1]))
	if err != nil {
		return fmt.Errorf("read the greeting: %w", err)
	}
	methods, method := greeting[2:], byte(methodNoneFits)
	switch {
	case !env.NeedsLogin() && bytes.IndexByte(methods, methodNone) >= 0:
		method = methodNone
	case bytes.IndexByte(methods, methodPassword) >= 0: // even where no login is needed, for those who offer nothing else
		method = methodPassword
	}
	if err := r.write([]byte{version5, method}); err != nil {
		return err
	}
	switch method {
	case methodNoneFits:
		return ErrNoLogin
	case methodPassword:
		return login(ctx, r, env)
	}
	return nil
}

// login reads a name and a password (RFC 1929), and answers whether they are right.
func login(ctx context.Context, r *reader, env head.Env) error {
	start, err := r.peek(2)
	if err != nil {
		return fmt.Errorf("read the login: %w", err)
	}
	if start[0] != passwordVersion {
		return fmt.Errorf("%w: its login has version %d", ErrProtocol, start[0])
	}
	userLen := int(start[1])
	if start, err = r.peek(2 + userLen + 1); err != nil {
		return fmt.Errorf("read the login: %w", err)
	}
	message, err := r.take(len(start) + int(start[2+userLen]))
	if err != nil {
		return fmt.Errorf("read the login: %w", err)
	}
	user, password := string(message[2:2+userLen]), string(message[2+userLen+1:])
	if env.NeedsLogin() {
		if err := env.Login(ctx, user, password); err != nil {
			r.write([]byte{passwordVersion, 1}) //nolint:errcheck // the other error says more
			return err
		}
	}
	return r.write([]byte{passwordVersion, 0})
}

// read5 reads the request that follows (RFC 1928, section 4).
func read5(r *reader) (request, error) {
	start, err := r.peek(5)
	if err != nil {
		return request{}, fmt.Errorf("read the request: %w", err)
	}
	if start[0] != version5 {
		return request{}, r.reject5(failed5, fmt.Errorf("%w: its request has version %d", ErrProtocol, start[0]))
	}
	q := request{dialect: version5, command: start[1]}
	size := addressLen(start[3:])
	if size == 0 {
		return request{}, r.reject5(noAddressType5, fmt.Errorf("%w: SOCKS 5 has no addresses of type %d", ErrProtocol, start[3]))
	}
	message, err := r.take(3 + size)
	if err != nil {
		return request{}, fmt.Errorf("read the request: %w", err)
	}
	if q.host, q.port, err = parseAddress(message[3:]); err != nil {
		return request{}, r.reject5(failed5, err)
	}
	switch {
	case q.command < cmdConnect || q.command > cmdAssociate:
		return request{}, r.reject5(noCommand5, fmt.Errorf("%w: SOCKS 5 has no command %d", ErrProtocol, q.command))
	case q.command == cmdConnect && q.port == 0:
		return request{}, r.reject5(failed5, fmt.Errorf("%w: port 0", ErrProtocol))
	}
	return q, nil
}

func (r *reader) reject5(code byte, why error) error {
	r.write(reply5(code, netip.AddrPort{})) //nolint:errcheck // why says more
	return why
}

func reply5(code byte, bound netip.AddrPort) []byte {
	return appendAddress([]byte{version5, code, 0}, bound)
}
