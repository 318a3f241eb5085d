package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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
	"github.com/fairlead-net/fairlead/relay/vhost"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// An engine is the table with both carriers: what `up` and `forward` have in common.
type engine struct {
	table    *table.Table
	relay    *relay.Relay
	kernel   *kernel.Carrier
	keep     *kernel.Keep
	frozen   legacy // the settings' part of what is left
	settings *settings
	keepers  vhost.Keepers // of certificates and logins
	router   *router
	desk     *grant.Desk
	log      *slog.Logger
}

// engineOptions are what engines differ in.
type engineOptions struct {
	nftables string // name of its table in the kernel; "" is the daemon's
	store    store.Store
	left     *legacy         // what an earlier program has left, or nil
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
	if o.state != "" {
		e.keepers = vhost.Keepers{Certs: vhost.NewCerts(filepath.Join(o.state, "certs"), o.log), Logins: vhost.NewLogins(filepath.Join(o.state, "oidc.key"))}
	}
	relayOptions := relay.Options{
		Log: o.log, Nodes: e.settings.node, Heads: heads(), Sites: sites(e.keepers), Login: e.settings.login, Transparent: e.keep,
		NodesLeave: relay.NodesLeave{Quiet: e.quiet, Freeze: e.freeze},
	}
	if o.left != nil {
		relayOptions.Handover, relayOptions.Patient = o.left.Relay, o.left.Hub != nil
		e.settings.hub.left, e.settings.agent.left = o.left.Hub, o.left.Agent
	}
	e.router = &router{wishes: map[string]publish.Wish{}, certs: e.keepers.Certs, publisher: publish.New(publish.Options{Secret: publishSecret(), Log: o.log}), log: o.log}
	if o.gateway {
		e.router.gateway = kernel.NewGateway(kernel.GatewayOptions{Ledger: options.Ledger, StateDir: o.state, Log: o.log})
		relayOptions.Doorman = e.router.gateway
	}
	e.relay = relay.New(relayOptions)
	e.settings.hub.relay, e.settings.agent.relay = e.relay, e.relay
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
	e.settings.sshd.guests = newGuests("ssh", e.table, e.settings.nodes)
	e.settings.hub.guests, e.settings.hub.list = newGuests("agent", e.table, e.settings.nodes), e.table.Forwards
	e.settings.hub.ready = e.table.Ready()
	e.settings.hub.guests.whole, e.settings.hub.guests.own = e.settings.hub.doors.has, e.settings.hub.doors.own
	return e
}

// settle makes s hold. It does not wait.
func (e *engine) settle(s config.Settings) {
	e.router.settle(s)
	e.settings.settle(s)
	if e.keepers.Certs != nil {
		e.keepers.Certs.Settle(vhost.ACME(s.ACME))
		e.keepers.Logins.Settle(vhost.OIDC{Issuer: s.OIDC.Issuer, ClientID: s.OIDC.ClientID, ClientSecret: string(s.OIDC.ClientSecret), CA: s.OIDC.CA})
	}
	if e.router.others != nil {
		e.router.others.settle(s)
	}
}

// note is what is good to know of a forward besides what the table knows, or "".
func (e *engine) note(name string) string {
	if note := e.router.certificateNote(name); note != "" || e.router.others == nil {
		return note
	}
	return e.router.others.note(name)
}

// quiet is called by a relay that leaves: nobody is to come any more by way of the hub or of agents.
func (e *engine) quiet() {
	e.settings.agent.quiet()
	e.settings.hub.quiet()
}

// freeze is called by a relay that leaves, for what carries its sessions.
func (e *engine) freeze() {
	e.frozen.Hub, e.frozen.Agent = e.settings.hub.freeze(), e.settings.agent.freeze()
}

// left is what run has left for the next process, nil when it has closed everything.
func (e *engine) left() *legacy {
	r := e.relay.Left()
	if r == nil {
		return nil
	}
	return &legacy{Relay: r, Hub: e.frozen.Hub, Agent: e.frozen.Agent}
}

// run runs the table and the carriers until ctx ends. What the kernel carries stays there.
//
//	relay, which may leave its sessions ─► table ─► nodes and servers, over which some of them went
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
	serving, served := context.WithCancel(context.WithoutCancel(ctx))
	tasks.Go(func() error {
		defer served()
		return e.table.Run(counting)
	})
	tasks.Go(func() error { return e.settings.run(serving) })
	tasks.Go(func() error {
		select {
		case <-e.table.Ready():
		case <-ctx.Done():
		}
		if e.settings.hub.awaitThaw(ctx); ctx.Err() == nil {
			e.relay.LetGo(ctx)
		}
		return nil
	})
	tasks.Go(func() error { return e.router.publisher.Run(ctx) })
	if e.keepers.Certs != nil {
		tasks.Go(func() error { return e.keepers.Certs.Run(ctx) })
	}
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
