package sshwire

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

var (
	// ErrUnsupported is that the far end wants something that this package does not speak. golang.org/x/crypto/ssh may.
	ErrUnsupported = errors.New("this takes an SSH algorithm or login that only the general implementation has")

	// ErrClosed is what there is to say of a connection, or of a channel of one, that was closed here.
	ErrClosed = fmt.Errorf("the SSH connection was closed: %w", net.ErrClosed)

	// ErrDead is that the far end has not answered keepalives.
	ErrDead = errors.New("the SSH peer did not answer a keepalive")

	errChannelClosed = errors.New("the SSH peer has closed the channel")
)

// An UnsupportedError says what the two ends do not have in common. It is ErrUnsupported.
type UnsupportedError struct {
	What   string // as "cipher"
	Theirs []string
	Agreed bool // the algorithms are common: it is this system that has no loop

	// Conn is the connection of a server, as if nothing had been read from it or written to it: it is to be given to
	// ssh.NewServerConn with the same ServerVersion. It is nil for a client, who has to connect again.
	Conn net.Conn
}

func (e *UnsupportedError) Error() string {
	if len(e.Theirs) == 0 {
		return "this implementation of SSH does not do: " + e.What
	}
	return fmt.Sprintf("no %s is common; the peer has %s", e.What, printable(strings.Join(e.Theirs, ", ")))
}

// Is is for errors.Is.
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

// An AuthError is that a server did not let the client in. It is ErrUnsupported if the server would take something else
// than the keys that were offered.
type AuthError struct {
	Allowed []string // methods that can go on (RFC 4252, section 5.1)
	Tried   int      // keys that were offered
	Partial bool     // a key was right, and something else is wanted besides
	Err     error    // why a key could not be used, if one could not
}

func (e *AuthError) Error() string {
	text := fmt.Sprintf("the server took none of %d keys; it accepts %s", e.Tried, printable(strings.Join(e.Allowed, ", ")))
	if e.Partial {
		text = "the server wants more than a key; it accepts " + printable(strings.Join(e.Allowed, ", "))
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *AuthError) Unwrap() error { return e.Err }

// Is is for errors.Is.
func (e *AuthError) Is(target error) bool {
	other := func(method string) bool { return method != methodPublicKey }
	return target == ErrUnsupported && (e.Partial || slices.ContainsFunc(e.Allowed, other))
}

// A DisconnectError is that the far end has ended the connection, and what it said (RFC 4253, section 11.1).
type DisconnectError struct {
	Reason uint32
	Text   string
}

func (e *DisconnectError) Error() string {
	return fmt.Sprintf("the SSH peer has disconnected: %s (reason %d)", printable(e.Text), e.Reason)
}

// An OpenError is that the far end did not open a channel, and what it said (RFC 4254, section 5.1).
type OpenError struct {
	Reason uint32
	Text   string
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("the SSH peer did not open the channel: %s (reason %d)", printable(e.Text), e.Reason)
}

// Reasons of an OpenError.
const (
	Prohibited         = 1
	ConnectionFailed   = 2
	UnknownChannelType = 3
	ResourceShortage   = 4
)

// protocolError is that the far end broke the rules; it is told so with reason 2 (RFC 4253, section 11.1).
type protocolError struct{ text string }

func (e *protocolError) Error() string { return "the SSH peer broke the protocol: " + e.text }

func broken(format string, args ...any) error { return &protocolError{fmt.Sprintf(format, args...)} }

// printable is foreign text without what could play tricks on a terminal or a log, and not endless.
func printable(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
