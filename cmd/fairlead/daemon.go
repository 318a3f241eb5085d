package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/node/sshnode"
	"github.com/fairlead-net/fairlead/portmap/grant"
	"github.com/fairlead-net/fairlead/portmap/neighbours"
	"github.com/fairlead-net/fairlead/portmap/publish"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// An engine is the table with both carriers: what `up` and `forward` have in common.
type engine struct {
	table    *table.Table
	relay    *relay.Relay
	kernel   *kernel.Carrier
	keep     *kernel.Keep
	settings *settings
	router   *router
	desk     *grant.Desk
	log      *slog.Logger
}

// engineOptions are what engines differ in.
type engineOptions struct {
	nftables string // name of its table in the kernel; "" is the daemon's
	store    store.Store
	left     *relay.Handover // what the relay of an earlier program has left, or nil
	state    string          // the directory in which an SSH server keeps its host keys; "" is none
	gateway  bool            // the settings may make this host a gateway, and programs of the LAN may ask it for ports
	socket   string          // of the control interface, which no client of an SSH server reaches; "" is none
	node     sshnode.Options // what nodes get besides what every one does
	log      *slog.Logger
}

// newEngine wires an engine that run has yet to start.
func newEngine(o engineOptions) *engine {
	options := kernel.Options{Table: o.nftables, Ledger: new(kernel.Ledger), Log: o.log}
	e := &engine{kernel: kernel.New(options), keep: kernel.NewKeep(options), settings: newSettings(o), log: o.log}
	relayOptions := relay.Options{
		Log: o.log, Nodes: e.settings.nodes.Node, Heads: heads(), Login: e.settings.login, Transparent: e.keep, Handover: o.left,
	}
	e.router = &router{wishes: map[string]publish.Wish{}, publisher: publish.New(publish.Options{Secret: publishSecret(), Log: o.log}), log: o.log}
	if o.gateway {
		e.router.gateway = kernel.NewGateway(kernel.GatewayOptions{Ledger: options.Ledger, StateDir: o.state, Log: o.log})
		relayOptions.Doorman = e.router.gateway
	}
	e.relay = relay.New(relayOptions)
	tableOptions := table.Options{
		Kernel: kernelCarrier{e.kernel}, Relay: e.relay, Beside: e.router, Facts: e.router.facts, Store: o.store, Settle: e.settle, Note: e.note, Log: o.log,
	}
	if o.gateway {
		book, around := grant.NewBook(), newSurroundings()
		tableOptions.Lease = book.Note
		e.table = table.New(tableOptions)
		e.desk = grant.New(grant.Options{
			Book: book, Table: e.table, Store: o.store, Outside: around.Outside, Inside: around.Inside, Busy: grant.Busy, Reserved: around.Reserved,
			Neighbours: neighbours.New(neighbours.Options{}), Log: o.log,
		})
		e.settings.around, e.settings.grants = around, newGrants(e.desk, around, o.log)
	} else {
		e.table = table.New(tableOptions)
	}
	if o.gateway { // what a foreground forward does there would be in the daemon's way
		e.router.others = newFirewalls(e.table.Carried, o.log)
	}
	e.settings.sshd.guests = newGuests(e.table, e.settings.nodes)
	return e
}

// settle makes s hold. It does not wait.
func (e *engine) settle(s config.Settings) {
	e.router.settle(s)
	e.settings.settle(s)
	if e.router.others != nil {
		e.router.others.settle(s)
	}
}

// note is what is good to know of a forward besides what the table knows, or "".
func (e *engine) note(name string) string {
	if e.router.others == nil {
		return ""
	}
	return e.router.others.note(name)
}

// run runs the table and the carriers until ctx ends. What the kernel carries stays there.
func (e *engine) run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	counting, counted := context.WithCancel(context.WithoutCancel(ctx)) // the table's last reading is of a relay that has ended
	var before sync.WaitGroup                                           // what ends before the table
	first := func(run func(context.Context) error) {
		before.Add(1)
		tasks.Go(func() error {
			defer before.Done()
			return run(ctx)
		})
	}
	first(e.relay.Run)
	if e.desk != nil {
		first(e.desk.Run)
	}
	tasks.Go(func() error {
		before.Wait()
		counted()
		return nil
	})
	tasks.Go(func() error { return e.table.Run(counting) })
	tasks.Go(func() error { return e.settings.run(ctx) })
	tasks.Go(func() error { return e.router.publisher.Run(ctx) })
	if e.router.others != nil {
		tasks.Go(func() error { return e.router.others.run(ctx) })
	}
	err := errors.Join(tasks.Wait(), e.kernel.Close(), e.keep.Close())
	if e.router.gateway != nil {
		err = errors.Join(err, e.router.gateway.Close())
	}
	return err
}

// Sessions lists the live sessions of one forward, or of all with "". A carrier that cannot list its own does not hide the
// other's.
func (e *engine) Sessions(name string) ([]forward.Session, error) {
	list, err := e.table.Sessions(name)
	if err != nil {
		e.log.Warn("sessions cannot be listed", "err", err)
	}
	return list, nil
}

// Kill ends a session.
func (e *engine) Kill(id string) error {
	err := e.table.Kill(id)
	if errors.Is(err, relay.ErrNoSession) || errors.Is(err, kernel.ErrNoSession) || errors.Is(err, table.ErrNotFound) {
		return fmt.Errorf("%w: %q", api.ErrNoSession, id)
	}
	return err
}

// look is what this host can do, for one command. What cannot be found out is taken for what cannot be done.
func look() kernel.Facts {
	facts, err := kernel.Probe()
	if err != nil {
		return kernel.Facts{Unusable: err.Error()}
	}
	return facts
}

// kernelCarrier knows that there is nothing to clear where nothing can be carried, so that who has no right to look can
// still go down in peace.
type kernelCarrier struct{ *kernel.Carrier }

// Clear takes the rules away.
func (c kernelCarrier) Clear() error {
	if look().Unusable != "" {
		return nil
	}
	return c.Carrier.Clear()
}
