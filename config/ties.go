package config

import (
	"errors"
	"fmt"

	"github.com/fairlead-net/fairlead/forward"
)

// ties finds forwards that ask for the same traffic. A forward with enabled = false asks for none: setting one aside is
// how another takes its place. The SSH server is among them as a forward that no file can name.
type ties struct {
	index map[string]*forward.Index // by node
	unix  map[unixPath]owner        // a unix socket has one listener and tells no clients apart
	at    map[string]int            // place of each forward, by name
}

type unixPath struct{ node, path string }

type owner struct {
	name string
	at   int
}

// called is what a message calls a forward, or the SSH server.
func called(name string) string {
	if forward.CheckName(name) != nil {
		return name
	}
	return fmt.Sprintf("forward %q", name)
}

func (r *reader) checkTie(f *forward.Forward, at int) {
	if f.Disabled {
		return
	}
	t := &r.ties
	if t.at == nil {
		t.at, t.unix, t.index = map[string]int{}, map[unixPath]owner{}, map[string]*forward.Index{}
	}
	where := f.ListensAt()
	one := problem{at: at, forward: f.Name}
	if forward.CheckName(f.Name) != nil {
		one.forward, one.table = "", f.Name
	}
	if f.Listen.IsUnix() {
		path := unixPath{where, f.Listen.Path}
		if other, taken := t.unix[path]; taken {
			one.msg = fmt.Sprintf("listens on the same unix socket as forward %q at %s", other.name, r.where(other.at))
			one.hint = "give one of them another path in listen, or set it aside with enabled = false"
			r.add(one)
			return
		}
		t.unix[path] = owner{f.Name, at}
		return
	}
	if t.index[where] == nil {
		t.index[where] = new(forward.Index)
	}
	there := f
	if where != forward.Host { // an index is of one node, and its claims are those of this host
		there = new(forward.Forward)
		*there, there.At = *f, ""
	}
	err := t.index[where].Add(there)
	var tie *forward.TieError
	switch {
	case errors.As(err, &tie):
		one.err = err
		one.msg = fmt.Sprintf("claims the same traffic as %s at %s: %s", called(tie.Other), r.where(t.at[tie.Other]), describeClaim(tie.Claim))
		if tie.Reason != "" {
			one.msg = fmt.Sprintf("cannot share %s with %s at %s: %s", describeClaim(tie.Claim), called(tie.Other), r.where(t.at[tie.Other]), tie.Reason)
		}
		one.hint = "give one of them another port or address in listen, or a narrower from; or set one aside with enabled = false"
		if tie.Claim.Host != "" && tie.Reason == "" {
			one.hint = "give one of them another name in host, another port or address in listen, or a narrower from; or set one aside with enabled = false"
		}
		if one.table != "" {
			one.hint = "leave one of them out, or give it another port or address"
		}
		r.add(one)
	case err != nil:
		one.msg, one.err = err.Error(), err
		r.add(one)
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
	if c.Host != "" {
		s += " for " + c.Host
	}
	return s
}
