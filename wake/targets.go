package wake

import (
	"context"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// A Lookup finds the addresses of a host name on the node that dials, as net.Resolver.LookupNetIP does.
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Targets is what to wake for a forward: each of its network cards once, with the addresses of the targets that are woken
// by it. A name that cannot be looked up, perhaps because its server sleeps as well, leaves the address unknown.
func Targets(ctx context.Context, f *forward.Forward, lookup Lookup) []Target {
	var list []Target
	for i, to := range f.To {
		addrs := Addresses(ctx, to, lookup)
		for _, mac := range f.WakeMACs(i) {
			at := slices.IndexFunc(list, func(t Target) bool { return t.MAC == mac })
			if at < 0 {
				at = len(list)
				list = append(list, Target{MAC: mac, Password: f.Wake.Password})
			}
			for _, addr := range addrs {
				if !slices.Contains(list[at].Addrs, addr) {
					list[at].Addrs = append(list[at].Addrs, addr)
				}
			}
		}
	}
	return list
}

// Addresses is where a target is known to be, as far as lookup knows.
func Addresses(ctx context.Context, to forward.Target, lookup Lookup) []netip.Addr {
	switch {
	case to.Addr.IsValid():
		return []netip.Addr{to.Addr}
	case to.Host == "":
		return nil
	}
	addrs, err := lookup(ctx, "ip", to.Host)
	if err != nil {
		return nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}
