package firewall

import (
	"encoding/binary"
)

// A decoder makes steps of the expressions of one rule of nftables.
type decoder struct {
	table   *tableInfo
	family  byte
	steps   []step
	status  int // the register that has the status of the session, plus one
	comment string
}

func (d *decoder) add(s step) { d.steps = append(d.steps, s) }

// register turns the number of a register into its place among the 64 bytes: there are four of 16 bytes, and the same
// ones as sixteen of four. verdict is the register of verdicts.
func register(n uint32) (at int, verdict bool) {
	switch {
	case n == 0:
		return 0, true
	case n <= 4:
		return int(n-1) * 16, false
	case n >= 8 && n < 24:
		return int(n-8) * 4, false
	}
	return 1 << 16, false // nothing fits there, and so nothing is known of it
}

// expression adds one expression; what is not known makes the rule match perhaps.
func (d *decoder) expression(name string, data []byte) {
	a := attrs(data)
	at := func(kind int) int { reg, _ := register(a.u32(kind)); return reg }
	value := func(kind int) []byte { return attrs(a[kind])[1] }
	if name != "bitwise" && name != "cmp" {
		d.status = 0
	}
	switch name {
	case "meta":
		d.meta(a)
	case "payload":
		d.payload(a)
	case "ct":
		d.ct(a)
	case "fib":
		d.fib(a)
	case "cmp":
		d.add(compare{at(1), int(a.u32(2)), value(3)})
	case "range":
		d.add(between{at(1), a.u32(2) == 1, value(3), value(4)})
	case "bitwise":
		d.bitwise(a)
	case "byteorder":
		d.add(swap{at(1), at(2), int(a.u32(4)), int(a.u32(5))})
	case "lookup":
		l := lookup{set: d.table.sets[a.text(1)], reg: at(2), to: -1, inverted: a.u32(5)&1 != 0}
		if a[3] != nil {
			l.to, l.verdicts = register(a.u32(3))
		}
		d.add(l)
	case "immediate":
		if _, isVerdict := register(a.u32(1)); isVerdict {
			d.add(decision{parseVerdict(attrs(a[2])[2])})
		} else {
			d.add(constant{at(1), value(2)})
		}
	case "reject":
		d.add(decision{verdict{kind: verdictDrop}})
	case "counter", "log", "notrack", "last", "dup", "flow_offload", "nftrace":
	case "objref":
		if a.u32(1) != 1 { // counters, the first kind of object, change nothing
			d.object(a.u32(1))
		}
	case "limit": // one session more does not exceed it
		if a.u32(5)&1 != 0 {
			d.add(predicate(func(*packet) truth { return no }))
		}
	case "connlimit", "quota":
		if a.u32(2)&1 != 0 {
			d.add(predicate(func(*packet) truth { return no }))
		}
	case "dynset":
		if a[7] != nil || a[10] != nil { // it has expressions of its own, such as a limit for each address
			d.add(mystery{})
		}
	case "match":
		d.match(a.text(1), a.u32(2), a[3])
	case "target":
		d.target(a.text(1), a[3])
	case "masq", "nat", "redir":
		d.add(decision{verdict{kind: verdictAccept}})
	case "queue", "synproxy", "tproxy", "fwd":
		d.add(decision{verdict{kind: verdictUnknown}})
	default:
		d.add(mystery{})
	}
}

// object adds a named object (linux/netfilter/nf_tables.h, NFT_OBJECT_*). Helpers, timeouts and marks for other layers drop nothing.
func (d *decoder) object(kind uint32) {
	const quota, helper, limit, connlimit, tunnel, timeout, secmark, expectation, synproxy = 2, 3, 4, 5, 6, 7, 8, 9, 10
	switch kind {
	case helper, timeout, secmark, expectation, tunnel:
	default:
		d.add(mystery{})
	}
}

// Keys of meta (nft_meta_keys).
const (
	metaProtocol = 1
	metaMark     = 3
	metaIIF      = 4
	metaOIF      = 5
	metaIIFName  = 6
	metaOIFName  = 7
	metaNFProto  = 15
	metaL4Proto  = 16
	metaPktType  = 19
	metaTime     = 28
)

func (d *decoder) meta(a attrMap) {
	if a[3] != nil { // it sets something
		if a.u32(2) == metaMark {
			reg, _ := register(a.u32(3))
			d.add(marking{reg})
		}
		return
	}
	reg, _ := register(a.u32(1))
	size := 4
	var of func(p *packet) []byte
	native := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	index := func(name string, n int) []byte {
		if name != "" && n == 0 {
			return nil
		}
		return native(uint32(n))
	}
	switch a.u32(2) {
	case metaProtocol:
		of = func(p *packet) []byte { return etherType(p.v6) }
	case metaMark:
		of = func(p *packet) []byte {
			if !p.markKnown {
				return nil
			}
			return native(p.mark)
		}
	case metaIIF:
		of = func(p *packet) []byte {
			if p.hook == Postrouting { // kernels differ
				return nil
			}
			return index(p.in, p.inIndex)
		}
	case metaOIF:
		of = func(p *packet) []byte { return index(p.out, p.outIndex) }
	case metaIIFName:
		size, of = 16, func(p *packet) []byte {
			if p.hook == Postrouting {
				return nil
			}
			return padded(p.in, 16)
		}
	case metaOIFName:
		size, of = 16, func(p *packet) []byte { return padded(p.out, 16) }
	case metaNFProto:
		of = func(p *packet) []byte {
			if p.v6 {
				return []byte{familyIPv6}
			}
			return []byte{familyIPv4}
		}
	case metaL4Proto:
		of = func(p *packet) []byte { return []byte{p.proto} }
	case metaPktType:
		of = func(*packet) []byte { return []byte{0} } // PACKET_HOST
	default:
		of = func(*packet) []byte { return nil }
	}
	d.add(load{reg, size, of})
}

func padded(s string, n int) []byte { return append([]byte(s), make([]byte, max(n-len(s), 0))...) }

// etherType is the number of the network protocol (IEEE 802), in network order.
func etherType(v6 bool) []byte {
	if v6 {
		return []byte{0x86, 0xdd}
	}
	return []byte{0x08, 0x00}
}

func (d *decoder) payload(a attrMap) {
	if a[5] != nil { // it rewrites the packet
		d.add(mystery{})
		return
	}
	const network, transport = 1, 2
	reg, _ := register(a.u32(1))
	offset, size := int(a.u32(3)&0xffff), int(a.u32(4)&0xffff)
	var of func(p *packet) []byte
	switch a.u32(2) {
	case network:
		of = func(p *packet) []byte { return p.network(offset, size) }
	case transport:
		of = func(p *packet) []byte { return p.transport(offset, size) }
	default:
		of = func(*packet) []byte { return nil }
	}
	d.add(load{reg, size, of})
}

func (d *decoder) bitwise(a attrMap) {
	from, _ := register(a.u32(1))
	to, _ := register(a.u32(2))
	mask, xor := attrs(a[4])[1], attrs(a[5])[1]
	if a.u32(6) != 0 { // a shift, or one with another register
		d.add(load{to, max(int(a.u32(3)&0xff), 4), func(*packet) []byte { return nil }})
		return
	}
	if d.status == from+1 && from == to && len(mask) == 4 && len(xor) == 4 {
		d.steps[len(d.steps)-1] = maskedStatus{to, binary.NativeEndian.Uint32(mask), binary.NativeEndian.Uint32(xor)}
		d.status = 0
		return
	}
	d.add(bitwise{from, to, mask, xor})
}
