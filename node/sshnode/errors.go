package sshnode

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// An awayError is that there is no connection.
type awayError struct {
	kind  error // node.ErrAway or node.ErrClosed
	why   string
	cause error
}

func (e *awayError) Error() string {
	if e.why == "" {
		return e.kind.Error()
	}
	return e.kind.Error() + ": " + e.why
}

func (e *awayError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// An AuthError is that the server does not let us in.
type AuthError struct {
	User, Host string
	Tried      []string // what was offered: "id_ed25519 (SHA256:…)", "password"
	Accepts    []string // the methods that the server names
	Notes      []string // what could not be offered, and what to do about it
	Err        error    // what the server or the library said; may be nil
}

func (e *AuthError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s does not let %s in", e.Host, e.User)
	if len(e.Accepts) > 0 {
		fmt.Fprintf(&b, "; it takes %s", clean(strings.Join(e.Accepts, ", ")))
	}
	if len(e.Tried) > 0 {
		fmt.Fprintf(&b, "; tried %s", strings.Join(e.Tried, ", "))
	} else {
		b.WriteString("; there was nothing to try")
	}
	if e.Err != nil {
		fmt.Fprintf(&b, "; %s", clean(e.Err.Error()))
	}
	for _, note := range e.Notes {
		fmt.Fprintf(&b, "; %s", note)
	}
	return b.String()
}

func (e *AuthError) Unwrap() error { return e.Err }

// Permanent reports whether err is one that trying again will not change until somebody does something: a wrong host key, a
// login that is refused.
func Permanent(err error) bool {
	var host *HostKeyError
	var auth *AuthError
	var conf *configError
	return errors.As(err, &host) || errors.As(err, &auth) || errors.As(err, &conf)
}

// A configError is that what was asked for cannot be done.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

// channelError says in the words of package node why a server did not open a channel (RFC 4254, section 5.1).
func channelError(what string, err error) error {
	var refused *ssh.OpenChannelError
	if !errors.As(err, &refused) {
		return fmt.Errorf("%s: %w: %w", what, sshchan.ErrLost, err)
	}
	kind := node.ErrRefused
	switch refused.Reason {
	case ssh.ConnectionFailed:
		kind = node.ErrFar
	case ssh.UnknownChannelType:
		kind = node.ErrUnfit
	}
	if text := clean(refused.Message); text != "" {
		return fmt.Errorf("%s: %w: %s", what, kind, text)
	}
	return fmt.Errorf("%s: %w: %s", what, kind, refused.Reason)
}

// longest is how much text is shown of one error, in bytes: room for a changed host key and what to do about it.
const longest = 700

// clean makes text of a server's fit for a log and a terminal.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' {
			return ' '
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}
