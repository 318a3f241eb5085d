package main

import (
	"context"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
)

// An sshForwarding is the engine that carries the forwardings of one command.
type sshForwarding struct {
	engine *engine
	end    context.CancelFunc
	ended  chan error
}

// startForwards has an engine carry the forwardings. It returns when each stands or has failed.
func (c *sshCommand) startForwards(ctx context.Context) (*sshForwarding, error) {
	plan, err := planSSH(ctx, c.host, c.server, c.voice)
	if err != nil || len(plan.groups) == 0 {
		return nil, err
	}
	for _, warning := range plan.warnings {
		c.voice.warn("Warning: %s", warning)
	}
	e := newEngine(engineOptions{nftables: kernel.ForegroundTable(), store: store.Memory(), log: c.voice.logger()})
	for name, n := range plan.nodes {
		e.settings.nodes.Join(name, n)
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	f := &sshForwarding{engine: e, end: end, ended: make(chan error, 1)}
	go func() { f.ended <- e.run(running) }()
	select {
	case <-e.table.Ready():
	case err := <-f.ended:
		end()
		return nil, err
	case <-ctx.Done():
		f.stop()
		return nil, ctx.Err()
	}
	for _, g := range plan.groups {
		if err := c.put(ctx, e, g); err != nil {
			f.stop()
			return nil, err
		}
	}
	return f, nil
}

// stop takes every forward away and waits for the engine's end.
func (f *sshForwarding) stop() {
	if f == nil {
		return
	}
	_ = f.engine.table.Down(context.Background())
	f.end()
	<-f.ended //nolint:errcheck // what went wrong was said
}

// put brings up one forwarding.
func (c *sshCommand) put(ctx context.Context, e *engine, g sshGroup) error {
	stands, why := false, ""
	for _, f := range g.forwards {
		st, err := e.table.Put(ctx, f)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			why = err.Error()
		case st.State == forward.StateFailed:
			why = st.Detail
			if len(g.forwards) > 1 {
				_ = e.table.Delete(ctx, f.Name) // the other address will do, and is not to be tried again
			}
		default:
			stands = true
		}
	}
	if stands && g.remote != nil {
		stands = await(ctx, func() bool {
			up, settled := g.remote.settled()
			why = g.remote.state().Why
			return up || settled
		}) && g.remote.state().Up
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !stands:
		return c.failedForward(g, plain(why))
	}
	c.voice.debug("%s stands", g.text)
	return nil
}
