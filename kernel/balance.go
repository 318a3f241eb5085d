package kernel

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// A spread is how the sessions of a forward are dealt to several targets; the zero value is one target, and no dealing.
//
// The rule of a balanced set draws a number, the slot, and the set has an element for each slot of each forward. How many
// slots there are is the rule's to say, so forwards with as many targets share a set and a rule, and shares are exact; one
// number of slots for all could not be: no number of a sensible size is divisible by every number of targets.
//
//   - source: the slot is a hash of the client's address, one for each target. The seed is fixed, so that a client finds its
//     target again after a restart of the daemon or the host.
//   - round-robin: the slot is a counter. nftables has counters of rules and none of elements, so the forwards of a set share
//     one. Plain turns would then be a trap: a browser that visits :80 of one forward and is sent on to :443 of another
//     moves the counter by two each time, and with two targets each forward would always lead to the same one. Random slots
//     are free of that, but whoever opens four sessions to two targets and finds them 4:0 is right to ask what "in turn"
//     means. So the order of the turns changes from round to round (see target): every round has every target once, and
//     so, in time, has every second, third or fourth session. Other programs' ports do not move the counter, because a
//     rule asks first whether its forwards are meant at all (roleMembers).
//
// The kernel does not know whether a target answers, so one that is down keeps its share.
type spread struct {
	balance forward.Balance
	targets int
}

// hashSeed is the seed of the hash over client addresses. Another number would send every client to another target.
const hashSeed = 0x666c

func spreadOf(f *forward.Forward) spread {
	if len(f.To) < 2 {
		return spread{}
	}
	return spread{f.Balance, len(f.To)}
}

// draws reports whether there is a slot at all.
func (s spread) draws() bool { return s.targets > 1 }

// counts reports whether drawing a slot moves a counter.
func (s spread) counts() bool { return s.draws() && s.balance == forward.BalanceRoundRobin }

// slots is the number of elements for each key, 1 without balance.
func (s spread) slots() int {
	switch {
	case !s.draws():
		return 1
	case s.counts():
		return forward.Turns(s.targets)
	}
	return s.targets
}

// target is the place, in the forward's list, of the target that slot leads to. For round-robin it is the sum of slot's
// digits to the base of the number of targets (the Thue–Morse sequence and its like: A B B A B A A B). Each round of as
// many slots has every target once. So has each round of every n-th slot, n being the number of targets: the last digit is
// then the same, and the one before goes round. Strides without a factor in common with n pass through all slots anyway.
func (s spread) target(slot int) int {
	if !s.counts() {
		return slot
	}
	sum := 0
	for ; slot > 0; slot /= s.targets {
		sum += slot % s.targets
	}
	return sum % s.targets
}

// suffix is the part of a set's name that tells the spread.
func (s spread) suffix() string {
	switch {
	case !s.draws():
		return ""
	case s.counts():
		return fmt.Sprintf("_turns%d", s.targets)
	}
	return fmt.Sprintf("_hash%d", s.targets)
}

// draw writes the number of a slot into reg, in the order that the set's keys have it.
func (id setID) draw(reg uint32) statement {
	drawn := id.drawNative(reg)
	if id.interval() {
		const hton = 1 // NFT_BYTEORDER_HTON
		drawn.expr = concat(drawn.expr, expr("byteorder", be32(1, reg), be32(2, reg), be32(3, hton), be32(4, 4), be32(5, 4)))
	}
	return drawn
}

// drawNative writes the number in the host's order. A hash reads the client's address into the registers from reg on first;
// the key's later fields then take its place. (nft(8) 1.0.6 keeps both, and so has no registers left to load the text of a
// rule for IPv6, balance = "source" and two of from, an address and an interface.)
func (id setID) drawNative(reg uint32) statement {
	n := uint32(id.spread.slots())
	if id.spread.counts() {
		const incremental = 0 // NFT_NG_INCREMENTAL
		return statement{fmt.Sprintf("numgen inc mod %d", n), expr("numgen", be32(1, reg), be32(2, n), be32(3, incremental), be32(4, 0))}
	}
	family, offset := "ip", uint32(12)
	if id.V6 {
		family, offset = "ip6", 8
	}
	size := uint32(id.dataType(fieldClient).size)
	const jenkins = 0 // NFT_HASH_JENKINS
	return statement{fmt.Sprintf("jhash %s saddr mod %d seed 0x%x", family, n, hashSeed),
		concat(payload(payloadNetwork, offset, size, reg), expr("hash", be32(1, reg), be32(2, reg), be32(3, size),
			be32(4, n), be32(5, hashSeed), be32(6, 0), be32(7, jenkins)))}
}

// slotOrder is the byte order of slots in keys: the host's, as numbers are drawn, but big endian among ranges, which the
// kernel compares byte by byte.
func (id setID) slotOrder() interface {
	binary.ByteOrder
	binary.AppendByteOrder
} {
	if id.interval() {
		return binary.BigEndian
	}
	return binary.NativeEndian
}

// hasMembers reports whether the rule of map id moves a counter or attaches a helper before it looks there: then another set
// says first whether its forwards are meant at all.
func (id setID) hasMembers() bool { return id.spread.counts() || id.helper != forward.HelperNone }

// members is that other set.
func (id setID) members() setID {
	id.role, id.each = roleMembers, false
	return id
}

// typeOf is an expression whose type a field has, in the language of nft(8) and as the user data that it keeps with a set.
// A slot is an integer, for which that language has no name: such sets are declared by expressions. nft(8) 1.0.6 does not
// survive listing a set that was declared by a hash, so those say "numgen", which has the same type.
func (id setID) typeOf(f field) statement {
	const exprPayload, exprMeta, exprNumgen = 7, 9, 23 // nft's enum expr_types
	meta := func(text string, key uint32) statement { return statement{text, typeRecord(exprMeta, key)} }
	switch f {
	case fieldSlot:
		n := id.spread.slots()
		return statement{fmt.Sprintf("numgen inc mod %d", n), typeRecord(exprNumgen, 0, uint32(n), 0)}
	case fieldInterface:
		return meta("iifname", metaIIFName)
	case fieldProtocol:
		return meta("meta l4proto", metaL4Proto)
	case fieldPort:
		desc := uint32(8) // PROTO_DESC_TCP
		if id.network == forward.UDP {
			desc = 6 // PROTO_DESC_UDP
		}
		return statement{id.network.String() + " dport", typeRecord(exprPayload, desc, 2 /* TCPHDR_DPORT, UDPHDR_DPORT */)}
	}
	text, desc, member := "ip", uint32(12) /* PROTO_DESC_IP */, uint32(11) /* IPHDR_SADDR */
	if id.V6 {
		text, desc, member = "ip6", 13 /* PROTO_DESC_IP6 */, 8 /* IP6HDR_SADDR */
	}
	if f == fieldClient {
		return statement{text + " saddr", typeRecord(exprPayload, desc, member)}
	}
	return statement{text + " daddr", typeRecord(exprPayload, desc, member+1)}
}

// userData is what nft(8) keeps with a set that is declared by expressions, so that it can list it: records of one byte for
// the type and one for the length (its enum nftnl_udata_set_types).
func (id setID) userData() []byte {
	const keyByteOrder, dataByteOrder, keyType, dataType, dataInterval = 0, 1, 3, 4, 6
	return slices.Concat(
		record(keyByteOrder, native32(id.byteOrder(id.key()))), record(dataByteOrder, native32(id.byteOrder(id.data()))),
		record(keyType, id.typesOf(id.key())), record(dataType, id.typesOf(id.data())), record(dataInterval, native32(0)))
}

// byteOrder is nft's enum byteorder: 0 for a concatenation, 1 for the host's, 2 for big endian.
func (id setID) byteOrder(fields []field) uint32 {
	switch {
	case len(fields) > 1:
		return 0
	case fields[0] == fieldSlot:
		return 1
	}
	return 2
}

func (id setID) typesOf(fields []field) []byte {
	if len(fields) == 1 {
		return id.typeOf(fields[0]).expr
	}
	const exprConcat = 13
	var list []byte
	for i, f := range fields {
		list = append(list, record(byte(i), id.typeOf(f).expr)...)
	}
	return slices.Concat(record(0, native32(exprConcat)), record(1, list))
}

// typeRecord is one expression: its kind and its attributes, numbered from 0.
func typeRecord(kind uint32, values ...uint32) []byte {
	var list []byte
	for i, v := range values {
		list = append(list, record(byte(i), native32(v))...)
	}
	return slices.Concat(record(0, native32(kind)), record(1, list))
}

func record(kind byte, value []byte) []byte { return append([]byte{kind, byte(len(value))}, value...) }
