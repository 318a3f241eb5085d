package head

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// A Reason is why something could not be done for a client, as far as protocols tell it apart.
type Reason uint8

// The reasons.
const (
	Failed             Reason = iota // none of the others
	Denied                           // the policy does not permit it
	NotFound                         // there is no such name
	Unfit                            // the node that dials cannot do it
	Refused                          // the target does not accept connections
	HostUnreachable                  // there is no way to the target
	NetworkUnreachable               // nor to the network that it is in
	TimedOut                         // the target does not answer
)

// ReasonOf is the reason that an error of an Env has.
func ReasonOf(err error) Reason {
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, ErrDenied):
		return Denied
	case errors.Is(err, ErrNotFound), errors.As(err, &dns) && dns.IsNotFound:
		return NotFound
	case errors.Is(err, ErrUnfit):
		return Unfit
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return HostUnreachable
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENETDOWN):
		return NetworkUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	}
	return Failed
}
