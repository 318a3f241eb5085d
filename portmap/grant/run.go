package grant

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// Run takes over the leases that the table has loaded, follows the address of this host and the policy, and grants until ctx
// ends. A Desk runs once. The table must run longer: the last leases are stored before Run returns. A store that fails when it
// begins is no reason to fail: who runs a Desk beside forwards would end those with it.
func (d *Desk) Run(ctx context.Context) error {
	closed := sync.OnceFunc(func() { close(d.closed) })
	defer closed()
	select {
	case <-d.Table.Ready():
	case <-ctx.Done():
		return nil
	}
	outside, moved := d.Outside()
	if err := d.loadApprovals(); err != nil {
		// Who was denied might get ports, so nobody does; forwards have nothing to do with it.
		d.Log.Error("no ports are given to programs of the LAN", keyErr, err)
		return nil
	}
	if err := d.loadEpoch(outside); err != nil { // clients ask again, which is all that it is for
		d.Log.Error("the age of the mappings is not kept", keyErr, err)
	}
	d.deciding <- struct{}{}
	d.moveLeases(ctx, outside)
	<-d.deciding
	close(d.open)
	d.enforce(ctx)
	settle := time.NewTimer(settleAfter)
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			d.deciding <- struct{}{} // who waits for it looks at closed next
			closed()
			<-d.deciding
			return d.stop()
		case <-d.kick:
			d.enforce(ctx)
		case <-d.safety.kick:
			settle.Reset(settleAfter)
		case <-settle.C:
			settle.Reset(d.settle())
		case <-moved:
			outside, moved = d.Outside()
			d.move(ctx, outside)
		}
	}
}

// stop has everything stored.
func (d *Desk) stop() error {
	if err := d.Table.SaveLeases(); err != nil {
		return err // and so the epoch is not clean
	}
	return d.safety.end(d)
}

// enforce ends the leases that the policy does not allow any more.
func (d *Desk) enforce(ctx context.Context) {
	unlock, err := d.decide(ctx)
	if err != nil {
		return
	}
	defer unlock()
	d.mu.RLock()
	spec := d.spec
	d.mu.RUnlock()
	list := d.Book.list(netip.Addr{})
	if spec != nil {
		if !spec.Ask { // nobody will be asked any more
			if _, err := d.wakeUp(ctx, list); err != nil && ctx.Err() == nil {
				d.Log.Error("leases that waited to be approved do not lead anywhere yet", keyErr, err)
			}
			list = d.Book.list(netip.Addr{})
		}
		list = d.notAllowed(spec, list)
	}
	if err := d.drop(ctx, list, "lease ended: the policy does not allow it"); err != nil && ctx.Err() == nil {
		d.Log.Error("leases cannot be ended", keyErr, err)
	}
	if spec == nil && len(list) > 0 {
		d.lose()
	}
}

func (d *Desk) notAllowed(s *policy, list []*record) []*record {
	var out []*record
	for _, r := range list {
		l := r.f.Lease
		c := portmap.Client{Addr: l.Client, MAC: l.MAC, Describe: l.Description}
		third := r.key.Internal.Addr() != l.Client
		reserved := !r.pinhole && d.Reserved(r.key.Network, netip.AddrPortFrom(r.f.Listen.Addr, r.port))
		if !allowedOf(s, c, r.key.Network, r.pinhole).has(r.port) || reserved || third && !s.ThirdParty || d.judge(l.MAC, l.Client, r.key) == denied {
			out = append(out, r)
		}
	}
	return out
}

// lose tells clients that their mappings are gone.
func (d *Desk) lose() {
	if err := d.restartEpoch(); err != nil {
		d.Log.Error("the age of the mappings cannot be stored", keyErr, err)
	}
	d.announce()
}

func (d *Desk) announce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// move makes outside this host's address. The mappings that clients know are of another one then, so they are told to ask
// again (RFC 6887, section 8.5); those that they have move along, each with its port.
func (d *Desk) move(ctx context.Context, outside Outside) {
	unlock, err := d.decide(ctx)
	if err != nil {
		return
	}
	defer unlock()
	d.mu.Lock()
	before, last := d.outside, d.last
	d.outside = outside
	if outside.told().IsValid() {
		d.last = outside.told()
	}
	d.mu.Unlock()
	if outside == before {
		return
	}
	d.moveLeases(ctx, outside)
	d.Log.Info("the external address is another", "before", before.told(), "now", outside.told())
	if outside.told().IsValid() && outside.told() != last {
		d.Book.elsewhere()
	}
	switch now := outside.told(); {
	case now.IsValid() && last.IsValid() && now != last:
		d.lose()
	case now != before.told():
		d.announce()
	}
}

// moveLeases has all leases listen at the address of outside, in one change. One whose port an operator's forward has there
// ends. Without an address they stay where they are, out of reach, until there is one. The caller holds deciding.
func (d *Desk) moveLeases(ctx context.Context, outside Outside) {
	if !outside.Addr.IsValid() {
		return
	}
	var put, drop []*forward.Forward
	for _, r := range d.Book.list(netip.Addr{}) {
		switch {
		case r.pinhole || r.f.Listen.Addr == outside.Addr:
		case d.Table.Taken(outside.Addr, r.key.Network).Has(r.port):
			drop = append(drop, r.f)
		default:
			f := r.clone()
			f.Listen.Addr = outside.Addr
			put = append(put, f)
		}
	}
	if len(put)+len(drop) == 0 {
		return
	}
	batch, err := d.Table.Batch(ctx, put, drop)
	var errs []error
	if err == nil {
		errs, err = batch.Wait(ctx)
	}
	if err = errors.Join(append(errs, err)...); err != nil && ctx.Err() == nil {
		d.Log.Error("leases cannot follow the address", keyErr, err)
	}
	for _, f := range drop {
		d.say(slog.LevelWarn, "lease ended: an operator's forward has its port", func() []any { return attrsOf(f) })
	}
}
