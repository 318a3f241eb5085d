package firewall

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// truth is whether a rule matches a packet.
type truth uint8

const (
	no truth = iota
	yes
	unknown
)

func (t truth) not() truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return unknown
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// A machine runs the steps of one rule over one packet, with registers as the kernel has them: 64 bytes.
type machine struct {
	p       *packet
	data    [64]byte
	known   [16]bool // of each four bytes
	verdict verdict
	doubt   bool // whether what came before in this rule matches is not known
}

// A step looks at the packet or at registers; no ends the rule.
type step interface{ run(m *machine) truth }

// A load puts a value of the packet into registers from reg on, a multiple of four bytes.
type load struct {
	reg, size int
	of        func(p *packet) []byte // nil: not decided
}

func (l load) run(m *machine) truth {
	m.set(l.reg, l.size, l.of(m.p))
	return yes
}

// set stores value, padded with zeros to size bytes; nil is "not known".
func (m *machine) set(reg, size int, value []byte) {
	end := min(reg+pad4(max(size, len(value))), len(m.data))
	if reg >= end {
		return
	}
	clear(m.data[reg:end])
	copy(m.data[reg:end], value)
	for i := reg / 4; i < end/4; i++ {
		m.known[i] = value != nil
	}
}

// get is size bytes of the registers from reg on, nil where one of them is not known.
func (m *machine) get(reg, size int) []byte {
	if reg < 0 || size <= 0 || reg+size > len(m.data) {
		return nil
	}
	for i := reg / 4; i < (reg+pad4(size))/4; i++ {
		if !m.known[i] {
			return nil
		}
	}
	return m.data[reg : reg+size]
}

func pad4(n int) int { return (n + 3) &^ 3 }

// Comparisons (linux/netfilter/nf_tables.h, nft_cmp_ops).
const (
	cmpEq = iota
	cmpNeq
	cmpLt
	cmpLte
	cmpGt
	cmpGte
)

type compare struct {
	reg, op int
	value   []byte
}

func (c compare) run(m *machine) truth {
	have := m.get(c.reg, len(c.value))
	if have == nil {
		return unknown
	}
	order := bytes.Compare(have, c.value)
	switch c.op {
	case cmpEq:
		return truthOf(order == 0)
	case cmpNeq:
		return truthOf(order != 0)
	case cmpLt:
		return truthOf(order < 0)
	case cmpLte:
		return truthOf(order <= 0)
	case cmpGt:
		return truthOf(order > 0)
	case cmpGte:
		return truthOf(order >= 0)
	}
	return unknown
}

// maskedStatus loads the status of the session and keeps what is masked, where that is known.
type maskedStatus struct {
	reg  int
	mask uint32
	xor  uint32
}

func (s maskedStatus) run(m *machine) truth {
	bits, known := m.p.status()
	if s.mask&^known != 0 {
		m.set(s.reg, 4, nil)
		return yes
	}
	m.set(s.reg, 4, binary.NativeEndian.AppendUint32(nil, bits&s.mask^s.xor))
	return yes
}

type between struct {
	reg      int
	outside  bool
	from, to []byte
}

func (b between) run(m *machine) truth {
	have := m.get(b.reg, len(b.from))
	if have == nil || len(b.to) != len(b.from) {
		return unknown
	}
	in := bytes.Compare(have, b.from) >= 0 && bytes.Compare(have, b.to) <= 0
	return truthOf(in != b.outside)
}

// A bitwise keeps the bits of mask and turns those of xor.
type bitwise struct {
	from, to  int
	mask, xor []byte
}

func (b bitwise) run(m *machine) truth {
	have := m.get(b.from, len(b.mask))
	if have == nil || len(b.xor) != len(b.mask) {
		m.set(b.to, len(b.mask), nil)
		return yes
	}
	out := make([]byte, len(b.mask))
	for i := range out {
		out[i] = have[i]&b.mask[i] ^ b.xor[i]
	}
	m.set(b.to, len(out), out)
	return yes
}

// A swap turns numbers of size bytes around (network and host order).
type swap struct{ from, to, length, size int }

func (s swap) run(m *machine) truth {
	have := m.get(s.from, s.length)
	if have == nil || s.size <= 0 {
		m.set(s.to, s.length, nil)
		return yes
	}
	out := bytes.Clone(have) // what is left over of a number stays as it is
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		for at := 0; at+s.size <= len(out); at += s.size {
			slices.Reverse(out[at : at+s.size])
		}
	}
	m.set(s.to, s.length, out)
	return yes
}

// A lookup asks whether a set has what registers hold, and what it yields.
type lookup struct {
	set      *set
	reg, to  int // to < 0: it yields nothing
	verdicts bool
	inverted bool
}

func (l lookup) run(m *machine) truth {
	if l.set == nil || l.set.opaque || l.set.keyLen == 0 {
		return m.lost(l.to)
	}
	key := m.get(l.reg, l.set.keyLen)
	if key == nil {
		return m.lost(l.to)
	}
	found, ok := l.set.find(key)
	if ok && l.verdicts {
		m.verdict = found.verdict
	} else if ok && l.to >= 0 {
		m.set(l.to, len(found.data), found.data)
	}
	return truthOf(ok != l.inverted)
}

// lost is what happens when a rule did what is not understood: everything that it left behind is not known.
func (m *machine) lost(reg int) truth {
	if reg >= 0 {
		m.known = [16]bool{}
	}
	return unknown
}

// A constant puts a value into registers.
type constant struct {
	reg   int
	value []byte
}

func (c constant) run(m *machine) truth {
	m.set(c.reg, len(c.value), c.value)
	return yes
}

// A decision is what becomes of the packet.
type decision struct{ verdict verdict }

func (d decision) run(m *machine) truth {
	m.verdict = d.verdict
	return yes
}

// A marking sets the mark of the packet from a register.
type marking struct{ reg int }

func (k marking) run(m *machine) truth {
	have := m.get(k.reg, 4)
	if m.p.markKnown = have != nil && !m.doubt; m.p.markKnown {
		m.p.mark = binary.NativeEndian.Uint32(have)
	}
	return yes
}

// A predicate is a match that needs no registers.
type predicate func(p *packet) truth

func (f predicate) run(m *machine) truth { return f(m.p) }

// mystery is what is not understood.
type mystery struct{}

func (mystery) run(m *machine) truth { return m.lost(0) }
