package table

import (
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
)

// operators is the ports that the forwards of everybody but leases ask for by number: a lease gets none of them, however much
// more closely it would name its traffic. "*" asks for what is left over, and leaves a lease its port. It is made of the
// entries when somebody asks, and thrown away when one of those forwards changes.
type operators struct {
	all portSet                           // of those that listen on every address of this host
	at  map[netip.Addr][]*forward.Forward // those that listen on one address
	met map[netip.Addr]*portSet           // what was asked for, by address of this host
	far map[netip.Addr]*portSet           // by address of somebody else
}

func newOperators(entries []*entry) *operators {
	o := &operators{at: map[netip.Addr][]*forward.Forward{}, met: map[netip.Addr]*portSet{}, far: map[netip.Addr]*portSet{}}
	for _, e := range entries {
		f := e.f
		switch l := f.Listen; {
		case f.Origin.IsLease(), f.Disabled, f.ListensAt() != forward.Host, l.IsUnix(), l.Ports.All:
		case l.Addr.IsValid() && !l.Addr.IsUnspecified():
			o.at[l.Addr] = append(o.at[l.Addr], f)
		case !l.Addr.IsValid() || l.Addr.Is4(): // leases on addresses of this host are IPv4
			o.all.add(l, false)
			if data, ok := dataListen(f); ok {
				o.all.add(data, false)
			}
		}
	}
	return o
}

// dataListen is where a forward offers data connections. It listens there now and then, and asks for the ports all the time.
func dataListen(f *forward.Forward) (forward.Listen, bool) {
	l := f.Listen
	l.Networks, l.Ports = forward.TCP, forward.Ports{Ranges: []forward.Range{f.PassivePorts}}
	return l, !f.PassivePorts.IsZero()
}

// on is the ports that are asked for at an address. The set must not be changed.
func (o *operators) on(addr netip.Addr, ours bool) *portSet {
	known := o.far
	if ours {
		known = o.met
	}
	set := known[addr]
	if set != nil {
		return set
	}
	if set = new(portSet); ours {
		for i, bits := range o.all.bits {
			if bits != nil {
				set.bits[i] = new(PortBits)
				*set.bits[i] = *bits
			}
		}
	}
	for _, f := range o.at[addr] {
		set.add(f.Listen, false)
		if data, ok := dataListen(f); ok {
			set.add(data, false)
		}
	}
	if ours || len(o.at[addr]) > 0 {
		known[addr] = set // of other hosts there are too many to remember that nothing is asked for
	}
	return set
}

// Taken is the ports of an address of this host that forwards of others than leases ask for by number; nil is none. It must
// not be changed.
func (t *Table) Taken(addr netip.Addr, network forward.Networks) *PortBits {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.operatorsLocked().on(addr, true).bits[network>>1]
}

// operatorsLocked is the operators as they are. The caller holds mu.
func (t *Table) operatorsLocked() *operators {
	if t.operators == nil {
		t.operators = newOperators(t.entriesLocked())
	}
	return t.operators
}

// inTheWay is the error for a lease that asks for what an operator's forward does, or nil. The caller holds writing.
func (t *Table) inTheWay(f *forward.Forward) error {
	if !f.Origin.IsLease() || f.Disabled {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	set := t.operatorsLocked().on(f.Listen.Addr, !f.IsPinhole())
	for c := range f.Claims {
		for port := range (forward.Ports{Ranges: []forward.Range{c.Range}}).Each {
			if set.has(c.Network, port) {
				return &forward.TieError{Name: f.Name, Other: t.ownerLocked(c.Network, f, port), Claim: c}
			}
		}
	}
	return nil
}

// ownerLocked names a forward that asks for a port of f's.
func (t *Table) ownerLocked(network forward.Networks, f *forward.Forward, port uint16) string {
	for _, e := range t.entriesLocked() {
		l := e.f.Listen
		asks := l.Networks&network != 0 && !l.Ports.All && l.Ports.Contains(port) || network == forward.TCP && !e.f.PassivePorts.IsZero() && e.f.PassivePorts.Contains(port)
		if !e.f.Origin.IsLease() && !e.f.Disabled && asks &&
			(l.Addr == f.Listen.Addr || !f.IsPinhole() && (!l.Addr.IsValid() || l.Addr == netip.IPv4Unspecified())) {
			return e.f.Name
		}
	}
	return ""
}

func (s *portSet) has(network forward.Networks, port uint16) bool {
	return s.bits[network>>1].Has(port)
}
