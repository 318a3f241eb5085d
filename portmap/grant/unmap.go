package grant

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/table"
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

// end ends mappings for a client, all of them or none. Clients that end some at the same time wait for the same cycle.
func (d *Desk) end(ctx context.Context, client netip.Addr, which func() []*record) error {
	client = client.Unmap().WithZone("")
	unlock, err := d.decide(ctx)
	if err != nil {
		return join(portmap.ErrFailed, err)
	}
	list := which()
	batch, err := d.withdraw(ctx, client, list)
	unlock()
	if batch == nil || err != nil {
		return err
	}
	return d.ended(ctx, batch, list, "lease ended by its client")
}

// withdraw takes leases out of the table for a client, which may be nobody's other than theirs. The caller holds deciding.
func (d *Desk) withdraw(ctx context.Context, client netip.Addr, list []*record) (*table.Batch, error) {
	for _, r := range list {
		if client == r.key.Internal.Addr() {
			continue
		}
		if third := d.thirdParty(); !third || r.f.Lease.Client != client {
			d.say(slog.LevelWarn, "a mapping of another host is not ended", func() []any { return []any{keyClient, client.String(), keyLease, r.f.Name} })
			return nil, portmap.ErrDenied
		}
	}
	own := forwardsOf(list)
	d.Book.leave(own, true)
	batch, err := d.without(ctx, list)
	if err != nil {
		d.Book.leave(own, false)
	}
	return batch, err
}

func forwardsOf(list []*record) []*forward.Forward {
	forwards := make([]*forward.Forward, len(list))
	for i, r := range list {
		forwards[i] = r.f
	}
	return forwards
}

func (d *Desk) thirdParty() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.spec != nil && d.spec.ThirdParty
}

// drop takes leases away and returns when the carriers have let go of them. The caller holds deciding.
func (d *Desk) drop(ctx context.Context, list []*record, why string) error {
	batch, err := d.without(ctx, list)
	if batch == nil || err != nil {
		return err
	}
	return d.ended(ctx, batch, list, why)
}

// without takes leases out of the table; nil is that there are none. The caller holds deciding.
func (d *Desk) without(ctx context.Context, list []*record) (*table.Batch, error) {
	if len(list) == 0 {
		return nil, nil
	}
	batch, err := d.Table.Batch(ctx, nil, forwardsOf(list))
	if err != nil {
		return nil, join(portmap.ErrFailed, err)
	}
	return batch, nil
}

// ended returns when the carriers have let go of leases that were taken out of the table.
func (d *Desk) ended(ctx context.Context, batch *table.Batch, list []*record, why string) error {
	if _, err := batch.Wait(ctx); err != nil {
		return join(portmap.ErrFailed, err)
	}
	for _, r := range list {
		d.say(slog.LevelInfo, why, func() []any { return attrsOf(r.f) })
	}
	return nil
}
