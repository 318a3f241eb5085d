package grant

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/table"
)

// Map is portmap.Desk's.
func (d *Desk) Map(ctx context.Context, requests []portmap.Request) []portmap.Result {
	defer d.safety.begin(d)()
	p := d.newPlan(requests)
	if err := d.grant(ctx, p); err != nil {
		p.fail(err)
	}
	p.wait(ctx)
	var failed []*forward.Forward
	results := make([]portmap.Result, len(requests))
	for i := range p.items {
		item, r := &p.items[i], &results[i]
		if item.err != nil {
			r.Request, r.Err = requests[i], item.err
			if item.unfit {
				failed = append(failed, item.f)
			}
			continue
		}
		r.Mapping = d.mapping(item.f)
		r.Interface = requests[i].Interface
	}
	if len(failed) > 0 { // what does not work is not kept: its client may ask again
		d.Book.leave(failed, true)
		if b, err := d.Table.Batch(context.WithoutCancel(ctx), nil, failed); err == nil {
			_, _ = b.Wait(ctx)
		}
	}
	d.logMap(p)
	return results
}

// A plan is what becomes of requests that were asked together.
type plan struct {
	spec    *policy
	outside Outside
	now     time.Time
	items   []item
	batches []*table.Batch

	// Of the batch that is being decided.
	put      []*forward.Forward
	index    map[string]int // of put, by name
	drop     []*forward.Forward
	fresh    map[string]int            // leases more, by device
	leases   int                       // leases more
	unknown  int                       // of these, those of devices that are not known
	over     map[portmap.Key][]*record // mappings as they will be
	places   map[place]*record         // ports as they will be
	reserved []place
}

// An item is what becomes of one request.
type item struct {
	req      portmap.Request
	mac      string // of who asks
	hostname string
	device   string
	batch    int
	put      int // in its batch
	f        *forward.Forward
	before   *record // nil: the lease is new
	err      error
	unfit    bool // it is new, and the carrier refused it
}

func (d *Desk) newPlan(requests []portmap.Request) *plan {
	p := &plan{items: make([]item, len(requests))}
	for i, r := range requests {
		r.Client = r.Client.Unmap().WithZone("")
		r.Describe = printable(r.Describe)
		item := item{req: r}
		item.mac, item.hostname = d.lookUp(r.Client)
		item.device = deviceOf(item.mac, r.Client)
		p.items[i] = item
	}
	return p
}

// fail refuses whatever was not refused yet.
func (p *plan) fail(err error) {
	for i := range p.items {
		if p.items[i].err == nil {
			p.items[i].err = join(portmap.ErrFailed, err)
		}
	}
}

// wait returns when the carriers have answered for what the table took.
func (p *plan) wait(ctx context.Context) {
	for n, batch := range p.batches {
		errs, err := batch.Wait(ctx)
		for i := range p.items {
			item := &p.items[i]
			switch {
			case item.err != nil || item.batch != n:
			case err != nil:
				item.err = join(portmap.ErrFailed, err)
			case errs[item.put] != nil:
				item.err, item.unfit = join(portmap.ErrFailed, errs[item.put]), item.before == nil
			}
		}
	}
}

// tries is how often a request is decided at the most: what an operator takes in between is no reason to refuse who would have
// another port as well.
const tries = 3

// grant decides p and hands it to the table. The error is everybody's.
func (d *Desk) grant(ctx context.Context, p *plan) error {
	unlock, err := d.decide(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	d.mu.RLock()
	p.spec, p.outside = d.spec, d.outside
	d.mu.RUnlock()
	p.now = time.Now()
	todo := make([]*item, len(p.items))
	for i := range p.items {
		todo[i] = &p.items[i]
	}
	for range tries {
		p.put, p.drop, p.reserved, p.index, p.fresh, p.leases, p.unknown = nil, nil, nil, map[string]int{}, map[string]int{}, 0, 0
		p.over, p.places = map[portmap.Key][]*record{}, map[place]*record{}
		for _, it := range todo {
			it.batch = len(p.batches)
			it.err = d.decideOne(p, it)
		}
		if len(p.put) == 0 {
			return nil
		}
		d.Book.leave(p.drop, true)
		batch, err := d.Table.Batch(ctx, p.put, p.drop)
		if err != nil {
			d.Book.leave(p.drop, false)
			d.Book.release(p.reserved)
			return err
		}
		p.batches = append(p.batches, batch)
		for _, it := range todo {
			if it.err == nil {
				it.f = p.put[it.put] // a later request of the same mapping may have changed it
			}
		}
		if todo = refused(batch.Errs(), todo); len(todo) == 0 {
			return nil
		}
		d.Book.release(p.reserved)
	}
	return nil
}

// refused is those of todo that an operator's forward is in the way of.
func refused(errs []error, todo []*item) []*item {
	var again []*item
	for _, it := range todo {
		if it.err != nil || errs[it.put] == nil {
			continue
		}
		it.err = join(portmap.ErrConflict, errs[it.put])
		if tie := new(forward.TieError); errors.As(it.err, &tie) {
			again = append(again, it)
		}
	}
	return again
}

func join(kind, err error) error {
	if errors.Is(err, kind) {
		return err
	}
	return errors.Join(kind, err)
}

// lookUp is what is known of a host.
func (d *Desk) lookUp(addr netip.Addr) (mac, hostname string) {
	if d.Neighbours == nil {
		return "", ""
	}
	mac, hostname = d.Neighbours.Lookup(addr)
	return mac, printable(hostname)
}
