package kernel

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A role is what a set is for. The packet roles are looked up once a session, by the headers of its first packet; the
// session roles are looked up by the tuple that conntrack keeps, so that they mean the same after the packet was rewritten.
type role uint8

const (
	roleDNAT     role = iota // packet: to another address and port
	roleDNATAddr             // packet: to another address, the port stays
	roleRedirect             // packet: to another port of this host, the address stays
	roleHold                 // packet: the relay listens there; leave it alone
	roleMembers              // packet: what a map is for whose rule does something before it looks there
	roleCount                // session: counts bytes, by direction
	rolePassed               // session: the same for pinholes, whose sessions are not translated
	roleKeep                 // session: never rewrite the source
	roleAuto                 // session: rewrite the source where replies would miss this host
	roleRewrite              // session: always rewrite the source

	// Of the gateway's table.
	rolePinhole  // packet: let it in
	roleOutbound // packet: from which port what a target sends from its own leaves
	roleClaimed  // packet: ports that are a forward's, so that nobody else's traffic leaves from them
	roleMapped   // packet: from which port an internal address and port leaves; learned
	roleOwner    // packet: whose an external port is; learned
	roleSpoken   // packet: who has sent something out, where nothing is translated; learned
	roleDrawn    // packet: external ports that somebody took a moment ago; learned
	roleAwaited  // packet: whom a program waits for at a port that nobody knew beforehand; see Gateway.Admit
)

var roleNames = [...]string{"dnat", "dnataddr", "redirect", "hold", "members", "count", "passed", "keep", "auto", "rewrite",
	"pinhole", "outbound", "claimed", "mapped", "owner", "spoken", "drawn", "awaited"}

// perSession reports whether r is looked up by the session rather than by the packet.
func (r role) perSession() bool { return r >= roleCount && r <= roleRewrite }

// learned reports whether sets of r are filled by what happens and not by what is configured: what is there is forgotten with time.
func (r role) learned() bool { return r >= roleMapped }

// ownsRule reports whether each set of r has a rule of its own among those for packets.
func (r role) ownsRule() bool { return r < roleMembers }

// decidesSource reports whether r is for a rule about the source address.
func (r role) decidesSource() bool { return r >= roleKeep && r <= roleRewrite }

// A setID names one nftables set or map: everything that decides its layout and the rule that looks it up.
type setID struct {
	role role
	forward.Shape
	network forward.Networks // one: nft(8) wants rules that deal with ports to name their protocol
	clients bool             // the client is matched as an address range (what except leaves of from), not as a prefix
	each    bool             // a range that is shifted has an element for each port
	spread  spread           // how one of several targets is picked; zero but for maps and their members
	helper  forward.Helper   // that the rule attaches; none but for maps and their members
}

// compare gives sets one order: the order in which their rules stand.
func (id setID) compare(other setID) int {
	return cmp.Or(
		id.Shape.Compare(other.Shape),
		cmp.Compare(id.role, other.role),
		cmp.Compare(id.network, other.network),
		compareBool(id.clients, other.clients),
		compareBool(id.each, other.each),
		cmp.Compare(id.spread.balance, other.spread.balance),
		cmp.Compare(id.spread.targets, other.spread.targets),
		cmp.Compare(id.helper, other.helper),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// name is the set's name in the kernel. It spells the ID, so that a reader of "nft list" can tell what it is for.
func (id setID) name() string {
	var b strings.Builder
	b.WriteString(roleNames[id.role])
	b.WriteByte(id.version())
	b.WriteString("_" + id.network.String())
	if id.role >= roleOutbound {
		return b.String()
	}
	if id.FromBits > 0 {
		fmt.Fprintf(&b, "_from%d", id.FromBits)
	}
	if id.clients {
		b.WriteString("_except")
	}
	if id.ByAddr {
		b.WriteString("_addr")
	}
	if id.ByInput {
		b.WriteString("_if")
	}
	b.WriteString([...]string{"_port", "_range", "_all"}[id.Ports])
	if id.each {
		b.WriteString("_each")
	}
	b.WriteString(id.spread.suffix())
	if id.helper != forward.HelperNone {
		b.WriteString("_" + id.helper.String())
	}
	return b.String()
}

func (id setID) version() byte {
	if id.V6 {
		return '6'
	}
	return '4'
}

// interval reports whether keys of the set are ranges.
func (id setID) interval() bool { return id.clients || id.Ports == forward.PortRange && !id.each }

// counts reports whether each element of the set has a counter: sessions in the maps, bytes in roleCount.
func (id setID) counts() bool {
	return id.translates() || id.role == roleCount || id.role == rolePassed
}

// translates reports whether the set says where sessions are led to.
func (id setID) translates() bool { return id.role <= roleRedirect }

func (id setID) isMap() bool {
	return id.translates() || id.role == roleOutbound || id.role == roleMapped || id.role == roleOwner
}

// A field is one part of a key or of a map's data.
type field uint8

const (
	fieldDirection field = iota // ip_conntrack_dir: 0 from the client, 1 from the target
	fieldClient
	fieldAddr
	fieldInterface
	fieldProtocol
	fieldPort
	fieldSourcePort
	fieldTarget
	fieldSlot // drawn by the rule: which of several targets
)

// capacity is how many elements set id is declared to hold when it is made for n, 0 where that is left open. A set that knows
// takes its elements in half the time; one that becomes too small is made anew (ENFILE).
func (id setID) capacity(n int) int {
	const many = 1024
	switch {
	case id.role.learned():
		return allPorts
	case n < many || id.interval():
		return 0
	case id.role == roleOutbound || id.role == roleClaimed:
		return allPorts
	}
	return 2 << bits.Len(uint(n))
}

// maxFields is more than any key has.
const maxFields = 8

// key is the parts of the set's key in order. The protocol is the rule's to match; it only fills a key that would be empty,
// a range of a single part, which the kernel knows another way to write, and a port alone in a set: that the kernel keeps in a
// bitmap, whose elements it looks through one by one whenever one comes or goes.
func (id setID) key() []field { return id.appendKey(make([]field, 0, maxFields)) }

// appendKey is apart from key so that the list can stay on the stack of who asks: it is asked for every element.
func (id setID) appendKey(out []field) []field {
	switch id.role {
	case roleOutbound, roleMapped, roleSpoken:
		return append(out, fieldClient, fieldSourcePort)
	case roleOwner, roleDrawn:
		return append(out, fieldSourcePort)
	case roleAwaited:
		return append(out, fieldClient, fieldAddr, fieldPort)
	case roleClaimed: // the protocol only fills the key, as below; a mask goes into the first part
		return append(out, fieldSourcePort, fieldProtocol)
	case roleCount, rolePassed:
		out = append(out, fieldDirection)
	}
	if id.FromBits > 0 || id.clients {
		out = append(out, fieldClient)
	}
	if id.translates() && id.spread.draws() { // after the client: nft(8) takes a mask in the first part of a key alone
		out = append(out, fieldSlot)
	}
	if id.ByAddr {
		out = append(out, fieldAddr)
	}
	if id.ByInput {
		out = append(out, fieldInterface)
	}
	if id.Ports != forward.PortAll {
		out = append(out, fieldPort)
	}
	if id.role.decidesSource() { // so that a session that another program translated is not taken for one of ours
		out = append(out, fieldTarget)
	}
	bitmap := !id.isMap() && len(out) == 1 && out[0] == fieldPort
	if len(out) == 0 || bitmap || id.interval() && len(out) == 1 {
		out = slices.Insert(out, 0, fieldProtocol)
	}
	return out
}

// data is the parts of what the map yields, none for a set.
func (id setID) data() []field {
	switch id.role {
	case roleDNAT, roleOwner:
		return dataAddrPort[:]
	case roleDNATAddr:
		return dataAddrPort[:1]
	case roleRedirect, roleOutbound, roleMapped:
		return dataAddrPort[1:]
	}
	return nil
}

var dataAddrPort = [...]field{fieldAddr, fieldPort}

// A dataType is a type of nftables: its name in the language, its number in netlink (nft's enum datatypes) and its size.
type dataType struct {
	name   string
	number uint32
	size   int // bytes
}

func (id setID) dataType(f field) dataType {
	switch f {
	case fieldDirection:
		return dataType{"ct_dir", 27, 1}
	case fieldInterface:
		return dataType{"ifname", 41, 16}
	case fieldProtocol:
		return dataType{"inet_proto", 12, 1}
	case fieldPort, fieldSourcePort:
		return dataType{"inet_service", 13, 2}
	case fieldSlot:
		return dataType{"integer", 4, 4}
	}
	if id.V6 {
		return dataType{"ipv6_addr", 8, 16}
	}
	return dataType{"ipv4_addr", 7, 4}
}

// width is the bytes that fields take in registers and concatenated keys, each padded to four.
func (id setID) width(fields []field) int {
	n := 0
	for _, f := range fields {
		n += pad4(id.dataType(f).size)
	}
	return n
}

func pad4(n int) int { return (n + 3) &^ 3 }

// size is the length of a key or of a map's data: a single field is not padded.
func (id setID) size(fields []field) int {
	if len(fields) == 1 {
		return id.dataType(fields[0]).size
	}
	return id.width(fields)
}

// trim cuts the padding that a single field does not have in netlink.
func (id setID) trim(fields []field, value []byte) []byte { return value[:id.size(fields)] }

// A counterClass is what a counting element counts.
type counterClass uint8

const (
	countsNothing counterClass = iota
	countsSessions
	countsIn
	countsOut
	countClasses = iota
)

// class is what the element of the set with this key counts.
func (id setID) class(key []byte) counterClass {
	switch {
	case id.translates():
		return countsSessions
	case !id.counts():
		return countsNothing
	case key[0] == directionOriginal: // fieldDirection comes first
		return countsIn
	}
	return countsOut
}
