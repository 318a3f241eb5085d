package main

import (
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/head/either"
	"github.com/fairlead-net/fairlead/relay/head/httpproxy"
	"github.com/fairlead-net/fairlead/relay/head/pac"
	"github.com/fairlead-net/fairlead/relay/head/socks"
)

// heads makes the heads of dynamic forwards. All share those that depend on nothing of the forward.
func heads() relay.Heads {
	forSocks, forHTTP := socks.New(), httpproxy.New(httpproxy.Options{})
	return func(f *forward.Forward) head.Head {
		kind, http := f.Dynamic(), forHTTP
		if f.PAC.Serve {
			file := func(called string) ([]byte, error) { return pac.File(f.PAC, called, kind) }
			http = httpproxy.New(httpproxy.Options{PAC: file, PACOnly: kind == forward.HeadSocks})
		}
		switch {
		case kind == forward.HeadHTTP:
			return http
		case kind == forward.HeadProxy, kind == forward.HeadSocks && f.PAC.Serve:
			return either.New(forSocks, http)
		case kind == forward.HeadSocks:
			return forSocks
		}
		return nil
	}
}
