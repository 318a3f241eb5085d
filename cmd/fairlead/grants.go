package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/sync/errgroup"

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
	servers, ctx := errgroup.WithContext(ctx)
	if slices.Contains(spec.Protocols, portmap.PCP) || slices.Contains(spec.Protocols, portmap.NATPMP) {
		s := pmpserver.New(pmpserver.Options{Desk: g.desk, Places: g.around.Places, Spec: *spec, Log: g.log})
		servers.Go(func() error { return s.Run(ctx) })
	}
	if slices.Contains(spec.Protocols, portmap.UPnP) {
		s := igd.New(igd.Options{
			Desk: g.desk, Places: g.around.Places, Spec: *spec, ID: string(publishSecret()), Version: version(), SameHost: g.sameHost, Log: g.log,
		})
		servers.Go(func() error { return s.Run(ctx) })
	}
	g.log.Info("programs of the LAN may ask for ports", "protocols", spec.Protocols)
	return servers.Wait()
}

// sameHost reports whether two addresses are one host's, which has several where it speaks IPv6.
func (g *grants) sameHost(a, b netip.Addr) bool {
	if a == b {
		return true
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
