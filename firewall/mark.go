package firewall

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// How other firewalls know Fairlead's sessions: a table of its own marks their packets just before those firewalls see them,
// and what is put into their chains is one rule, "marked: accept". That rule never changes, opens nothing by itself, and so
// does no harm where it is left behind.
//
//	prerouting: fairlead ── dnat ──► forward −10: a session of a forward? mark ──► forward 0: ufw … "marked" accept … drop
//
// A translated session is looked up by where its client sent it, as kernel/ does to count. It must have been translated, and
// have been sent to this host where the forward names no address, so that what only looks alike is not marked: what another
// program redirects on its way elsewhere. What is for the relay is looked up by where it arrives.
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
	groupLocal                   // no sessions: the addresses of this host
)

var groupNames = [...]string{"translated", "own", "routed", "local"}

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
	if id.group == groupLocal {
		return s
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

// compare puts the addresses of this host first: rules of the others refer to them.
func (id setID) compare(other setID) int {
	return cmp.Or(cmp.Compare(other.group, id.group), id.Shape.Compare(other.Shape))
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
	if id.group == groupLocal {
		return []field{id.addr()}
	}
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

func (o opening) add(id setID, s session) {
	if o[id] == nil {
		o[id] = map[session]bool{}
	}
	o[id][s] = true
}

// openingOf is the sessions of all forwards of a list.
func openingOf(list []*forward.Forward) opening {
	o := opening{}
	for _, f := range list {
		sessions(f, o.add)
	}
	return o
}

// locals is the addresses of this host, for those of sets that ask for them.
func locals(sets []setID, h Host) opening {
	o := opening{}
	for _, id := range sets {
		if !id.asksLocal() {
			continue
		}
		o.add(id.local(), session{key: string(loopback(id.V6).AsSlice())})
		for _, a := range h.Addrs {
			if a.Prefix.Addr().Is6() == id.V6 {
				o.add(id.local(), session{key: string(a.Prefix.Addr().AsSlice())})
			}
		}
	}
	return o
}

// asksLocal reports whether the sessions of id are those that were sent to whichever address of this host.
func (id setID) asksLocal() bool { return id.group == groupTranslated && !id.ByAddr }

func (id setID) local() setID { return setID{groupLocal, forward.Shape{V6: id.V6}} }

func loopback(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

func (o opening) sets() []setID { return slices.SortedFunc(maps.Keys(o), setID.compare) }

// minus is what o has and p has not.
func (o opening) minus(p opening) opening {
	out := opening{}
	for id, list := range o {
		for s := range list {
			if !p[id][s] {
				out.add(id, s)
			}
		}
	}
	return out
}
