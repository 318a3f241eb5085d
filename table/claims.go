package table

import (
	"net/netip"

	"github.com/fairlead-net/fairlead/forward"
)

// claims is who has which traffic of this host. A disabled forward claims none: setting one aside is how another takes its
// place. One whose schedule is closed or that has expired keeps its claim, so that time alone never makes two forwards meet.
type claims struct {
	index  forward.Index
	unix   map[string]*forward.Forward // by path
	leases map[netip.Addr]leasePorts   // by the address that they listen at
}

// A leasePort is a port of a lease; who has it is found without a look at the other leases.
type leasePort struct {
	network forward.Networks
	port    uint16
}

// leasePorts is the names of the leases that have the ports of one address.
type leasePorts map[leasePort]string

// under adds to names those of the leases that have a port of l.
func (p leasePorts) under(l forward.Listen, names []string) []string {
	if l.Ports.Count() > len(p) {
		for at, name := range p {
			if l.Networks&at.network != 0 && l.Ports.Contains(at.port) {
				names = append(names, name)
			}
		}
		return names
	}
	for network := range l.Networks.Each {
		for port := range l.Ports.Each {
			if name, ok := p[leasePort{network, port}]; ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// add enters f, or returns an error that wraps a *forward.TieError and changes nothing.
func (c *claims) add(f *forward.Forward) error {
	switch {
	case f.Disabled || f.ListensAt() != forward.Host:
		return nil
	case !f.Listen.IsUnix():
		err := c.index.Add(f)
		if err == nil && f.Origin.IsLease() {
			c.lease(f, true)
		}
		return err
	}
	if other := c.unix[f.Listen.Path]; other != nil {
		return unixTie{&forward.TieError{Name: f.Name, Other: other.Name}, f.Listen.Path}
	}
	if c.unix == nil {
		c.unix = map[string]*forward.Forward{}
	}
	c.unix[f.Listen.Path] = f
	return nil
}

// remove takes out again what add took.
func (c *claims) remove(f *forward.Forward) {
	switch {
	case f.Disabled || f.ListensAt() != forward.Host:
	case f.Listen.IsUnix():
		delete(c.unix, f.Listen.Path)
	default:
		c.index.Remove(f)
		if f.Origin.IsLease() {
			c.lease(f, false)
		}
	}
}

// lease enters the ports of a lease, or takes them out.
func (c *claims) lease(f *forward.Forward, in bool) {
	ports := c.leases[f.Listen.Addr]
	if ports == nil {
		if c.leases == nil {
			c.leases = map[netip.Addr]leasePorts{}
		}
		ports = leasePorts{}
		c.leases[f.Listen.Addr] = ports
	}
	for network := range f.Listen.Networks.Each {
		for port := range f.Listen.Ports.Each {
			if in {
				ports[leasePort{network, port}] = f.Name
			} else {
				delete(ports, leasePort{network, port})
			}
		}
	}
	if len(ports) == 0 {
		delete(c.leases, f.Listen.Addr)
	}
}

// leasesUnder is the names of the leases that have traffic which f asks for by number.
func (c *claims) leasesUnder(f *forward.Forward) []string {
	l := f.Listen
	if len(c.leases) == 0 || f.Origin.IsLease() || f.Disabled || f.ListensAt() != forward.Host || l.IsUnix() || l.Ports.All {
		return nil
	}
	names := c.leasesAt(l)
	if data, ok := dataListen(f); ok {
		names = append(names, c.leasesAt(data)...)
	}
	return names
}

func (c *claims) leasesAt(l forward.Listen) []string {
	if l.Addr.IsValid() && !l.Addr.IsUnspecified() {
		return c.leases[l.Addr].under(l, nil)
	}
	if l.Addr.Is6() {
		return nil
	}
	var names []string
	for addr, ports := range c.leases {
		if addr.Is4() { // an address of this host; those of IPv6 are of the clients themselves
			names = ports.under(l, names)
		}
	}
	return names
}
