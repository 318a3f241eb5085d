package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

// A handler takes what the other end of one session wants.
type handler struct {
	far     *Far
	session *session
}

// Opened is called for each stream and flow.
func (h *handler) Opened(a *tunnel.Arrival) {
	if h.far.isQuiet() {
		return
	}
	switch a.Kind {
	case tunnel.Arrived:
		h.far.asked.arrived(a)
	case tunnel.Dial:
		if h.far.o.Judge == nil {
			a.Refuse(tunnel.Refused, "nothing is dialled here")
		} else if !h.far.later(func(ctx context.Context) { h.far.travel(ctx, h.session, a) }) {
			a.Refuse(tunnel.Shutdown, "")
		}
	default:
		a.Refuse(tunnel.Unfit, "what is that?")
	}
}

// Asked is called for each request.
func (h *handler) Asked(name string, payload []byte, reply func([]byte, error)) {
	switch name {
	case askListen, askServe, askUnlisten:
		h.far.desk.asked(h.far, h.session, name, payload, reply)
	case askClosed:
		c, err := parseClosed(payload)
		if err == nil {
			h.far.asked.closed(h.session, c)
		}
		reply(nil, answer(err))
	case askTold:
		t, err := parseTold(payload)
		if err == nil && h.far.o.Told != nil {
			h.far.o.Told(t)
		}
		if err == nil {
			h.far.asked.retry() // what was refused may be permitted now
		}
		reply(nil, answer(err))
	default:
		reply(nil, &tunnel.Error{Code: tunnel.Unfit, Text: fmt.Sprintf("there is no request %.40q here", name)})
	}
}

// answer is an error as the other end is told it.
func answer(err error) error {
	var said *tunnel.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &said):
		return said
	}
	return &tunnel.Error{Code: codeOf(err), Text: clean(plain(err))}
}

func codeOf(err error) tunnel.Code {
	switch {
	case errors.Is(err, errRequest):
		return tunnel.Protocol
	case errors.Is(err, node.ErrRefused):
		return tunnel.Refused
	case errors.Is(err, node.ErrUnfit):
		return tunnel.Unfit
	case errors.Is(err, errMost):
		return tunnel.TooMany
	case errors.Is(err, syscall.EADDRINUSE):
		return tunnel.Busy
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, node.ErrAway):
		return tunnel.Timeout
	}
	return tunnel.Unreachable
}

// plain leaves out of an error what its code says already.
func plain(err error) string {
	text := err.Error()
	for _, said := range []error{node.ErrRefused, node.ErrUnfit} {
		text = strings.TrimPrefix(text, said.Error()+": ")
	}
	return text
}

// errMost is that there are as many as there may be.
var errMost = errors.New("as many as there may be")

func isFlow(network string) bool { return strings.HasPrefix(network, "udp") }
