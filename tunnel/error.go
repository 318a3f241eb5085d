package tunnel

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/fairlead-net/fairlead/node"
)

// Error is what the other end said, or what its code means.
func (e *Error) Error() string {
	if e.Text != "" {
		return e.Text
	}
	return e.Code.String()
}

// Is knows the errors of package node by the code.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case Refused, TooMany, Unknown, Secret, Revoked:
		return target == node.ErrRefused
	case Unreachable:
		return target == node.ErrFar
	case Unfit:
		return target == node.ErrUnfit
	case Timeout:
		return target == node.ErrAway
	case Gone, Shutdown:
		return target == node.ErrClosed
	case Busy:
		return target == error(syscall.EADDRINUSE)
	}
	return false
}

// String is the code in words.
func (c Code) String() string {
	words := [...]string{
		"done", "there is no version of the protocol in common", "the agent has to be enrolled first", "the secret is wrong, was used or has expired",
		"there is no such session any more", "the agent may not come any more", "another one took the place", "it is not permitted",
		"the target cannot be reached", "the address is taken", "there are as many as there may be", "the other end cannot do that at all",
		"what came makes no sense", "the other end was stopped", "nobody was there in time",
	}
	if c < Code(len(words)) {
		return words[c]
	}
	return fmt.Sprintf("code %d", uint64(c))
}

// CodeOf is the code that tells the other end about err.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return Done
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, node.ErrRefused):
		return Refused
	case errors.Is(err, node.ErrUnfit):
		return Unfit
	case errors.Is(err, node.ErrAway):
		return Timeout
	case errors.Is(err, syscall.EADDRINUSE):
		return Busy
	}
	return Unreachable
}

var (
	errReset          = fmt.Errorf("the other end has reset the stream: %w", syscall.ECONNRESET)
	errEnded          = fmt.Errorf("the session has ended: %w", node.ErrClosed)
	errBroken         = fmt.Errorf("the direction was closed: %w", io.ErrClosedPipe)
	errConnectTimeout = fmt.Errorf("connect: %w", os.ErrDeadlineExceeded)
	errSilent         = errors.New("nothing was heard for 9s")
	errUnready        = errors.New("the other end has not said in time what it knows")
	errImpostor       = &Error{Code: Refused, Text: "the session is another agent's"}
)

// protocolError is that what came on a link makes no sense. The link ends, the session stays.
func protocolError(format string, args ...any) error {
	return &Error{Code: Protocol, Text: fmt.Sprintf(format, args...)}
}
