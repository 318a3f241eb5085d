package config

import (
	"errors"
	"fmt"

	"github.com/fairlead-net/fairlead/forward"
)

// ties finds forwards that ask for the same traffic. A forward with enabled = false asks for none: setting one aside is
// how another takes its place.
type ties struct {
	index forward.Index
	unix  map[string]owner // by path: a unix socket has one listener and tells no clients apart
	at    map[string]int   // place of each forward, by name
}

type owner struct {
	name string
	at   int
}

func (r *reader) checkTie(f *forward.Forward, at int) {
	if f.Disabled {
		return
	}
	t := &r.ties
	if t.at == nil {
		t.at, t.unix = map[string]int{}, map[string]owner{}
	}
	if f.Listen.IsUnix() {
		if other, taken := t.unix[f.Listen.Path]; taken {
			r.add(problem{
				at: at, forward: f.Name, msg: fmt.Sprintf("listens on the same unix socket as forward %q at %s", other.name, r.where(other.at)),
				hint: "give one of them another path in listen, or set it aside with enabled = false",
			})
			return
		}
		t.unix[f.Listen.Path] = owner{f.Name, at}
		return
	}
	err := t.index.Add(f)
	var tie *forward.TieError
	switch {
	case errors.As(err, &tie):
		r.add(problem{
			at: at, forward: f.Name, err: err,
			msg:  fmt.Sprintf("claims the same traffic as forward %q at %s: %s", tie.Other, r.where(t.at[tie.Other]), describeClaim(tie.Claim)),
			hint: "give one of them another port or address in listen, or a narrower from; or set one aside with enabled = false",
		})
	case err != nil:
		r.add(problem{at: at, forward: f.Name, msg: err.Error(), err: err})
	default:
		t.at[f.Name] = at
	}
}

// describeClaim is the traffic that a claim asks for, in words.
func describeClaim(c forward.Claim) string {
	s := c.Network.String() + " port " + c.Range.String()
	if c.Ports == forward.PortAll {
		s = "every " + c.Network.String() + " port"
	}
	if c.ByAddr {
		s += " of " + c.Addr.String()
	}
	if c.FromBits > 0 {
		s += " from " + c.From.String()
	}
	if c.ByInput {
		s += " on " + c.Interface
	}
	return s
}
