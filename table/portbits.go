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
	eachWord(ports, func(at int, mask uint64) { b[at] |= mask })
}

// Remove takes ports out, which are not "*".
func (b *PortBits) Remove(ports forward.Ports) {
	eachWord(ports, func(at int, mask uint64) { b[at] &^= mask })
}

// eachWord calls yield for each word that has some of ports: they are often nearly all that there are.
func eachWord(ports forward.Ports, yield func(at int, mask uint64)) {
	for _, r := range ports.Ranges {
		for at := int(r.First) / 64; at <= int(r.Last)/64; at++ {
			mask := ^uint64(0)
			if at == int(r.First)/64 {
				mask &= ^uint64(0) << (r.First % 64)
			}
			if at == int(r.Last)/64 {
				mask &= ^uint64(0) >> (63 - r.Last%64)
			}
			yield(at, mask)
		}
	}
}
