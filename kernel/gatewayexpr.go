package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// More numbers of linux/netfilter/nf_tables.h.
const (
	ctState    = 0
	ctProtoSrc = 11

	cmpLt  = 2
	cmpGte = 5

	verdictDrop = 0 // NF_DROP

	rangeRandom = 4 // NF_NAT_RANGE_PROTO_RANDOM

	protoICMP   = 1
	protoIGMP   = 2
	protoICMPv6 = 58
)

// The states of a session as conntrack sees a packet (NFT_CT_STATE; linux/netfilter/nf_conntrack_common.h).
const (
	stateInvalid     = 1
	stateEstablished = 2
	stateRelated     = 4
	stateNew         = 8
)

func drop() statement { return statement{"drop", verdict(verdictDrop, "")} }

// rejectReset answers a TCP packet with a reset.
func rejectReset() statement {
	const tcpReset = 1 // NFT_REJECT_TCP_RST
	return statement{"reject with tcp reset", expr("reject", be32(1, tcpReset))}
}

// ifState matches packets in one of the states.
func ifState(states uint32) statement {
	var words []string
	for _, s := range []struct {
		bit  uint32
		word string
	}{{stateInvalid, "invalid"}, {stateEstablished, "established"}, {stateRelated, "related"}, {stateNew, "new"}} {
		if states&s.bit != 0 {
			words = append(words, s.word)
		}
	}
	return statement{"ct state " + strings.Join(words, ","), concat(ct(ctState, -1, reg32), bitwise(reg32, native32(states)),
		compare(reg32, cmpNeq, native32(0)))}
}

// ifInterface matches packets that came in (metaIIFName) or leave (metaOIFName) by an interface, or by all whose names begin
// with what stands before a '*'.
func ifInterface(key uint32, name string) statement {
	word := "iifname"
	if key == metaOIFName {
		word = "oifname"
	}
	want := make([]byte, 16)
	if prefix, wild := strings.CutSuffix(name, "*"); wild {
		want = []byte(prefix)
	} else {
		copy(want, name)
	}
	return statement{fmt.Sprintf("%s %q", word, name), concat(meta(key, reg32), compare(reg32, cmpEq, want))}
}

// ifBridge matches packets that came in by a bridge.
func ifBridge() statement {
	const kind = 26 // NFT_META_IIFKIND, Linux 5.6
	want := make([]byte, 16)
	copy(want, "bridge")
	return statement{`meta iifkind "bridge"`, concat(meta(kind, reg32), compare(reg32, cmpEq, want))}
}

// ifL4 matches packets of a protocol without ports.
func ifL4(name string, number byte) statement {
	return statement{"meta l4proto " + name, concat(meta(metaL4Proto, reg32), compare(reg32, cmpEq, []byte{number}))}
}

// ifICMP matches ICMP messages of the types first to last of one family.
func ifICMP(v6 bool, first, last byte) statement {
	word, proto := "icmp", byte(protoICMP)
	if v6 {
		word, proto = "icmpv6", protoICMPv6
	}
	text := fmt.Sprintf("%s type %d", word, first)
	value := compare(reg32, cmpEq, []byte{first})
	if first != last {
		text += fmt.Sprintf("-%d", last)
		value = concat(compare(reg32, cmpGte, []byte{first}), compare(reg32, cmpLte, []byte{last}))
	}
	return statement{text, concat(meta(metaNFProto, reg32), compare(reg32, cmpEq, []byte{byte(familyOf(v6))}),
		meta(metaL4Proto, reg32), compare(reg32, cmpEq, []byte{proto}), payload(payloadTransport, 0, 1, reg32), value)}
}

// ifDport matches packets to ports of the one protocol that a statement before it has matched.
func ifDport(network forward.Networks, r forward.Range) statement {
	first, last := binary.BigEndian.AppendUint16(nil, r.First), binary.BigEndian.AppendUint16(nil, r.Last)
	value := compare(reg32, cmpEq, first)
	if r.First != r.Last {
		value = concat(compare(reg32, cmpGte, first), compare(reg32, cmpLte, last))
	}
	return statement{network.String() + " dport " + r.String(), concat(payload(payloadTransport, 2, 2, reg32), value)}
}

// ifSportBelow matches packets from a port below limit.
func ifSportBelow(network forward.Networks, limit uint16) statement {
	return statement{fmt.Sprintf("%s sport < %d", network, limit), concat(payload(payloadTransport, 0, 2, reg32),
		compare(reg32, cmpLt, binary.BigEndian.AppendUint16(nil, limit)))}
}

// ifDaddr matches packets to an address.
func ifDaddr(addr netip.Addr) statement {
	if addr.Is4() {
		return statement{"ip daddr " + addr.String(), concat(payload(payloadNetwork, 16, 4, reg32), compare(reg32, cmpEq, addr.AsSlice()))}
	}
	return statement{"ip6 daddr " + addr.String(), concat(payload(payloadNetwork, 24, 16, reg32), compare(reg32, cmpEq, addr.AsSlice()))}
}

// ifDaddrIn matches packets to an address of an IPv4 network.
func ifDaddrIn(n netip.Prefix) statement {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-n.Bits()))
	return statement{"ip daddr " + n.String(), concat(payload(payloadNetwork, 16, 4, reg32), bitwise(reg32, mask), compare(reg32, cmpEq, n.Addr().AsSlice()))}
}

// ifAddrOfInput matches packets to an address of the interface by which they came in (is), or to another.
func ifAddrOfInput(is bool) statement {
	const daddrIIF, local = 1<<1 | 1<<3, 2 // NFTA_FIB_F_DADDR, NFTA_FIB_F_IIF; RTN_LOCAL
	if is {
		return statement{"fib daddr . iif type local", concat(fib(daddrIIF), compare(reg32, cmpEq, native32(local)))}
	}
	return statement{"fib daddr . iif type != local", concat(fib(daddrIIF), compare(reg32, cmpNeq, native32(local)))}
}

// ifReverse matches packets of new sessions that come from what session set id has as a target, as if a client's were answered.
func ifReverse(id setID) statement {
	var texts []string
	var out []byte
	reg := uint32(reg32)
	network := func(word string, offset4, offset6 uint32) (string, []byte) {
		if id.V6 {
			return "ip6 " + word, payload(payloadNetwork, offset6, 16, reg)
		}
		return "ip " + word, payload(payloadNetwork, offset4, 4, reg)
	}
	for _, f := range id.key() {
		text, load := "", []byte(nil)
		switch f {
		case fieldClient:
			text, load = network("daddr", 16, 24)
			if mask := prefixMask(id); mask != nil && !id.clients {
				addr, _ := netip.AddrFromSlice(mask)
				text, load = text+" & "+addr.String(), concat(load, bitwise(reg, mask))
			}
		case fieldAddr:
			text, load = network("saddr", 12, 8)
		case fieldPort:
			s := sport(id.network, 0)(reg)
			text, load = s.text, s.expr
		default:
			text, load = loadField(id, f, metaOIFName, reg)
		}
		texts, out = append(texts, text), append(out, load...)
		reg += uint32(pad4(id.dataType(f).size) / 4)
	}
	return statement{strings.Join(texts, " . ") + " @" + id.name(), concat(out, lookupSet(id.name(), reg32))}
}

// clampMSS lowers the MSS of a TCP packet that opens a session (the first statement) to what the smaller of the MTUs on
// either side takes.
func clampMSS() statement {
	const synRst, syn = 0x06, 0x02
	const tcpMSS, tcpOption, hton = 3, 1, 1 // NFT_RT_TCPMSS, NFT_EXTHDR_OP_TCPOPT, NFT_BYTEORDER_HTON
	const maxSeg = 2                        // TCPOPT_MAXSEG: its value is two bytes after a kind and a length
	return statement{"tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu", concat(
		meta(metaL4Proto, reg32), compare(reg32, cmpEq, []byte{protoTCP}),
		payload(payloadTransport, 13, 1, reg32), bitwise(reg32, []byte{synRst}), compare(reg32, cmpEq, []byte{syn}),
		expr("rt", be32(1, reg32), be32(2, tcpMSS)),
		expr("byteorder", be32(1, reg32), be32(2, reg32), be32(3, hton), be32(4, 2), be32(5, 2)),
		expr("exthdr", attr(2, []byte{maxSeg}), be32(3, 2), be32(4, 2), be32(6, tcpOption), be32(7, reg32)))}
}

// A value loads something into registers from reg on.
type value func(reg uint32) statement

// sport is the port that a packet comes from, with some of its bits turned over.
func sport(network forward.Networks, flip uint16) value {
	return func(reg uint32) statement {
		s := statement{network.String() + " sport", payload(payloadTransport, 0, 2, reg)}
		if flip != 0 {
			s.text += fmt.Sprintf(" ^ %d", flip)
			s.expr = concat(s.expr, expr("bitwise", be32(1, reg), be32(2, reg), be32(3, 2), nested(4, attr(1, []byte{0xff, 0xff})),
				nested(5, attr(1, binary.BigEndian.AppendUint16(nil, flip)))))
		}
		return s
	}
}

// claimed is a port as the key of a set of ports.
func claimed(port value) value {
	return func(reg uint32) statement {
		p := port(reg)
		return statement{p.text + " . meta l4proto", concat(p.expr, meta(metaL4Proto, reg+1))}
	}
}

// dport is the port that a packet is for.
func dport(network forward.Networks) value {
	return func(reg uint32) statement {
		return statement{network.String() + " dport", payload(payloadTransport, 2, 2, reg)}
	}
}

// destination is the address and port that a packet is for, as set id has those of sources.
func destination(id setID) value {
	return func(reg uint32) statement {
		family, offset, size := "ip", uint32(16), uint32(4)
		if id.V6 {
			family, offset, size = "ip6", 24, 16
		}
		return statement{family + " daddr . " + id.network.String() + " dport",
			concat(payload(payloadNetwork, offset, size, reg), payload(payloadTransport, 2, 2, reg+size/4))}
	}
}

// inMap is what map id has for the packet.
func inMap(id setID) value {
	return func(reg uint32) statement {
		key := loadKeyAt(id, metaIIFName, reg)
		return statement{key.text + " map @" + id.name(), concat(key.expr, lookupMap(id.name(), reg, reg))}
	}
}

// ifNotIn matches packets whose value is not in set id.
func ifNotIn(v value, id setID) statement {
	const inverted = 1 // NFT_LOOKUP_F_INV
	key := v(reg32)
	return statement{key.text + " != @" + id.name(), concat(key.expr, expr("lookup", str(1, id.name()), be32(2, reg32), be32(5, inverted)))}
}

// ifIn matches packets whose value is in set id.
func ifIn(v value, id setID) statement {
	key := v(reg32)
	return statement{key.text + " @" + id.name(), concat(key.expr, lookupSet(id.name(), reg32))}
}

// originalSource is the address and port that a session's first packet came from (directionOriginal), or those that it was
// led to (directionReply).
func originalSource(id setID, direction int) value {
	return func(reg uint32) statement {
		word, family, key, size := directionNames[direction], "ip", uint32(ctSrcIP), uint32(4)
		if id.V6 {
			family, key, size = "ip6", ctSrcIP6, 16
		}
		return statement{fmt.Sprintf("ct %s %s saddr . ct %[1]s proto-src", word, family),
			concat(ct(key, direction, reg), ct(ctProtoSrc, direction, reg+size/4))}
	}
}

// learn puts key, and for a map what it leads to, into learned set id. Both begin its time anew with "update"; "add" leaves
// what is there alone.
func learn(word string, id setID, key, to value) statement {
	op := map[string]uint32{"add": 0, "update": 1}[word] // NFT_DYNSET_OP_ADD, NFT_DYNSET_OP_UPDATE
	k := key(reg32)
	attrs := [][]byte{str(1, id.name()), be32(3, op), be32(4, reg32)}
	text, load := k.text, k.expr
	if to != nil {
		at := reg32 + uint32(id.width(id.key())/4)
		d := to(at)
		text, load = text+" : "+d.text, concat(load, d.expr)
		attrs = append(attrs, be32(5, at))
	}
	return statement{fmt.Sprintf("%s @%s { %s }", word, id.name(), text), concat(load, expr("dynset", attrs...))}
}

// draw matches packets whose port nobody has drawn in the last second. Two packets on two processors may both find that a port has
// no owner, before either has made somebody the owner; the limit that an element of its own has lets one of them on.
func draw(id setID, port value) statement {
	const day, second = 24 * 60 * 60, 1000 // in seconds, in milliseconds
	number := func(kind uint16, n uint64) []byte { return attr(kind, binary.BigEndian.AppendUint64(nil, n)) }
	k := port(reg32)
	limit := nested(7, str(nftaExprName, "limit"), nested(nftaExprData, number(1, 1), number(2, day), be32(3, 1), be32(4, 0), be32(5, 0)))
	return statement{fmt.Sprintf("add @%s { %s timeout 1s limit rate 1/day burst 1 packets }", id.name(), k.text),
		concat(k.expr, expr("dynset", str(1, id.name()), be32(3, 0), be32(4, reg32), number(6, second), limit))}
}

// A sourceNAT is how what leaves by the WAN is translated: to an address, or to that of the interface.
type sourceNAT struct {
	v6   bool
	addr netip.Addr // not valid: masquerade
}

// plain leaves the port to the kernel, which keeps it where it can; random has it draw one.
func (n sourceNAT) plain(random bool) statement {
	var flags [2][]byte // of masq, of nat
	text := n.text()
	if random {
		text += " random"
		flags = [2][]byte{be32(1, rangeRandom), be32(7, rangeRandom)}
	}
	if !n.addr.IsValid() {
		return statement{text, expr("masq", flags[0])}
	}
	return statement{text, concat(immediate(reg32, n.addr.AsSlice()), n.nat(flags[1]))}
}

// toPort has the session leave from a port, whatever stands against it.
func (n sourceNAT) toPort(port value) statement {
	if !n.addr.IsValid() {
		p := port(reg32)
		return statement{"masquerade to :" + p.text, concat(p.expr, expr("masq", be32(2, reg32), be32(1, rangeProtoSpecified)))}
	}
	return n.at(statement{n.addr.String(), immediate(reg32, n.addr.AsSlice())}, port)
}

// at is toPort from an address that is loaded into reg32.
func (n sourceNAT) at(addr statement, port value) statement {
	reg, text := uint32(reg32+1), addr.text
	if n.v6 {
		reg = reg32 + 4
		if n.addr.IsValid() {
			text = "[" + text + "]"
		}
	}
	p := port(reg)
	return statement{"snat " + n.family() + " to " + text + ":" + p.text,
		concat(addr.expr, p.expr, n.nat(concat(be32(5, reg), be32(7, rangeProtoSpecified))))}
}

// from translates to an address that is loaded into reg32, and leaves the port to the kernel.
func (n sourceNAT) from(addr statement) statement {
	return statement{"snat " + n.family() + " to " + addr.text, concat(addr.expr, n.nat(nil))}
}

func (n sourceNAT) nat(more []byte) []byte {
	const snat = 0 // NFT_NAT_SNAT
	return expr("nat", be32(1, snat), be32(2, familyOf(n.v6)), be32(3, reg32), more)
}

func (n sourceNAT) family() string {
	if n.v6 {
		return "ip6"
	}
	return "ip"
}

func (n sourceNAT) text() string {
	if !n.addr.IsValid() {
		return "masquerade"
	}
	return "snat " + n.family() + " to " + n.addr.String()
}

func immediate(reg uint32, data []byte) []byte {
	return expr("immediate", be32(1, reg), nested(2, attr(1, data)))
}
