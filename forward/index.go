package forward

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// An Index finds the forward that a packet belongs to, the most specific first, and refuses two forwards that claim the
// same traffic. The zero Index is empty and ready; concurrent reads are safe, writes are not.
type Index struct {
	fields     map[fieldKey]*field
	last       [2]lastField         // by V6: neighbours in a file often differ in the port alone
	exact      map[portKey]*Forward // PortExact
	named      map[portKey]*names   // PortExact with a host
	shapes     map[Shape]int        // fields of each shape
	order      []Shape              // the keys of shapes, the most specific first
	interfaces map[string]int       // fields of each interface
}

// A fieldKey is a claim but for its port. A field is who owns which port of it.
type fieldKey struct {
	Shape
	network Networks
	from    netip.Prefix
	addr    netip.Addr
	iface   string
}

type field struct {
	claims int
	ranges []owned  // PortRange: ascending, disjoint
	all    *Forward // PortAll
}

// A lastField is the one that was written last.
type lastField struct {
	key   fieldKey
	field *field
}

type portKey struct {
	field *field
	port  uint16
}

type owned struct {
	Range
	f *Forward
}

// A TieError says that two forwards claim the same traffic, so that neither is more specific.
type TieError struct {
	Name, Other string // the forward that was refused, and the one that was there first
	Claim       Claim  // what both ask for
	Reason      string // why they cannot share it although they call for different names; "": they are for the same
}

func (e *TieError) Error() string {
	at := "*"
	if !e.Claim.Range.IsZero() {
		at = e.Claim.Range.String()
	}
	if e.Reason != "" {
		return fmt.Sprintf("forwards %q and %q cannot share %s port %s: %s", e.Other, e.Name, e.Claim.Network, at, e.Reason)
	}
	if e.Claim.Host != "" {
		at += " for " + e.Claim.Host
	}
	return fmt.Sprintf("forwards %q and %q claim the same traffic: %s port %s", e.Other, e.Name, e.Claim.Network, at)
}

// Add enters f, or returns a *TieError and leaves the index as it was.
func (x *Index) Add(f *Forward) error {
	entered := 0
	for c := range f.Claims {
		if other, reason := x.owner(f, c); other != nil {
			x.remove(f, entered)
			return &TieError{Name: f.Name, Other: other.Name, Claim: c, Reason: reason}
		}
		x.enter(f, c)
		entered++
	}
	return nil
}

// owner is who keeps f from a claim, nil if nobody does, and why where that is not the claim itself.
func (x *Index) owner(f *Forward, c Claim) (other *Forward, reason string) {
	d := x.find(keyOf(c))
	if d == nil {
		return nil, ""
	}
	if other, reason = x.namesake(d, f, c); other != nil {
		return other, reason
	}
	if c.Host != "" {
		return nil, ""
	}
	return x.ownerIn(d, c.Ports, c.Range), ""
}

func (x *Index) enter(f *Forward, c Claim) {
	k := keyOf(c)
	d := x.find(k)
	if d == nil {
		if x.fields == nil {
			x.fields, x.exact = map[fieldKey]*field{}, map[portKey]*Forward{}
			x.shapes, x.interfaces = map[Shape]int{}, map[string]int{}
		}
		d = new(field)
		x.fields[k] = d
		x.count(c.Shape, 1)
		if c.ByInput {
			x.interfaces[c.Interface]++
		}
	}
	x.last[b2i(k.V6)] = lastField{k, d}
	d.claims++
	switch {
	case c.Host != "":
		x.enterName(portKey{d, c.Range.First}, c.Host, f)
	case c.Ports == PortExact:
		x.exact[portKey{d, c.Range.First}] = f
	case c.Ports == PortRange:
		at, _ := searchRange(d.ranges, c.Range)
		d.ranges = slices.Insert(d.ranges, at, owned{c.Range, f})
	default:
		d.all = f
	}
}

// find looks at the field that was written last first.
func (x *Index) find(k fieldKey) *field {
	if last := &x.last[b2i(k.V6)]; last.field != nil && last.key == k {
		return last.field
	}
	return x.fields[k]
}

// Remove takes f out again. f must be a forward that Add took.
func (x *Index) Remove(f *Forward) { x.remove(f, -1) }

// remove takes the first n claims of f out, or all where n is negative.
func (x *Index) remove(f *Forward, n int) {
	for c := range f.Claims {
		if n == 0 {
			return
		}
		n--
		k := keyOf(c)
		d := x.find(k)
		switch {
		case c.Host != "":
			x.removeName(portKey{d, c.Range.First}, c.Host)
		case c.Ports == PortExact:
			delete(x.exact, portKey{d, c.Range.First})
		case c.Ports == PortRange:
			at, _ := searchRange(d.ranges, c.Range)
			d.ranges = slices.Delete(d.ranges, at, at+1)
		default:
			d.all = nil
		}
		if d.claims--; d.claims > 0 {
			continue
		}
		delete(x.fields, k)
		x.last[b2i(k.V6)] = lastField{}
		x.count(c.Shape, -1)
		if c.ByInput {
			if x.interfaces[c.Interface]--; x.interfaces[c.Interface] == 0 {
				delete(x.interfaces, c.Interface)
			}
		}
	}
}

// A Packet is the first of a session, as far as forwards tell packets apart.
type Packet struct {
	Network   Networks // TCP or UDP
	Client    netip.Addr
	Addr      netip.Addr // the address that the client used
	Local     bool       // Addr is an address of this host
	Port      uint16
	Interface string // where it came in; "" is not known, and then any interface matches
	Called    bool   // the client has said whom it calls; before that, any forward with names stands for all of its port
	Host      string // whom, as NameCalled has it; "" is nobody by name
}

// Match returns the forward that p belongs to, or nil.
func (x *Index) Match(p Packet) *Forward {
	for f := range x.Candidates(p) {
		return f
	}
	return nil
}

// Candidates yields every forward that would take p, the most specific first: what comes after the first would take p if
// those before it were gone.
func (x *Index) Candidates(p Packet) iter.Seq[*Forward] {
	return func(yield func(*Forward) bool) {
		p.Client, p.Addr = p.Client.Unmap(), p.Addr.Unmap().WithZone("")
		for _, s := range x.order {
			if s.V6 != p.Client.Is6() || !s.ByAddr && !p.Local {
				continue
			}
			from, err := p.Client.WithZone("").Prefix(s.FromBits)
			if err != nil {
				continue
			}
			k := fieldKey{Shape: s, network: p.Network, from: from}
			if s.ByAddr {
				k.addr = p.Addr
			}
			if !x.eachInterface(k, p, yield) {
				return
			}
		}
	}
}

func (x *Index) eachInterface(k fieldKey, p Packet, yield func(*Forward) bool) bool {
	offer := func(iface string) bool {
		k.iface = iface
		d := x.fields[k]
		if d == nil {
			return true
		}
		if k.Ports == PortExact && !x.eachName(portKey{d, p.Port}, p, yield) {
			return false
		}
		f := x.ownerIn(d, k.Ports, Range{p.Port, p.Port})
		return f == nil || !f.Admits(p.Client) || yield(f)
	}
	switch {
	case !k.ByInput:
		return offer("")
	case p.Interface != "":
		return offer(p.Interface)
	}
	for iface := range x.interfaces {
		if !offer(iface) {
			return false
		}
	}
	return true
}

// ownerIn is who has a port of r in d, if anybody.
func (x *Index) ownerIn(d *field, kind PortKind, r Range) *Forward {
	switch kind {
	case PortExact:
		return x.exact[portKey{d, r.First}]
	case PortAll:
		return d.all
	}
	if at, found := searchRange(d.ranges, r); found {
		return d.ranges[at].f
	}
	return nil
}

// searchRange finds the range of list that overlaps r, or the place where r belongs.
func searchRange(list []owned, r Range) (int, bool) {
	return slices.BinarySearchFunc(list, r, func(o owned, r Range) int {
		switch {
		case o.Last < r.First:
			return -1
		case o.First > r.Last:
			return 1
		}
		return 0
	})
}

// count adds n to the fields of shape s, and keeps order in step.
func (x *Index) count(s Shape, n int) {
	before := x.shapes[s]
	x.shapes[s] = before + n
	at, _ := slices.BinarySearchFunc(x.order, s, Shape.Compare)
	switch {
	case before == 0:
		x.order = slices.Insert(x.order, at, s)
	case before+n == 0:
		delete(x.shapes, s)
		x.order = slices.Delete(x.order, at, at+1)
	}
}

func keyOf(c Claim) fieldKey {
	return fieldKey{Shape: c.Shape, network: c.Network, from: c.From, addr: c.Addr, iface: c.Interface}
}
