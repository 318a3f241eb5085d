package grant

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// Table is the part of table.Table that a Desk needs.
type Table interface {
	Batch(ctx context.Context, put, drop []*forward.Forward) (*table.Batch, error)
	Taken(addr netip.Addr, network forward.Networks) *table.PortBits
	SaveLeases() error
	Ready() <-chan struct{}
}

// An Outside is what this host is to the world, as far as IPv4 goes.
type Outside struct {
	Addr   netip.Addr // of a WAN interface, where leases listen; invalid: there is none now
	Public netip.Addr // what clients are told; invalid: Addr. Another one where a gateway upstream translates and told so
}

// told is the address that clients are told.
func (o Outside) told() netip.Addr {
	if o.Public.IsValid() {
		return o.Public
	}
	return o.Addr
}

// Neighbours is what is known of the hosts of the LAN.
type Neighbours interface {
	// Lookup is the hardware address of a host, as net.HardwareAddr writes it, and its name; "" is not known. It is called for
	// each request, and must not wait for anybody.
	Lookup(addr netip.Addr) (mac, hostname string)
}

// Options is what a Desk works with.
type Options struct {
	Book  *Book // that the table tells of its leases
	Table Table
	Store store.Store // where approvals are kept, and how old the mappings are
	// Outside is this host's address, and a channel that is closed when it is another; nil is never.
	Outside    func() (Outside, <-chan struct{})
	Neighbours Neighbours // nil: nothing is known of anybody
	// Busy reports whether a program of this host has a port, which then is no lease's. nil: none has any.
	Busy func(network forward.Networks, at netip.AddrPort) bool
	// Reserved reports whether the operator keeps a port for this host itself, whether a program has it at the moment or not. nil:
	// none is kept.
	Reserved func(network forward.Networks, at netip.AddrPort) bool
	// Inside reports whether an address is of a host of the LAN, and none of this host itself. nil: all are.
	Inside func(addr netip.Addr) bool
	Log    *slog.Logger // nil: none
}

// A Desk is a portmap.Desk. It grants nothing before Run has begun, nor without a Spec.
type Desk struct {
	Options
	budget budget // of lines that clients have logged
	safety safety

	deciding chan struct{} // capacity 1, a lock that can be waited for with a context: from the look at what is free until the table has it
	kick     chan struct{} // capacity 1: the policy is another
	open     chan struct{} // closed when Run has taken over what the table had
	closed   chan struct{} // closed when Run ends

	mu        sync.RWMutex
	spec      *policy
	outside   Outside
	last      netip.Addr // that clients were told, for as long as there is none
	changed   chan struct{}
	epoch     epoch
	approvals map[string]approval
}

var _ portmap.Desk = (*Desk)(nil)

// New returns a Desk that Run has yet to start.
func New(o Options) *Desk {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Busy == nil {
		o.Busy = func(forward.Networks, netip.AddrPort) bool { return false }
	}
	if o.Reserved == nil {
		o.Reserved = func(forward.Networks, netip.AddrPort) bool { return false }
	}
	if o.Inside == nil {
		o.Inside = func(netip.Addr) bool { return true }
	}
	return &Desk{
		Options: o, deciding: make(chan struct{}, 1), kick: make(chan struct{}, 1), open: make(chan struct{}), closed: make(chan struct{}),
		changed: make(chan struct{}), approvals: map[string]approval{}, safety: safety{kick: make(chan struct{}, 1)},
	}
}

// Configure makes s the policy; nil is that nobody gets anything, and ends all leases. It does not wait: Run sees to the leases
// that s does not allow.
func (d *Desk) Configure(s *portmap.Spec) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spec = newPolicy(s)
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// decide takes the lock under which leases are decided.
func (d *Desk) decide(ctx context.Context) (unlock func(), err error) {
	select {
	case <-d.open:
	case <-d.closed:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case d.deciding <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-d.closed:
		<-d.deciding
		return nil, errStopped
	default:
		return func() { <-d.deciding }, nil
	}
}
