package firewall

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// match adds an extension of iptables, with its binary data as linux/netfilter/xt_*.h has it (in the host's order, but for
// addresses and ports).
func (d *decoder) match(name string, revision uint32, b []byte) {
	switch name {
	case "comment":
		text, _, _ := bytes.Cut(b, []byte{0})
		d.comment = string(text)
		return
	case "limit": // one session more does not exceed it
		return
	}
	of := xtSession(name, revision, b)
	if of == nil {
		of = xtPacket(name, revision, b)
	}
	if of == nil && d.family == familyIPv6 {
		switch name {
		case "rt", "frag", "hbh", "dst", "ah", "ipv6header": // headers that a client's packets do not have
			of = func(*packet) truth { return no }
		}
	}
	if of == nil {
		d.add(mystery{})
		return
	}
	d.add(of)
}

// xtSession is the matches that ask conntrack or routing, nil for others and for what is not understood of them.
func xtSession(name string, revision uint32, b []byte) predicate {
	switch {
	case name == "conntrack" && revision >= 1 && len(b) >= 152:
		return xtConntrack(revision, b)
	case name == "state" && len(b) >= 4:
		return matchState(binary.NativeEndian.Uint32(b), false)
	case name == "addrtype" && revision == 1 && len(b) >= 8:
		const notSource, notDest = 1, 2 // the other flags look at one interface only
		flags := binary.NativeEndian.Uint32(b[4:])
		if flags&^(notSource|notDest) != 0 {
			return nil
		}
		return matchAddrType(binary.NativeEndian.Uint16(b), binary.NativeEndian.Uint16(b[2:]), flags&notSource != 0, flags&notDest != 0)
	case name == "addrtype" && revision == 0 && len(b) >= 12:
		return matchAddrType(binary.NativeEndian.Uint16(b), binary.NativeEndian.Uint16(b[2:]),
			binary.NativeEndian.Uint32(b[4:]) != 0, binary.NativeEndian.Uint32(b[8:]) != 0)
	case name == "rpfilter" && len(b) >= 1: // clients come in by where their answers leave
		const invert = 1 << 2
		return func(*packet) truth { return truthOf(b[0]&invert == 0) }
	}
	return nil
}

// xtPacket is the matches that ask the packet, nil as with xtSession.
func xtPacket(name string, revision uint32, b []byte) predicate {
	switch {
	case name == "multiport" && revision == 1 && len(b) >= 48:
		return xtMultiport(b)
	case name == "mark" && revision == 1 && len(b) >= 9:
		return matchMark(binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), b[8] != 0)
	case (name == "tcp" || name == "udp") && len(b) >= 10:
		return xtPorts(name, b)
	case name == "icmp" || name == "icmp6":
		return func(*packet) truth { return no }
	case name == "iprange" && revision == 1 && len(b) >= 65:
		return xtRange(b)
	}
	return nil
}

// xtConntrack is xt_conntrack_mtinfo1 to 3.
func xtConntrack(revision uint32, b []byte) predicate {
	const (
		hasState, hasProto, hasOrigSrc, hasOrigDst        = 1 << 0, 1 << 1, 1 << 2, 1 << 3
		hasStatus, hasOrigDstPort, hasDirection           = 1 << 6, 1 << 9, 1 << 12
		understood                                 uint16 = hasState | hasStatus | hasOrigDst | hasOrigSrc | hasProto | hasOrigDstPort | hasDirection
	)
	flags, inverted := binary.NativeEndian.Uint16(b[146:]), binary.NativeEndian.Uint16(b[148:])
	states, status := uint32(b[150]), uint32(b[151])
	if revision >= 2 {
		if len(b) < 154 {
			return nil
		}
		states, status = uint32(binary.NativeEndian.Uint16(b[150:])), uint32(binary.NativeEndian.Uint16(b[152:]))
	}
	highPort := binary.NativeEndian.Uint16(b[140:])
	if revision >= 3 && len(b) >= 158 {
		highPort = binary.NativeEndian.Uint16(b[156:])
	}
	if revision < 3 { // of older ones the port is in network order
		highPort = binary.BigEndian.Uint16(b[140:])
	}
	lowPort := binary.NativeEndian.Uint16(b[140:])
	if revision < 3 {
		lowPort = highPort
	}
	addr := func(at int, a netip.Addr) truth {
		have := a.AsSlice()
		if have == nil {
			return unknown
		}
		for i, c := range have {
			if (c^b[at+i])&b[at+16+i] != 0 {
				return no
			}
		}
		return yes
	}
	return func(p *packet) truth {
		if flags&^understood != 0 {
			return unknown
		}
		out := yes
		also := func(flag uint16, t truth) {
			if flags&flag == 0 {
				return
			}
			if inverted&flag != 0 {
				t = t.not()
			}
			out = and(out, t)
		}
		also(hasState, hasXTState(p, states))
		also(hasProto, truthOf(binary.NativeEndian.Uint16(b[136:]) == uint16(p.proto)))
		also(hasOrigSrc, addr(0, p.origSrc.Addr()))
		also(hasOrigDst, addr(32, p.origDst.Addr()))
		also(hasOrigDstPort, truthOf(p.origDst.Port() >= lowPort && p.origDst.Port() <= highPort))
		if flags&hasStatus != 0 {
			bits, known := p.status()
			t := truthOf(bits&status != 0)
			if t == no && status&^known != 0 {
				t = unknown
			}
			also(hasStatus, t)
		}
		if flags&hasDirection != 0 {
			also(hasDirection, truthOf(p.reply != (inverted&hasDirection == 0))) // the flag itself means "original"
			return unknown
		}
		return out
	}
}

func and(a, b truth) truth {
	switch {
	case a == no || b == no:
		return no
	case a == unknown || b == unknown:
		return unknown
	}
	return yes
}

// The states of iptables' conntrack match (xt_conntrack.h): XT_CONNTRACK_STATE_BIT and those beside it.
const (
	xtInvalid     = 1 << 0
	xtEstablished = 1 << 1
	xtRelated     = 1 << 2
	xtNew         = 1 << 3
	xtSNAT        = 1 << 6
	xtDNAT        = 1 << 7
	xtUntracked   = 1 << 8
)

// hasXTState is whether the packet's session is in one of the states. What is not asked of it is not known: whether its
// source was rewritten.
func hasXTState(p *packet, states uint32) truth {
	have := uint32(xtNew)
	switch {
	case p.untracked:
		return truthOf(states&xtInvalid != 0)
	case p.reply:
		have = xtEstablished
	}
	if p.dnat {
		have |= xtDNAT
	}
	if have&states != 0 {
		return yes
	}
	if states&xtSNAT != 0 {
		return unknown
	}
	return no
}

func matchState(states uint32, inverted bool) predicate {
	return func(p *packet) truth {
		if inverted {
			return hasXTState(p, states).not()
		}
		return hasXTState(p, states)
	}
}

func matchAddrType(source, dest uint16, notSource, notDest bool) predicate {
	return func(p *packet) truth {
		out := yes
		if source != 0 {
			out = and(out, truthOf((source&(1<<addrType(p.srcLocal)) != 0) != notSource))
		}
		if dest != 0 {
			out = and(out, truthOf((dest&(1<<addrType(p.dstLocal)) != 0) != notDest))
		}
		return out
	}
}

func matchMark(mark, mask uint32, inverted bool) predicate {
	return func(p *packet) truth {
		if !p.markKnown {
			return unknown
		}
		return truthOf((p.mark&mask == mark) != inverted)
	}
}

// xtMultiport is xt_multiport_v1.
func xtMultiport(b []byte) predicate {
	const source, destination, either = 0, 1, 2
	count := min(int(b[1]), 15)
	var ranges [][2]uint16
	for i := 0; i < count; i++ {
		first := binary.NativeEndian.Uint16(b[2+2*i:])
		last := first
		if b[32+i] != 0 && i+1 < count {
			i++
			last = binary.NativeEndian.Uint16(b[2+2*i:])
		}
		ranges = append(ranges, [2]uint16{first, last})
	}
	kind, inverted := b[0], b[47] != 0
	return func(p *packet) truth {
		in := kind != destination && hasPort(ranges, p.srcPort) || kind != source && hasPort(ranges, p.dstPort)
		return truthOf(in != inverted)
	}
}

func hasPort(ranges [][2]uint16, port uint16) bool {
	for _, r := range ranges {
		if port >= r[0] && port <= r[1] {
			return true
		}
	}
	return false
}

// xtPorts is xt_tcp or xt_udp.
func xtPorts(name string, b []byte) predicate {
	port := func(at int) uint16 { return binary.NativeEndian.Uint16(b[at:]) }
	inverted, flagMask, flags, options := b[8], byte(0), byte(0), false
	proto := byte(protoUDP)
	if name == "tcp" {
		if len(b) < 12 {
			return nil
		}
		proto, options, flagMask, flags, inverted = protoTCP, b[8] != 0, b[9], b[10], b[11]
	}
	source, dest := [][2]uint16{{port(0), port(2)}}, [][2]uint16{{port(4), port(6)}}
	return func(p *packet) truth {
		if p.proto != proto {
			return no
		}
		out := and(truthOf(hasPort(source, p.srcPort) != (inverted&1 != 0)), truthOf(hasPort(dest, p.dstPort) != (inverted&2 != 0)))
		if flagMask != 0 {
			out = and(out, truthOf((p.tcpFlags()&flagMask == flags) != (inverted&4 != 0)))
		}
		if options {
			out = and(out, unknown)
		}
		return out
	}
}

// xtRange is xt_iprange_mtinfo.
func xtRange(b []byte) predicate {
	const source, destination, notSource, notDestination = 1, 2, 16, 32
	flags := b[64]
	in := func(at int, a netip.Addr) bool {
		have := a.AsSlice()
		return bytes.Compare(have, b[at:at+len(have)]) >= 0 && bytes.Compare(have, b[at+16:at+16+len(have)]) <= 0
	}
	return func(p *packet) truth {
		out := yes
		if flags&source != 0 {
			out = and(out, truthOf(in(0, p.src) != (flags&notSource != 0)))
		}
		if flags&destination != 0 {
			out = and(out, truthOf(in(32, p.dst) != (flags&notDestination != 0)))
		}
		return out
	}
}

// target adds what iptables does with a packet.
func (d *decoder) target(name string, b []byte) {
	switch name {
	case "LOG", "NFLOG", "ULOG", "AUDIT", "TRACE", "NOTRACK", "CT", "TCPMSS", "CLASSIFY", "CHECKSUM", "DSCP", "TOS",
		"TTL", "HL", "SECMARK", "CONNSECMARK", "SET", "TCPOPTSTRIP", "TEE", "RATEEST", "IDLETIMER", "LED":
	case "CONNMARK": // it may restore a mark
		d.add(forgetMark{})
	case "MARK":
		if len(b) < 8 {
			d.add(mystery{})
			return
		}
		d.add(xtMark{binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])})
	case "REJECT":
		d.add(decision{verdict{kind: verdictDrop}})
	case "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP":
		d.add(decision{verdict{kind: verdictAccept}})
	default: // NFQUEUE, SYNPROXY, TPROXY, TARPIT…
		d.add(decision{verdict{kind: verdictUnknown}})
	}
}

// xtMark sets the mark as xt_mark_tginfo2 says.
type xtMark struct{ mark, mask uint32 }

func (k xtMark) run(m *machine) truth {
	m.p.mark = m.p.mark&^k.mask ^ k.mark
	m.p.markKnown = (m.p.markKnown || k.mask == ^uint32(0)) && !m.doubt
	return yes
}
