package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead-net/fairlead/api"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/grant"
	"github.com/fairlead-net/fairlead/portmap/igd"
	"github.com/fairlead-net/fairlead/portmap/pmpserver"
)

// grants gives the programs of the LAN the ports that they ask for. Each server is kept by itself: the port of one may be another
// program's, which is nothing to the other.
type grants struct {
	desk       *grant.Desk
	around     *surroundings
	neighbours grant.Neighbours
	servers    []*resident[*portmap.Spec]
	log        *slog.Logger
}

func newGrants(desk *grant.Desk, around *surroundings, log *slog.Logger) *grants {
	g := &grants{desk: desk, around: around, neighbours: desk.Neighbours, log: log}
	g.servers = []*resident[*portmap.Spec]{
		newResident("the server of PCP and NAT-PMP", log, (*portmap.Spec).Equal, g.servePMP),
		newResident("the UPnP server", log, (*portmap.Spec).Equal, g.serveUPnP),
	}
	return g
}

// settle makes spec the policy.
func (g *grants) settle(spec *portmap.Spec) {
	g.desk.Configure(spec)
	for _, s := range g.servers {
		s.settle(spec)
	}
}

// run serves until ctx ends.
func (g *grants) run(ctx context.Context) {
	var servers sync.WaitGroup
	for _, s := range g.servers {
		servers.Go(func() { s.run(ctx) })
	}
	servers.Wait()
}

func (g *grants) servePMP(ctx context.Context, spec *portmap.Spec, opened func()) error {
	if spec == nil || !slices.Contains(spec.Protocols, portmap.PCP) && !slices.Contains(spec.Protocols, portmap.NATPMP) {
		return nil
	}
	return pmpserver.New(pmpserver.Options{Desk: g.desk, Places: g.around.Places, Spec: *spec, Opened: opened, Log: g.log}).Run(ctx)
}

func (g *grants) serveUPnP(ctx context.Context, spec *portmap.Spec, opened func()) error {
	if spec == nil || !slices.Contains(spec.Protocols, portmap.UPnP) {
		return nil
	}
	return igd.New(igd.Options{
		Desk: g.desk, Places: g.around.Places, Spec: *spec, ID: string(publishSecret()), Version: version(), SameHost: g.sameHost, Opened: opened, Log: g.log,
	}).Run(ctx)
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
func (l leases) Approve(ctx context.Context, which string) (api.Judged, error) {
	known := l.desk.Known(ctx, which)
	names, err := l.desk.Approve(ctx, which)
	return api.Judged{Leases: names, Unknown: !known}, leaseError(which, err)
}

// Deny ends leases, and refuses them.
func (l leases) Deny(ctx context.Context, which string) (api.Judged, error) {
	known := l.desk.Known(ctx, which) // before its leases are gone
	names, err := l.desk.Deny(ctx, which)
	return api.Judged{Leases: names, Unknown: !known}, leaseError(which, err)
}

// Verdicts is what is remembered.
func (l leases) Verdicts() []api.Verdict { return verdictsOf(l.desk.Verdicts()) }

// Forget has it forgotten.
func (l leases) Forget(ctx context.Context, which string) ([]api.Verdict, error) {
	gone, err := l.desk.Forget(ctx, which)
	if errors.Is(err, grant.ErrUnknown) {
		err = fmt.Errorf("%w of which anything is remembered is called %q", api.ErrNoLease, which)
	}
	return verdictsOf(gone), err
}

func verdictsOf(list []grant.Verdict) []api.Verdict {
	out := make([]api.Verdict, len(list))
	for i, v := range list {
		out[i] = api.Verdict{Device: v.Device, Verdict: "denied", Since: v.Since, Hostname: v.Hostname}
		if v.Approved {
			out[i].Verdict = "approved"
		}
		if v.Network != 0 {
			out[i].Network, out[i].Port = v.Network.String(), int(v.Port)
		}
	}
	return out
}

func leaseError(which string, err error) error {
	if errors.Is(err, grant.ErrUnknown) {
		return fmt.Errorf("%w is called %q", api.ErrNoLease, which)
	}
	return err
}
