package firewall

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// How other firewalls know Fairlead's sessions: a table of its own marks their packets just before those firewalls see them,
// and what is put into their chains is one rule, "marked: accept". That rule never changes, opens nothing by itself, and so
// does no harm where it is left behind.
//
//	prerouting: fairlead ── dnat ──► forward −10: a session of a forward? mark ──► forward 0: ufw … "marked" accept … drop
//
// A session is looked up by where its client sent it, as kernel/ does to count; those that were translated must have been,
// so that what only looks alike is not marked.
const (
	// Mark is the one bit of a packet's mark (fwmark) that is used, in the hooks input and forward; the others are left as
	// they are. Routing is over by then. Neighbours have users: 0x80 kernel.KeepMark, 0x2000 podman, 0x4000 and 0x8000
	// Kubernetes, 0x3f00 mwan3, 0xff0000 Tailscale.
	Mark = 0x40
	// MarkTable is the name of that table, of family inet.
	MarkTable = "fairlead_coexist"

	// priorityMark is before the filters of all others (filter is 0).
	priorityMark = -10
)

// A group is how packets of a forward come to this host.
type group uint8

const (
	groupTranslated group = iota // by the kernel's carrier: routed on, or to a program here
	groupOwn                     // to a listener of the relay
	groupRouted                  // routed on as they are
)

var groupNames = [...]string{"translated", "own", "routed"}

// A setID is which sessions a set of the table has, and how they are looked up.
type setID struct {
	group group
	forward.Shape
}

func (id setID) name() string {
	s := groupNames[id.group] + "4"
	if id.V6 {
		s = groupNames[id.group] + "6"
	}
	if id.FromBits > 0 {
		s += fmt.Sprintf("_from%d", id.FromBits)
	}
	if id.ByAddr {
		s += "_addr"
	}
	if id.ByInput {
		s += "_in"
	}
	return s + [...]string{"_port", "_range", "_all"}[id.Ports]
}

func (id setID) compare(other setID) int {
	return cmp.Or(cmp.Compare(id.group, other.group), id.Shape.Compare(other.Shape))
}

// A field is one part of a key: what the kernel loads for it, and its data type as nft(8) numbers them.
type field struct {
	size     int
	dataType uint32
}

var (
	fieldAddr4     = field{4, 7}
	fieldAddr6     = field{16, 8}
	fieldInterface = field{16, 41}
	fieldProtocol  = field{1, 12}
	fieldPort      = field{2, 13}
)

func (id setID) addr() field {
	if id.V6 {
		return fieldAddr6
	}
	return fieldAddr4
}

func (id setID) fields() (out []field) {
	if id.FromBits > 0 {
		out = append(out, id.addr())
	}
	if id.ByAddr {
		out = append(out, id.addr())
	}
	if id.ByInput {
		out = append(out, fieldInterface)
	}
	out = append(out, fieldProtocol)
	if id.Ports != forward.PortAll {
		out = append(out, fieldPort)
	}
	return out
}

// keyLen is how long a key is: fields are padded to four bytes where there are several.
func (id setID) keyLen() (n int) {
	fields := id.fields()
	if len(fields) == 1 {
		return fields[0].size
	}
	for _, f := range fields {
		n += pad4(f.size)
	}
	return n
}

// A session is an element of a set: one key, or all up to another.
type session struct{ key, last string }

// sessions calls yield for every element that f needs.
func sessions(f *forward.Forward, yield func(setID, session)) {
	for c := range f.Claims {
		id := setID{groupOwn, c.Shape}
		if f.Carry == forward.CarryKernel {
			if id.group = groupTranslated; f.IsPinhole() {
				id.group = groupRouted
			}
			if !f.IsPinhole() && f.To[0].Addr.IsValid() && f.To[0].Addr.Is6() != c.V6 {
				continue // that family's clients are not the kernel's
			}
		}
		first, last := id.key(c, c.Range.First), ""
		if id.Ports == forward.PortRange {
			last = string(id.key(c, c.Range.Last))
		}
		yield(id, session{string(first), last})
	}
}

func (id setID) key(c forward.Claim, port uint16) []byte {
	var b []byte
	add := func(part []byte) {
		b = append(b, part...)
		b = append(b, make([]byte, pad4(len(b))-len(b))...)
	}
	if id.FromBits > 0 {
		add(c.From.Masked().Addr().AsSlice())
	}
	if id.ByAddr {
		add(c.Addr.AsSlice())
	}
	if id.ByInput {
		add(padded(c.Interface, 16))
	}
	proto := byte(protoTCP)
	if c.Network == forward.UDP {
		proto = protoUDP
	}
	add([]byte{proto})
	if id.Ports != forward.PortAll {
		add(binary.BigEndian.AppendUint16(nil, port))
	}
	return b[:id.keyLen()]
}

// An opening is the sessions that are marked: the elements of each set.
type opening map[setID]map[session]bool

func newOpening(list []*forward.Forward) opening {
	o := opening{}
	for _, f := range list {
		sessions(f, func(id setID, s session) {
			if o[id] == nil {
				o[id] = map[session]bool{}
			}
			o[id][s] = true
		})
	}
	return o
}

func (o opening) sets() []setID {
	out := make([]setID, 0, len(o))
	for id := range o {
		out = append(out, id)
	}
	slices.SortFunc(out, setID.compare)
	return out
}

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
	if id.group == groupOwn && hook != Input || id.group == groupRouted && hook != Forward {
		return nil
	}
	family := byte(familyIPv4)
	if id.V6 {
		family = familyIPv6
	}
	prefix := concat(exprMeta(metaNFProto, reg32), exprCompare(reg32, cmpEq, []byte{family}))
	if id.group == groupTranslated {
		prefix = append(prefix, concat(expr("ct", u32Attr(2, ctStatus), u32Attr(1, reg32)),
			exprBitwise(reg32, native32(statusDstNAT), native32(0)), exprCompare(reg32, cmpNeq, native32(0)))...)
	}
	look := func(iface uint32) []byte {
		return concat(prefix, id.load(iface), expr("lookup", strAttr(1, id.name()), u32Attr(2, reg32)), exprSetMark(), exprAccept())
	}
	if !id.ByInput {
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

// load puts the key into registers from reg32 on.
func (id setID) load(iface uint32) (out []byte) {
	reg := uint32(reg32)
	src, dst := uint32(ctSrcIP), uint32(ctDstIP)
	if id.V6 {
		src, dst = ctSrcIP6, ctDstIP6
	}
	size := id.addr().size
	if id.FromBits > 0 {
		mask := make([]byte, size)
		for bit := range id.FromBits {
			mask[bit/8] |= 0x80 >> (bit % 8)
		}
		out = append(out, exprOriginal(src, reg)...)
		out = append(out, exprBitwise(reg, mask, make([]byte, size))...)
		reg += uint32(size / 4)
	}
	if id.ByAddr {
		out = append(out, exprOriginal(dst, reg)...)
		reg += uint32(size / 4)
	}
	if id.ByInput {
		out = append(out, exprMeta(iface, reg)...)
		reg += 4
	}
	out = append(out, exprMeta(metaL4Proto, reg)...)
	reg++
	if id.Ports != forward.PortAll {
		out = append(out, exprOriginal(ctProtoDst, reg)...)
	}
	return out
}

// interval reports whether elements are ranges: those with ports are.
func (id setID) interval() bool { return id.Ports == forward.PortRange }
