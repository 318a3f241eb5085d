package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/grant"
	"github.com/fairlead-net/fairlead/portmap/igd"
	"github.com/fairlead-net/fairlead/portmap/pmpserver"
)

// grants gives the programs of the LAN the ports that they ask for.
type grants struct {
	*resident[*portmap.Spec]
	desk       *grant.Desk
	around     *surroundings
	neighbours grant.Neighbours
}

func newGrants(desk *grant.Desk, around *surroundings, log *slog.Logger) *grants {
	g := &grants{desk: desk, around: around, neighbours: desk.Neighbours}
	g.resident = newResident("the port-mapping server", log, (*portmap.Spec).Equal, g.serve)
	return g
}

// settle makes spec the policy.
func (g *grants) settle(spec *portmap.Spec) {
	g.desk.Configure(spec)
	g.resident.settle(spec)
}

// serve answers until ctx ends.
func (g *grants) serve(ctx context.Context, spec *portmap.Spec) error {
	if spec == nil {
		return nil
	}
	var servers sync.WaitGroup
	if slices.Contains(spec.Protocols, portmap.PCP) || slices.Contains(spec.Protocols, portmap.NATPMP) {
		servers.Go(func() {
			g.keep(ctx, "the server of PCP and NAT-PMP", func() error {
				return pmpserver.New(pmpserver.Options{Desk: g.desk, Places: g.around.Places, Spec: *spec, Log: g.log}).Run(ctx)
			})
		})
	}
	if slices.Contains(spec.Protocols, portmap.UPnP) {
		servers.Go(func() {
			g.keep(ctx, "the UPnP server", func() error {
				return igd.New(igd.Options{
					Desk: g.desk, Places: g.around.Places, Spec: *spec, ID: string(publishSecret()), Version: version(), SameHost: g.sameHost, Log: g.log,
				}).Run(ctx)
			})
		})
	}
	g.log.Info("programs of the LAN may ask for ports", "protocols", spec.Protocols)
	servers.Wait()
	return nil
}

// keep runs a server until ctx ends, again when it fails: the port of one may be another program's, which is nothing to the other.
func (g *grants) keep(ctx context.Context, what string, run func() error) {
	said := ""
	for {
		err := run()
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); text != said { // once for each
			said = text
			g.log.Error(what+" does not run; it is tried again", keyError, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(residentRetry):
		}
	}
}

// sameHost reports whether two addresses are one host's, which has several where it speaks IPv6. Several of IPv4 with one hardware
// address are as a rule hosts behind one bridge of a radio.
func (g *grants) sameHost(a, b netip.Addr) bool {
	if a == b || a.Is4() && b.Is4() {
		return a == b
	}
	one, _ := g.neighbours.Lookup(a)
	other, _ := g.neighbours.Lookup(b)
	return one != "" && one == other
}

// leases are approved and denied at the desk.
type leases struct{ desk *grant.Desk }

// Approve has leases lead somewhere that wait.
func (l leases) Approve(ctx context.Context, which string) ([]string, error) {
	names, err := l.desk.Approve(ctx, which)
	return names, leaseError(which, err)
}

// Deny ends leases, and refuses them.
func (l leases) Deny(ctx context.Context, which string) ([]string, error) {
	names, err := l.desk.Deny(ctx, which)
	return names, leaseError(which, err)
}

func leaseError(which string, err error) error {
	if errors.Is(err, grant.ErrUnknown) {
		return fmt.Errorf("%w is called %q", api.ErrNoLease, which)
	}
	return err
}
