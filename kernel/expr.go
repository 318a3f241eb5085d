package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A statement is one step of a rule, in both languages that a rule is written in: the text of nft(8), and the expressions
// of the kernel's netlink interface. Keeping them side by side is what makes "render nft" tell the truth.
type statement struct {
	text string
	expr []byte // NFTA_LIST_ELEM attributes
}

// Attribute and register numbers of linux/netfilter/nf_tables.h.
const (
	nftaListElem = 1
	nftaExprName = 1
	nftaExprData = 2

	regVerdict = 0
	reg32      = 8 // NFT_REG32_00; registers of four bytes follow each other
)

// The hooks' view of a session key.
const (
	ctStatus    = 2
	ctDirection = 1
	ctProtoDst  = 12
	ctSrcIP     = 19
	ctDstIP     = 20
	ctSrcIP6    = 21
	ctDstIP6    = 22

	metaIIF     = 4
	metaIIFName = 6
	metaOIFName = 7
	metaNFProto = 15
	metaL4Proto = 16

	payloadNetwork   = 1
	payloadTransport = 2

	statusSrcNAT = 1 << 4 // IPS_SRC_NAT
	statusDstNAT = 1 << 5 // IPS_DST_NAT

	cmpEq  = 0
	cmpNeq = 1
	cmpLte = 3

	verdictAccept = 1  // NF_ACCEPT
	verdictJump   = -3 // NFT_JUMP
	verdictGoto   = -4 // NFT_GOTO
	verdictReturn = -5 // NFT_RETURN

	familyInet = 1  // NFPROTO_INET
	familyIPv4 = 2  // NFPROTO_IPV4
	familyIPv6 = 10 // NFPROTO_IPV6

	rangeProtoSpecified = 2 // NF_NAT_RANGE_PROTO_SPECIFIED
)

// The directions of a session (linux/netfilter/nf_conntrack_tuple_common.h, ip_conntrack_dir).
const (
	directionOriginal = 0
	directionReply    = 1
)

var directionNames = [...]string{directionOriginal: "original", directionReply: "reply"}

func familyOf(v6 bool) uint32 {
	if v6 {
		return familyIPv6
	}
	return familyIPv4
}

// expr encodes one expression: its name and its attributes.
func expr(name string, attrs ...[]byte) []byte {
	return nested(nftaListElem, str(nftaExprName, name), nested(nftaExprData, attrs...))
}

func meta(key, reg uint32) []byte { return expr("meta", be32(2, key), be32(1, reg)) }

func payload(base, offset, size, reg uint32) []byte {
	return expr("payload", be32(1, reg), be32(2, base), be32(3, offset), be32(4, size))
}

func compare(reg, op uint32, value []byte) []byte {
	return expr("cmp", be32(1, reg), be32(2, op), nested(3, attr(1, value)))
}

// bitwise keeps the bits of mask in reg.
func bitwise(reg uint32, mask []byte) []byte {
	return expr("bitwise", be32(1, reg), be32(2, reg), be32(3, uint32(len(mask))),
		nested(4, attr(1, mask)), nested(5, attr(1, make([]byte, len(mask)))))
}

// ct loads a value of the session; direction < 0 is none.
func ct(key uint32, direction int, reg uint32) []byte {
	attrs := [][]byte{be32(2, key), be32(1, reg)}
	if direction >= 0 {
		attrs = append(attrs, attr(3, []byte{byte(direction)}))
	}
	return expr("ct", attrs...)
}

func lookupSet(set string, reg uint32) []byte {
	return expr("lookup", str(1, set), be32(2, reg))
}

func lookupMap(set string, from, to uint32) []byte {
	return expr("lookup", str(1, set), be32(2, from), be32(3, to))
}

func verdict(code int32, chain string) []byte {
	v := [][]byte{be32(1, uint32(code))}
	if chain != "" {
		v = append(v, str(2, chain))
	}
	return expr("immediate", be32(1, regVerdict), nested(2, nested(2, v...)))
}

func accept() statement { return statement{"accept", verdict(verdictAccept, "")} }

func back() statement { return statement{"return", verdict(verdictReturn, "")} }

// toChain goes on in another chain: for good (goto), or until it returns (jump).
func toChain(code int32, chain string) statement {
	word := "goto "
	if code == verdictJump {
		word = "jump "
	}
	return statement{word + chain, verdict(code, chain)}
}

func masquerade() statement { return statement{"masquerade", expr("masq")} }

func ifFamily(v6 bool) statement {
	text := "meta nfproto ipv4"
	if v6 {
		text = "meta nfproto ipv6"
	}
	return statement{text, concat(meta(metaNFProto, reg32), compare(reg32, cmpEq, []byte{byte(familyOf(v6))}))}
}

func ifProtocol(n forward.Networks) statement {
	return statement{"meta l4proto " + n.String(), concat(meta(metaL4Proto, reg32), compare(reg32, cmpEq, []byte{protocolNumber(n)}))}
}

// ifMidstream matches TCP packets that do not open a connection (RFC 9293, section 3.5: only SYN stands in the first).
func ifMidstream() statement { return tcpFlags("!=", cmpNeq) }

// ifOpening matches those that do.
func ifOpening() statement { return tcpFlags("==", cmpEq) }

func tcpFlags(word string, op uint32) statement {
	const finSynRstAck, syn = 0x17, 0x02
	return statement{"tcp flags & (fin | syn | rst | ack) " + word + " syn", concat(
		meta(metaL4Proto, reg32), compare(reg32, cmpEq, []byte{protoTCP}),
		payload(payloadTransport, 13, 1, reg32), bitwise(reg32, []byte{finSynRstAck}), compare(reg32, op, []byte{syn}))}
}

// ifToThisHost matches packets to an address of this host: fib daddr type local (RTN_LOCAL is 2).
func ifToThisHost() statement {
	return statement{"fib daddr type local", concat(fib(1<<1), compare(reg32, cmpEq, native32(2)))}
}

// ifFromThisHost matches packets whose source is an address of this host.
func ifFromThisHost() statement {
	return statement{"fib saddr type local", concat(fib(1<<0), compare(reg32, cmpEq, native32(2)))}
}

func fib(flags uint32) []byte {
	return expr("fib", be32(1, reg32), be32(3, flags), be32(2, 3 /* NFT_FIB_RESULT_ADDRTYPE */))
}

func ifLoopback(v6 bool) statement {
	if v6 {
		one := netip.IPv6Loopback().As16()
		return statement{"ip6 daddr ::1", concat(meta(metaNFProto, reg32), compare(reg32, cmpEq, []byte{familyIPv6}),
			payload(payloadNetwork, 24, 16, reg32), compare(reg32, cmpEq, one[:]))}
	}
	return statement{"ip daddr 127.0.0.0/8", concat(meta(metaNFProto, reg32), compare(reg32, cmpEq, []byte{familyIPv4}),
		payload(payloadNetwork, 16, 1, reg32), compare(reg32, cmpEq, []byte{127}))}
}

// ifSocket matches packets for which a program of this host has a socket. "transparent" is looked at only because the
// lookup fails where there is no socket; every value of it matches.
func ifSocket() statement {
	const transparent = 0 // NFT_SOCKET_TRANSPARENT
	return statement{"socket transparent <= 1", concat(expr("socket", be32(1, transparent), be32(2, reg32)),
		compare(reg32, cmpLte, []byte{1}))}
}

func ifNotInterface(key uint32, name string) statement {
	word := "iifname"
	if key == metaOIFName {
		word = "oifname"
	}
	padded := make([]byte, 16)
	copy(padded, name)
	return statement{fmt.Sprintf("%s != %q", word, name), concat(meta(key, reg32), compare(reg32, cmpNeq, padded))}
}

// ifSameInterface matches packets that leave by the interface by which they came in.
func ifSameInterface(set string) statement {
	return statement{"iifname . oifname @" + set, concat(meta(metaIIFName, reg32), meta(metaOIFName, reg32+4), lookupSet(set, reg32))}
}

// ifDirection matches packets of one direction of their session.
func ifDirection(d byte) statement {
	return statement{"ct direction " + directionNames[d], concat(ct(ctDirection, -1, reg32), compare(reg32, cmpEq, []byte{d}))}
}

// ifDNAT matches packets of sessions whose destination was rewritten.
func ifDNAT() statement {
	return statement{"ct status dnat", concat(ct(ctStatus, -1, reg32), bitwise(reg32, native32(statusDstNAT)), compare(reg32, cmpNeq, native32(0)))}
}

// ifNotDNAT matches packets of all other sessions.
func ifNotDNAT() statement {
	return statement{"ct status ! dnat", concat(ct(ctStatus, -1, reg32), bitwise(reg32, native32(statusDstNAT)), compare(reg32, cmpEq, native32(0)))}
}

// ifSentHere matches packets that this host sends of itself: they came in by no interface (Linux 5.4; clients inside a VRF
// come in by that). It takes less than a look at the routing tables (ifFromThisHost).
func ifSentHere() statement {
	return statement{"iif 0", concat(meta(metaIIF, reg32), compare(reg32, cmpEq, native32(0)))}
}

// loadKey puts the key of set id into registers from reg32 on. Packet roles read the packet; session roles read the
// original tuple, with the interface that key names (incoming for one direction, outgoing for the other).
func loadKey(id setID, iface uint32) statement { return loadKeyAt(id, iface, reg32) }

// loadKeyAt is loadKey for registers from reg on.
func loadKeyAt(id setID, iface, reg uint32) statement {
	var texts []string
	var out []byte
	for _, f := range id.key() {
		text, load := loadField(id, f, iface, reg)
		texts = append(texts, text)
		out = append(out, load...)
		reg += uint32(pad4(id.dataType(f).size) / 4)
	}
	return statement{strings.Join(texts, " . "), out}
}

func loadField(id setID, f field, iface, reg uint32) (string, []byte) {
	switch f {
	case fieldDirection:
		return "ct direction", ct(ctDirection, -1, reg)
	case fieldInterface:
		if iface == metaOIFName {
			return "oifname", meta(iface, reg)
		}
		return "iifname", meta(iface, reg)
	case fieldTarget:
		if id.V6 {
			return "ct reply ip6 saddr", ct(ctSrcIP6, 1, reg)
		}
		return "ct reply ip saddr", ct(ctSrcIP, 1, reg)
	case fieldSlot:
		slot := id.draw(reg)
		return slot.text, slot.expr
	case fieldProtocol:
		return "meta l4proto", meta(metaL4Proto, reg)
	case fieldSourcePort:
		return id.network.String() + " sport", payload(payloadTransport, 0, 2, reg)
	case fieldPort:
		if id.role.perSession() {
			return "ct original proto-dst", ct(ctProtoDst, 0, reg)
		}
		return "th dport", payload(payloadTransport, 2, 2, reg)
	}
	text, load := loadAddr(id, f, reg)
	if f == fieldClient && !id.clients {
		if mask := prefixMask(id); mask != nil {
			maskAddr, _ := netip.AddrFromSlice(mask)
			return text + " & " + maskAddr.String(), concat(load, bitwise(reg, mask))
		}
	}
	return text, load
}

func loadAddr(id setID, f field, reg uint32) (string, []byte) {
	word, side := "saddr", 0
	if f == fieldAddr {
		word, side = "daddr", 1
	}
	size := uint32(id.dataType(f).size)
	family, offset, keys := "ip", uint32(12), [...]uint32{ctSrcIP, ctDstIP}
	if id.V6 {
		family, offset, keys = "ip6", 8, [...]uint32{ctSrcIP6, ctDstIP6}
	}
	if id.role.perSession() {
		return "ct original " + family + " " + word, ct(keys[side], 0, reg)
	}
	return family + " " + word, payload(payloadNetwork, offset+uint32(side)*size, size, reg)
}

// prefixMask is the mask of the client prefix, nil when the whole address counts.
func prefixMask(id setID) []byte {
	size := id.dataType(fieldClient).size
	if id.FromBits == size*8 {
		return nil
	}
	mask := make([]byte, size)
	for bit := range id.FromBits {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return mask
}

// translate looks the packet up in map id and rewrites its destination to what the map yields.
func translate(id setID) statement {
	key := loadKey(id, metaIIFName)
	family := "ip"
	if id.V6 {
		family = "ip6"
	}
	const natDNAT = 1 // NFT_NAT_DNAT
	nat := [][]byte{be32(1, natDNAT), be32(2, familyOf(id.V6)), be32(3, reg32)}
	text := "dnat " + family + " to "
	switch id.role {
	case roleDNAT:
		nat = append(nat, be32(5, reg32+uint32(id.dataType(fieldAddr).size/4)))
	case roleRedirect: // no address: the one that the client used stays
		nat = [][]byte{be32(1, natDNAT), be32(2, familyInet), be32(5, reg32), be32(7, rangeProtoSpecified)}
		text = "dnat to :"
	}
	return statement{text + key.text + " map @" + id.name(), concat(key.expr, lookupMap(id.name(), reg32, reg32), expr("nat", nat...))}
}

// ifMember matches what set id has.
func ifMember(id setID, iface uint32) statement {
	key := loadKey(id, iface)
	return statement{key.text + " @" + id.name(), concat(key.expr, lookupSet(id.name(), reg32))}
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
