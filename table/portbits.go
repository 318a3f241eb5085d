package table

import "github.com/fairlead-net/fairlead/forward"

// PortBits is a set of ports: port p is bit p%64 of word p/64.
type PortBits [65536 / 64]uint64

// Has reports whether port is in b; none is in nil.
func (b *PortBits) Has(port uint16) bool { return b != nil && b[port/64]&(1<<(port%64)) != 0 }

// Set puts port in.
func (b *PortBits) Set(port uint16) { b[port/64] |= 1 << (port % 64) }

// Clear takes port out.
func (b *PortBits) Clear(port uint16) { b[port/64] &^= 1 << (port % 64) }

// Add puts ports in, which are not "*".
func (b *PortBits) Add(ports forward.Ports) {
	for port := range ports.Each {
		b.Set(port)
	}
}

// Remove takes ports out, which are not "*".
func (b *PortBits) Remove(ports forward.Ports) {
	for port := range ports.Each {
		b.Clear(port)
	}
}
