package kernel

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// DefaultGatewayTable is the name of the nftables table in which this host is a gateway, of family inet. It is not the
// table of forwards, so that what is wrong with one of them never stops the other.
const DefaultGatewayTable = "fairlead_gateway"

// gatewayLayout is the version of the structure of the gateway's table, and stands in its comment.
const (
	gatewayLayoutPrefix = "fairlead gateway layout "
	gatewayLayout       = gatewayLayoutPrefix + "1"
)

// GatewayOptions says what a Gateway works on.
type GatewayOptions struct {
	Table    string       // name of its nftables table (family inet); "" is DefaultGatewayTable
	Ledger   *Ledger      // shared with others of this process that change nftables; nil: with nobody
	StateDir string       // where it notes which settings of the kernel it has changed; "": nowhere, and they are restored by the same process only
	Log      *slog.Logger // nil: nothing is logged
}

// A gatewayPlan is what makes the rules of a gateway, apart from the forwards.
//
// The order of translations is that of the chains' priorities: the kernel asks one after the other until one has translated
// the session, and "accept" only ends a chain. Forwards come first both ways (-110 and 90), so that a forward decides whose
// address its target sees, and what its target sends back is not looked at again; the gateway's own follow (95), then other
// tables' (100). What nothing else claims comes after all of them (-90), and who calls a lease from the LAN before (85).
type gatewayPlan struct {
	spec *forward.Gateway
	open []forward.Listen
}

func (p *gatewayPlan) equal(q *gatewayPlan) bool {
	return p.spec.Equal(q.spec) && slices.EqualFunc(p.open, q.open, forward.Listen.Equal)
}

func newGatewayPlan(spec *forward.Gateway, open []forward.Listen) *gatewayPlan {
	return &gatewayPlan{spec: spec, open: slices.DeleteFunc(slices.Concat(spec.Open, open), forward.Listen.IsUnix)}
}

// nat is how what leaves by the WAN is translated, where translates says so.
func (p *gatewayPlan) nat(v6 bool) sourceNAT {
	for _, addr := range p.spec.SNAT {
		if addr.Is6() == v6 {
			return sourceNAT{v6, addr}
		}
	}
	return sourceNAT{v6: v6}
}

// translates reports whether packets of the family are translated. IPv6 is for a good reason only: an address to show.
func (p *gatewayPlan) translates(v6 bool) bool {
	return p.nat(v6).addr.IsValid() || p.spec.Masquerade && !v6
}

// filters reports whether anything is dropped.
func (p *gatewayPlan) filters() bool { return p.spec.Protect || len(p.spec.DMZ) > 0 }

// learnedSets is the sets that are always there.
func (p *gatewayPlan) learnedSets() (out []setID) {
	if p.filters() {
		out = append(out, gatewaySet(roleAwaited, false, forward.TCP), gatewaySet(roleAwaited, true, forward.TCP))
	}
	if !p.spec.Independent {
		return out
	}
	p.transports(true, func(t setID) {
		out = append(out, gatewaySet(roleMapped, t.V6, t.network), gatewaySet(roleOwner, t.V6, t.network), gatewaySet(roleDrawn, t.V6, t.network))
	})
	p.transports(false, func(t setID) {
		if p.filters() {
			out = append(out, gatewaySet(roleSpoken, t.V6, t.network))
		}
	})
	return out
}

// maxClaimed is the most ports of one forward that are kept from being drawn for other sessions; those of a longer list or
// range may be.
const maxClaimed = 4096

// compile calls yield for every element that f has in the gateway's table. Elements of different forwards may have the same
// key where roles say whose a port is: two leases for one internal port, one port at two addresses.
func (p *gatewayPlan) compile(f *forward.Forward, yield func(element)) {
	if f.ListensAt() != forward.Host || f.Listen.IsUnix() {
		return
	}
	if p.filters() && !f.Disabled {
		p.compileHoles(f, yield)
	}
	for _, v6 := range []bool{false, true} {
		listens := !f.Listen.Addr.IsValid() || f.Listen.Addr.Is6() == v6
		if !p.translates(v6) || !listens || f.IsPinhole() || f.Listen.Ports.All {
			continue
		}
		outbound := f.Outbound && !f.Disabled && len(f.To) == 1 && f.To[0].Addr.IsValid() && f.To[0].Addr.Is6() == v6
		if outbound {
			p.compileOutbound(f, v6, yield)
		}
		if (outbound || p.spec.Independent) && f.Listen.Ports.Count() <= maxClaimed {
			compileClaimed(f, v6, yield)
		}
	}
}

// compileHoles lets in where the relay listens, and what pinholes are for. What the kernel translates is known by that.
func (p *gatewayPlan) compileHoles(f *forward.Forward, yield func(element)) {
	switch {
	case f.Carry == forward.CarryRelay:
		compileForward(f, yield)
		if f.PassivePorts != (forward.Range{}) { // where the data connections of FTP come in
			data := *f
			data.Listen.Ports = forward.Ports{Ranges: []forward.Range{f.PassivePorts}}
			compileForward(&data, yield)
		}
	case f.IsPinhole():
		eachMatch(f, func(m match) {
			id := setID{role: rolePinhole, Shape: m.Shape, network: m.Network, clients: m.clients.first.IsValid()}
			yield(newElement(id, f.Name, m, nil))
		})
	}
}

func (p *gatewayPlan) compileOutbound(f *forward.Forward, v6 bool, yield func(element)) {
	t := f.To[0]
	for network := range f.Listen.Networks.Each {
		id := gatewaySet(roleOutbound, v6, network)
		for port := range f.Listen.Ports.Each {
			at := f.TargetPort(t, port)
			m := match{Claim: forward.Claim{From: netip.PrefixFrom(t.Addr, id.FromBits), Range: forward.Range{First: at, Last: at}}}
			yield(newElement(id, f.Name, m, appendPadded(nil, binary.BigEndian.AppendUint16(nil, port))))
		}
	}
}

func compileClaimed(f *forward.Forward, v6 bool, yield func(element)) {
	for network := range f.Listen.Networks.Each {
		id := gatewaySet(roleClaimed, v6, network)
		for port := range f.Listen.Ports.Each {
			yield(newElement(id, f.Name, match{Claim: forward.Claim{Network: network, Range: forward.Range{First: port, Last: port}}}, nil))
		}
	}
}

// An elementID tells elements apart by where they are in the kernel.
type elementID struct {
	set setID
	key string
}

func idOf(e element) elementID { return elementID{e.set, string(e.key) + string(e.keyEnd)} }

// wishes is who wants which element; who came first has it.
type wishes map[elementID][]element

// fill enters what all the forwards want, and returns what the kernel shall have of it, in the order of the forwards.
func (w wishes) fill(p *gatewayPlan, forwards iter.Seq[*forward.Forward]) map[setID][]element {
	out := map[setID][]element{}
	for f := range forwards {
		p.compile(f, func(e element) {
			if _, taken := w.of(idOf(e)); !taken {
				out[e.set] = append(out[e.set], e)
			}
			w.add(e)
		})
	}
	return out
}

// add enters a wish.
func (w wishes) add(e element) {
	id := idOf(e)
	w[id] = append(w[id], e)
}

// remove takes a wish out again.
func (w wishes) remove(e element) {
	id := idOf(e)
	left := slices.DeleteFunc(w[id], func(o element) bool { return o.owner == e.owner })
	if len(left) == 0 {
		delete(w, id)
		return
	}
	w[id] = left
}

// prefer lets owner have the element at id, where it wishes for it, and returns what the kernel shall have there.
func (w wishes) prefer(id elementID, owner string) element {
	list := w[id]
	if at := slices.IndexFunc(list, func(e element) bool { return e.owner == owner }); at > 0 {
		list[0], list[at] = list[at], list[0]
	}
	return list[0]
}

// of is what the kernel shall have at id.
func (w wishes) of(id elementID) (element, bool) {
	if list := w[id]; len(list) > 0 {
		return list[0], true
	}
	return element{}, false
}

// A GatewayRuleset is everything that a gateway has in the kernel: data, not yet applied.
type GatewayRuleset struct {
	table    string
	plan     *gatewayPlan
	sets     []setID
	elements map[setID][]element
}

// CompileGateway makes the ruleset of table for a gateway, further listeners of this host that the outside may reach, and
// forwards, which are sorted by name and have their Carry decided. It is pure.
func CompileGateway(table string, spec *forward.Gateway, open []forward.Listen, forwards []*forward.Forward) *GatewayRuleset {
	rs := &GatewayRuleset{table: table, plan: newGatewayPlan(spec, open)}
	rs.elements = wishes{}.fill(rs.plan, slices.Values(forwards))
	rs.sets = rs.plan.sets(maps.Keys(rs.elements))
	return rs
}

// sets is those that have elements and those that are always there, in their order.
func (p *gatewayPlan) sets(filled func(func(setID) bool)) []setID {
	return slices.SortedFunc(func(yield func(setID) bool) {
		for _, id := range p.learnedSets() {
			if !yield(id) {
				return
			}
		}
		filled(yield)
	}, setID.compare)
}

// WriteNFT writes rs in the language of nft(8), ready for "nft -f".
func (rs *GatewayRuleset) WriteNFT(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "table inet %s {\n\tcomment %q\n", rs.table, gatewayLayout)
	for _, o := range rs.plan.helpers() {
		o.write(out)
	}
	for _, id := range rs.sets {
		writeSet(out, id, rs.elements[id])
	}
	for _, c := range rs.plan.chains(rs.sets) {
		writeChain(out, c)
	}
	fmt.Fprintf(out, "}\n")
	return out.Flush()
}
