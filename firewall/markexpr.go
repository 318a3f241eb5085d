package firewall

import (
	"encoding/binary"

	"github.com/fairlead-net/fairlead/forward"
)

// expr encodes one expression: its name and its attributes.
func expr(name string, parts ...[]byte) []byte {
	return nestAttr(1, strAttr(1, name), nestAttr(2, parts...))
}

const reg32 = 8 // NFT_REG32_00; registers of four bytes follow each other

func exprMeta(key, reg uint32) []byte { return expr("meta", u32Attr(2, key), u32Attr(1, reg)) }

func exprCompare(reg, op uint32, value []byte) []byte {
	return expr("cmp", u32Attr(1, reg), u32Attr(2, op), nestAttr(3, attr(1, value)))
}

func exprBitwise(reg uint32, mask, xor []byte) []byte {
	return expr("bitwise", u32Attr(1, reg), u32Attr(2, reg), u32Attr(3, uint32(len(mask))), nestAttr(4, attr(1, mask)), nestAttr(5, attr(1, xor)))
}

// exprOriginal loads a value of the tuple that the session began with.
func exprOriginal(key, reg uint32) []byte {
	return expr("ct", u32Attr(2, key), u32Attr(1, reg), attr(3, []byte{directionOriginal}))
}

func exprAccept() []byte {
	return expr("immediate", u32Attr(1, 0), nestAttr(2, nestAttr(2, u32Attr(1, codeAccept))))
}

func exprCounter() []byte { return expr("counter", u64Attr(1, 0), u64Attr(2, 0)) }

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func exprSetMark() []byte {
	return concat(exprMeta(metaMark, reg32), exprBitwise(reg32, native32(^uint32(Mark)), native32(Mark)),
		expr("meta", u32Attr(2, metaMark), u32Attr(3, reg32)))
}

// exprMarked matches packets that are marked.
func exprMarked() []byte {
	return concat(exprMeta(metaMark, reg32), exprBitwise(reg32, native32(Mark), native32(0)), exprCompare(reg32, cmpEq, native32(Mark)))
}

// markRules is the rules that look into one set: for a set with an interface one for each direction, since answers leave by
// the interface by which the client comes in.
func markRules(id setID, hook Hook) (rules [][]byte) {
	if id.group == groupLocal || id.group == groupOwn && hook != Input || id.group == groupRouted && hook != Forward {
		return nil
	}
	family := byte(familyIPv4)
	if id.V6 {
		family = familyIPv6
	}
	prefix := concat(exprMeta(metaNFProto, reg32), exprCompare(reg32, cmpEq, []byte{family}))
	if id.group != groupOwn {
		op := uint32(cmpNeq)
		if id.group == groupRouted {
			op = cmpEq
		}
		prefix = concat(prefix, expr("ct", u32Attr(2, ctStatus), u32Attr(1, reg32)),
			exprBitwise(reg32, native32(statusDstNAT), native32(0)), exprCompare(reg32, op, native32(0)))
	}
	if id.asksLocal() {
		prefix = concat(prefix, id.loadDestination(reg32), exprLookup(id.local()))
	}
	look := func(iface uint32) []byte {
		return concat(prefix, id.load(iface), exprLookup(id), exprSetMark(), exprAccept())
	}
	if !id.ByInput || id.group == groupOwn {
		return [][]byte{look(metaIIFName)}
	}
	direction := func(d byte) []byte {
		return concat(expr("ct", u32Attr(2, ctDirection), u32Attr(1, reg32)), exprCompare(reg32, cmpEq, []byte{d}))
	}
	rules = append(rules, concat(direction(directionOriginal), look(metaIIFName)))
	if hook == Forward {
		rules = append(rules, concat(direction(directionReply), look(metaOIFName)))
	}
	return rules
}

func exprLookup(id setID) []byte { return expr("lookup", strAttr(1, id.name()), u32Attr(2, reg32)) }

// Where addresses are in the headers of IPv4 (RFC 791, section 3.1) and IPv6 (RFC 8200, section 3), and the port that a packet
// is for in those of TCP and UDP.
const (
	source4, destination4 = 12, 16
	source6, destination6 = 8, 24
	destinationPort       = 2

	baseNetwork   = 1
	baseTransport = 2
)

func exprPayload(base, offset, size, reg uint32) []byte {
	return expr("payload", u32Attr(1, reg), u32Attr(2, base), u32Attr(3, offset), u32Attr(4, size))
}

func (id setID) loadSource(reg uint32) []byte {
	switch {
	case id.group == groupOwn && id.V6:
		return exprPayload(baseNetwork, source6, 16, reg)
	case id.group == groupOwn:
		return exprPayload(baseNetwork, source4, 4, reg)
	case id.V6:
		return exprOriginal(ctSrcIP6, reg)
	}
	return exprOriginal(ctSrcIP, reg)
}

func (id setID) loadDestination(reg uint32) []byte {
	switch {
	case id.group == groupOwn && id.V6:
		return exprPayload(baseNetwork, destination6, 16, reg)
	case id.group == groupOwn:
		return exprPayload(baseNetwork, destination4, 4, reg)
	case id.V6:
		return exprOriginal(ctDstIP6, reg)
	}
	return exprOriginal(ctDstIP, reg)
}

// load puts the key into registers from reg32 on.
func (id setID) load(iface uint32) (out []byte) {
	reg := uint32(reg32)
	size := id.addr().size
	if id.FromBits > 0 {
		mask := make([]byte, size)
		for bit := range id.FromBits {
			mask[bit/8] |= 0x80 >> (bit % 8)
		}
		out = concat(id.loadSource(reg), exprBitwise(reg, mask, make([]byte, size)))
		reg += uint32(size / 4)
	}
	if id.ByAddr {
		out = append(out, id.loadDestination(reg)...)
		reg += uint32(size / 4)
	}
	if id.ByInput {
		out = append(out, exprMeta(iface, reg)...)
		reg += 4
	}
	if id.group == groupOwn {
		out = append(out, exprMeta(metaL4Proto, reg)...)
	} else { // the session's: ICMP errors that belong to it, too
		out = append(out, exprOriginal(ctProtocol, reg)...)
	}
	reg++
	switch {
	case id.Ports == forward.PortAll:
	case id.group == groupOwn:
		out = append(out, exprPayload(baseTransport, destinationPort, 2, reg)...)
	default:
		out = append(out, exprOriginal(ctProtoDst, reg)...)
	}
	return out
}

// interval reports whether elements are ranges: those with ports are.
func (id setID) interval() bool { return id.group != groupLocal && id.Ports == forward.PortRange }
