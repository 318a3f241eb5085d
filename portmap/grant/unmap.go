package grant

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// Unmap is portmap.Desk's.
func (d *Desk) Unmap(ctx context.Context, client netip.Addr, key portmap.Key) error {
	key.Internal = netip.AddrPortFrom(key.Internal.Addr().Unmap().WithZone(""), key.Internal.Port())
	return d.end(ctx, client, func() []*record { return d.Book.of(key) })
}

// UnmapAt is portmap.Desk's.
func (d *Desk) UnmapAt(ctx context.Context, client netip.Addr, network forward.Networks, external uint16) error {
	return d.end(ctx, client, func() []*record {
		if r := d.Book.at(network, external); r != nil {
			return []*record{r}
		}
		return nil
	})
}

// UnmapAll is portmap.Desk's.
func (d *Desk) UnmapAll(ctx context.Context, client netip.Addr, network forward.Networks, p portmap.Protocol) error {
	client = client.Unmap().WithZone("")
	return d.end(ctx, client, func() []*record {
		var own []*record
		for _, r := range d.Book.list(client) {
			if r.key.Network == network && r.key.Internal.Addr() == client && protocolOf(r.f) == p {
				own = append(own, r)
			}
		}
		return own
	})
}

// end ends mappings for a client, all of them or none.
func (d *Desk) end(ctx context.Context, client netip.Addr, which func() []*record) error {
	client = client.Unmap().WithZone("")
	unlock, err := d.decide(ctx)
	if err != nil {
		return join(portmap.ErrFailed, err)
	}
	defer unlock()
	list := which()
	for _, r := range list {
		if client == r.key.Internal.Addr() {
			continue
		}
		if third := d.thirdParty(); !third || r.f.Lease.Client != client {
			d.say(slog.LevelWarn, "a mapping of another host is not ended", func() []any { return []any{keyClient, client.String(), keyLease, r.f.Name} })
			return portmap.ErrDenied
		}
	}
	return d.drop(ctx, list, "lease ended by its client")
}

func (d *Desk) thirdParty() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.spec != nil && d.spec.ThirdParty
}

// drop takes leases away and returns when the carriers have let go of them. The caller holds deciding.
func (d *Desk) drop(ctx context.Context, list []*record, why string) error {
	if len(list) == 0 {
		return nil
	}
	forwards := make([]*forward.Forward, len(list))
	for i, r := range list {
		forwards[i] = r.f
	}
	batch, err := d.Table.Batch(ctx, nil, forwards)
	if err == nil {
		_, err = batch.Wait(ctx)
	}
	if err != nil {
		return join(portmap.ErrFailed, err)
	}
	for _, r := range list {
		d.say(slog.LevelInfo, why, func() []any { return attrsOf(r.f) })
	}
	return nil
}
