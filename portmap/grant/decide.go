package grant

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

// decideOne finds what lease a request gets and enters it into p. The caller holds deciding.
func (d *Desk) decideOne(p *plan, it *item) error {
	if p.spec == nil {
		return join(portmap.ErrDenied, errOff)
	}
	req := &it.req
	req.Internal = netip.AddrPortFrom(req.Internal.Addr().Unmap().WithZone(""), req.Internal.Port())
	if err := d.checkRequest(p, req); err != nil {
		return err
	}
	before, err := d.find(p, req)
	if err != nil {
		return err
	}
	it.before = before
	judged := d.judge(it.mac, req.Client, req.Key)
	if judged == denied {
		return fmt.Errorf("%w: %s was refused with `fairlead leases deny`", portmap.ErrDenied, it.device)
	}
	asking := p.spec.Ask && judged != approved && (before == nil || before.f.Lease.Asking)
	if before == nil {
		if err := d.quota(p, it); err != nil {
			return err
		}
	}
	port, err := d.port(p, it, before)
	if err != nil {
		return err
	}
	from, err := fromOf(req.From, req.Internal.Addr())
	if err != nil {
		return err
	}
	f := d.forwardOf(p, it, before, port)
	f.From, f.Lease.Asking, f.Disabled = from, asking, asking || req.Disabled
	p.enter(d, it, before, f)
	return nil
}

// checkRequest refuses what makes no sense or is asked for somebody else.
func (d *Desk) checkRequest(p *plan, req *portmap.Request) error {
	to := req.Internal.Addr()
	third := to != req.Client
	switch {
	case req.Network != forward.TCP && req.Network != forward.UDP:
		return fmt.Errorf("%w: a mapping is of tcp or udp", portmap.ErrDenied)
	case req.Internal.Port() == 0:
		return fmt.Errorf("%w: a mapping leads to one port", portmap.ErrDenied)
	case !to.IsValid() || !req.Client.IsValid() || !to.IsGlobalUnicast() || to == p.outside.Addr:
		return fmt.Errorf("%w: no mapping leads to %s", portmap.ErrDenied, to)
	case third && !p.spec.ThirdParty:
		return fmt.Errorf("%w: a host has mappings of its own alone, and %s is not %s", portmap.ErrDenied, to, req.Client)
	case !d.Inside(to): // a source can be written by anybody, and that of this host would open this host
		return fmt.Errorf("%w: %s is no host of the LAN", portmap.ErrDenied, to)
	case to.Is4() && !p.outside.Addr.IsValid():
		return portmap.ErrNoExternal
	}
	return nil
}

// find is the mapping that a request changes, or nil. Mappings are told apart by their internal side, whatever their external
// port (RFC 6887, section 11.3); but a client of UPnP names the external port, and may have several for one internal.
func (d *Desk) find(p *plan, req *portmap.Request) (*record, error) {
	list := p.of(d, req.Key)
	if len(list) == 0 {
		return nil, nil
	}
	r := list[0]
	if req.Exact && req.External != 0 && req.Internal.Addr().Is4() {
		at := slices.IndexFunc(list, func(r *record) bool { return r.port == req.External })
		switch {
		case at >= 0:
			r = list[at]
		case req.Protocol == portmap.UPnP:
			return nil, nil
		default:
			return nil, fmt.Errorf("%w: the mapping has port %d already", portmap.ErrConflict, r.port)
		}
	}
	return r, mayChange(r, req.Client, req.Nonce)
}

// mayChange says whether a client may change a mapping: whose port it is, and who asked for it on another's behalf. A nonce keeps
// third parties apart (RFC 6887, section 13.1); of the host itself it is not asked, since clients that are in use draw a new one
// for each request, and the source of a packet of the LAN is as good.
func mayChange(r *record, client netip.Addr, nonce [12]byte) error {
	if client == r.key.Internal.Addr() {
		return nil
	}
	if r.f.Lease.Client != client {
		return fmt.Errorf("%w: the mapping is another's", portmap.ErrDenied)
	}
	if was := r.f.Lease.Nonce; was != "" && nonce != [12]byte{} && was != hex.EncodeToString(nonce[:]) {
		return portmap.ErrNonce
	}
	return nil
}

// quota refuses what is too much for a device, or for all. Devices whose hardware address is not known have half of all together, or as
// much as one device may: one host can have as many addresses of a network as that has, and leave nothing to the others.
func (d *Desk) quota(p *plan, it *item) error {
	own, unknown, all := d.Book.count(it.device)
	most, each := p.spec.MaxLeases, p.spec.MaxClient
	if most <= 0 {
		most = portmap.DefaultMaxLeases
	}
	if each <= 0 {
		each = portmap.DefaultMaxClient
	}
	switch {
	case own+p.fresh[it.device] >= each:
		return fmt.Errorf("%w: %d is the most", portmap.ErrQuota, each)
	case it.mac == "" && d.Neighbours != nil && unknown+p.unknown >= max(most/2, min(each, most)):
		return fmt.Errorf("%w: clients whose hardware address is not known have %d leases already", portmap.ErrFull, unknown+p.unknown)
	case all+p.leases >= most:
		return fmt.Errorf("%w: there are %d leases already", portmap.ErrFull, most)
	}
	return nil
}

// port chooses the external port.
func (d *Desk) port(p *plan, it *item, before *record) (uint16, error) {
	req := &it.req
	who := portmap.Client{Addr: req.Client, MAC: it.mac, Describe: req.Describe}
	pinhole := req.Internal.Addr().Is6()
	may := allowedOf(p.spec, who, req.Network, pinhole)
	if to := req.Internal.Addr(); to != req.Client {
		who.Addr = to
		who.MAC, _ = d.lookUp(to)
		may = may.and(allowedOf(p.spec, who, req.Network, pinhole))
	}
	if may.none() {
		return 0, fmt.Errorf("%w: no rule lets %s have a port", portmap.ErrDenied, it.device)
	}
	own := req.Internal.Port()
	if pinhole {
		switch {
		case !may.has(own):
			return 0, fmt.Errorf("%w: no rule lets %s have port %d", portmap.ErrDenied, it.device, own)
		case req.Exact && req.External != 0 && req.External != own:
			return 0, fmt.Errorf("%w: nothing is translated for IPv6, and the port stays %d", portmap.ErrConflict, own)
		}
		return own, nil
	}
	taken := d.Table.Taken(p.outside.Addr, req.Network)
	if before != nil && may.has(before.port) && !taken.Has(before.port) && !d.Reserved(req.Network, netip.AddrPortFrom(p.outside.Addr, before.port)) {
		return before.port, nil
	}
	want := req.External
	if want == 0 {
		want = own
	}
	free := func(port uint16) bool {
		return d.free(req.Network, netip.AddrPortFrom(p.outside.Addr, port))
	}
	if !req.Exact || req.External == 0 {
		port, ok := d.Book.near(req.Network, want, may, taken, free)
		if !ok {
			return 0, fmt.Errorf("%w: no port is left", portmap.ErrFull)
		}
		return port, nil
	}
	if !may.has(want) {
		return 0, fmt.Errorf("%w: no rule lets %s have port %d", portmap.ErrDenied, it.device, want)
	}
	holder := p.at(d, place{req.Network, want})
	if holder != nil && req.Protocol == portmap.UPnP && mayChange(holder, req.Client, req.Nonce) == nil && p.replace(d, holder) {
		return want, nil // a client that leads its port to another place (WANIPConnection:1, section 2.4.16)
	}
	if holder != nil || taken.Has(want) || !free(want) {
		return 0, fmt.Errorf("%w: %s port %d", portmap.ErrConflict, req.Network, want)
	}
	return want, nil
}

// free reports whether this host itself does without a port.
func (d *Desk) free(network forward.Networks, at netip.AddrPort) bool {
	return !d.Reserved(network, at) && !d.Busy(network, at)
}

// fromOf is the clients outside that may come in, as forwards have them.
func fromOf(list []netip.Prefix, to netip.Addr) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, p := range list {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		switch {
		case !p.IsValid():
			return nil, fmt.Errorf("%w: a filter names no network", portmap.ErrDenied)
		case p.Addr().Is4() != to.Is4():
		case p.Bits() == 0:
			return nil, nil
		default:
			out = append(out, p.Masked())
		}
	}
	if len(list) > 0 && len(out) == 0 {
		return nil, fmt.Errorf("%w: the filter lets nobody in", portmap.ErrDenied)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}

// forwardOf is the forward of a lease.
func (d *Desk) forwardOf(p *plan, it *item, before *record, port uint16) *forward.Forward {
	req := &it.req
	to, own := req.Internal.Addr(), req.Internal.Port()
	f := &forward.Forward{
		Origin:  forward.Origin("lease:" + string(req.Protocol)),
		Listen:  forward.Listen{Networks: req.Network, Addr: p.outside.Addr, Ports: onePort(port)},
		To:      []forward.Target{{Addr: to, Ports: forward.Range{First: own, Last: own}}},
		Expires: p.now.Add(lifetime(p.spec.MinLife, p.spec.MaxLife, req.Lifetime)),
		Lease: &forward.Lease{
			Client: req.Client, MAC: it.mac, Hostname: it.hostname, Description: req.Describe, Off: req.Disabled, Lifetime: req.Lifetime,
		},
	}
	if req.Nonce != [12]byte{} {
		f.Lease.Nonce = hex.EncodeToString(req.Nonce[:])
	}
	if to.Is6() {
		f.Listen.Addr = to
	}
	others := p.of(d, req.Key)
	f.Outbound = to.Is4() && !slices.ContainsFunc(others, func(r *record) bool { return r != before && r.f.Outbound })
	if f.Name = leaseName(req.Key); len(others) > 0 && before == nil {
		f.Name += fmt.Sprintf("-at-%d", port)
	}
	if before == nil {
		return f
	}
	f.Name, f.Origin = before.f.Name, before.f.Origin
	// What a renewal does not say again stays known: a neighbour table forgets, and a client may.
	if f.Lease.Client == before.f.Lease.Client {
		was := before.f.Lease
		f.Lease.MAC, f.Lease.Hostname = or(f.Lease.MAC, was.MAC), or(f.Lease.Hostname, was.Hostname)
		f.Lease.Description = or(f.Lease.Description, was.Description)
	}
	return f
}

// enter makes f what p puts.
func (p *plan) enter(d *Desk, it *item, before *record, f *forward.Forward) {
	now := newRecord(f)
	list := slices.Clone(p.of(d, now.key))
	if at := slices.IndexFunc(list, func(r *record) bool { return r.f.Name == f.Name }); at >= 0 {
		list[at] = now
	} else {
		list = append(list, now)
	}
	p.over[now.key] = list
	it.f, it.put = f, len(p.put)
	if at, twice := p.index[f.Name]; twice { // of two requests at once for one mapping the later one holds
		p.put[at], it.put = f, at
	} else {
		p.index[f.Name] = len(p.put)
		p.put = append(p.put, f)
	}
	if before == nil {
		p.fresh[it.device]++
		p.unknown += b2i(it.mac == "")
		p.leases++
	}
	if !now.pinhole {
		if before != nil && before.port != now.port {
			p.places[place{now.key.Network, before.port}] = nil
		}
		at := place{now.key.Network, now.port}
		p.places[at] = now
		if d.Book.reserve(at) {
			p.reserved = append(p.reserved, at)
		}
	}
}

// replace drops r, whose port another mapping of the same client gets. Of one that was asked for at the same time it does not.
func (p *plan) replace(d *Desk, r *record) bool {
	if _, now := p.index[r.f.Name]; now {
		return false
	}
	p.drop = append(p.drop, r.f)
	p.over[r.key] = slices.DeleteFunc(slices.Clone(p.of(d, r.key)), func(x *record) bool { return x == r })
	p.fresh[r.device()]--
	p.unknown -= b2i(r.f.Lease.MAC == "")
	p.leases--
	return true
}

// of is the mappings of an internal port as they will be.
func (p *plan) of(d *Desk, key portmap.Key) []*record {
	if list, ok := p.over[key]; ok {
		return list
	}
	return d.Book.of(key)
}

// at is the mapping of an external port as it will be.
func (p *plan) at(d *Desk, at place) *record {
	if r, ok := p.places[at]; ok {
		return r
	}
	return d.Book.at(at.network, at.port)
}

// leaseName is the name of the forward of a mapping.
func leaseName(k portmap.Key) string {
	host := strings.ReplaceAll(k.Internal.Addr().String(), ":", "-")
	return fmt.Sprintf("lease-%s-%s-%d", host, k.Network, k.Internal.Port())
}

func onePort(port uint16) forward.Ports {
	return forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}
}

// lifetime is how long a lease holds that is asked for so long.
func lifetime(least, most, asked time.Duration) time.Duration {
	if least <= 0 {
		least = portmap.DefaultMinLife
	}
	if most <= 0 {
		most = portmap.DefaultMaxLife
	}
	if asked <= 0 {
		return most
	}
	return min(max(asked, least), most)
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// Of no protocol.
var (
	errOff     = errors.New("port mapping is switched off")
	errStopped = errors.New("the daemon is stopping")
)
