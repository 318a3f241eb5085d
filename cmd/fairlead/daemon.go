package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// An engine is the table with both carriers: what `up` and `forward` have in common.
type engine struct {
	table  *table.Table
	kernel *kernel.Carrier
	relay  *relay.Relay
	log    *slog.Logger
}

// newEngine wires an engine that run has yet to start. nftables is the name of its table in the kernel; "" is the daemon's.
func newEngine(nftables string, st store.Store, log *slog.Logger) *engine {
	e := &engine{
		kernel: kernel.New(kernel.Options{Table: nftables, Log: log}),
		relay:  relay.New(relay.Options{Log: log, Nodes: nodes()}),
		log:    log,
	}
	e.table = table.New(table.Options{Kernel: e.kernel, Relay: e.relay, Facts: kernel.Probe, Store: st, Log: log})
	return e
}

// nodes finds the node that a forward listens at or dials from by its name.
func nodes() func(string) (node.Node, error) {
	here := host.New()
	return func(name string) (node.Node, error) {
		if name == forward.Host {
			return here, nil
		}
		return nil, fmt.Errorf("there is no node %q; this version has %q alone", name, forward.Host)
	}
}

// run runs the table and the carriers until ctx ends. What the kernel carries stays there.
func (e *engine) run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return e.relay.Run(ctx) })
	tasks.Go(func() error { return e.table.Run(ctx) })
	if err := tasks.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Sessions lists the live sessions of both carriers. One that cannot list does not hide the other's.
func (e *engine) Sessions() ([]forward.Session, error) {
	fromKernel, err := e.kernel.Sessions()
	if err != nil {
		e.log.Warn("the kernel's sessions cannot be listed", "err", err)
	}
	all := append(e.relay.Sessions(), fromKernel...)
	slices.SortFunc(all, func(a, b forward.Session) int {
		if c := strings.Compare(a.Forward, b.Forward); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, nil
}

// Kill ends a session; its id says whose it is.
func (e *engine) Kill(id string) error {
	kill := func(string) error { return relay.ErrNoSession }
	switch {
	case strings.HasPrefix(id, "r"):
		kill = e.relay.Kill
	case strings.HasPrefix(id, "k"):
		kill = e.kernel.Kill
	}
	err := kill(id)
	if errors.Is(err, relay.ErrNoSession) || errors.Is(err, kernel.ErrNoSession) {
		return fmt.Errorf("%w: %q", api.ErrNoSession, id)
	}
	return err
}
