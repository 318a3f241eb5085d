package pmpserver

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// An ask is a request that the Desk has to decide: one of PCP or of NAT-PMP, and where its answer goes.
type ask struct {
	letter
	seal   seal
	errand errand
	key    portmap.Key // of an errandAll the transport alone
	iface  string

	protocol portmap.Protocol
	pcp      pcp.Request
	natpmp   natpmp.Request
}

// An errand is what is asked of the Desk.
type errand uint8

const (
	errandMap   errand = iota
	errandUnmap        // one mapping
	errandAll          // every mapping of the client's transport
)

// filters is how many entries Request.From may get from one client's options.
const filters = 64

// request is what the Desk is asked, for a mapping that lets in those of before at present.
func (a *ask) request(before []netip.Prefix) (portmap.Request, error) {
	r := portmap.Request{Protocol: a.protocol, Key: a.key, Client: a.client(), Interface: a.iface}
	if a.protocol == portmap.NATPMP {
		r.External, r.Lifetime = a.natpmp.External, time.Duration(a.natpmp.Lifetime)*time.Second
		return r, nil
	}
	p := &a.pcp
	r.External, r.Lifetime, r.Nonce = p.External.Port(), time.Duration(p.Lifetime)*time.Second, p.Nonce
	r.Exact = p.PreferFailure && r.External != 0
	var err error
	r.From, err = filtered(before, p.Filters)
	return r, err
}

// filtered is who may come in after the filters of a request: they add to those that the mapping has, and one without a prefix deletes all
// before it (RFC 6887, section 13.3). A request without any leaves them as they are.
func filtered(before []netip.Prefix, options []pcp.Filter) ([]netip.Prefix, error) {
	from := slices.Clip(before)
	for _, f := range options {
		prefix := f.Prefix.Masked()
		switch {
		case !prefix.IsValid():
			from = nil
		case f.Port != 0: // a forward knows of its clients' addresses alone, and to leave the port out would open more (section 7.4)
			return nil, pcp.ExcessiveRemotePeers
		case !slices.Contains(from, prefix):
			if from = append(from, prefix); len(from) > filters {
				return nil, pcp.ExcessiveRemotePeers
			}
		}
	}
	return from, nil
}

// answer appends what the Desk's result is to the client.
func (a *ask) answer(b []byte, result portmap.Result, epoch uint32, outside netip.Addr, now time.Time) []byte {
	if a.protocol == portmap.NATPMP {
		r := natpmp.Response{Opcode: a.natpmp.Opcode, Code: natpmpCode(result.Err), Epoch: epoch, Internal: a.natpmp.Internal}
		if result.Err == nil && a.errand == errandMap {
			r.External, r.Lifetime = result.Public.Port(), remaining(result.Expires, now)
		}
		return natpmp.AppendResponse(b, &r)
	}
	r := pcp.Response{Opcode: pcp.Map, Code: pcpCode(result.Err), Epoch: epoch, Mapping: a.pcp.Mapping, Options: a.pcp.Options}
	if r.Code == pcp.Success && a.errand == errandMap {
		addr := result.Public.Addr()
		switch {
		case a.key.Internal.Addr().Is6():
			addr = a.key.Internal.Addr() // a pinhole translates nothing
		case !addr.IsValid() || addr.IsUnspecified():
			addr = outside
		}
		if addr.IsValid() {
			r.Lifetime, r.External = remaining(result.Expires, now), netip.AddrPortFrom(addr.Unmap(), result.Public.Port())
		} else { // it has just been lost
			r.Code = pcp.NetworkFailure
		}
	}
	if r.Code != pcp.Success {
		r.Lifetime = uint32(r.Code.Lifetime() / time.Second)
	}
	return pcp.AppendResponse(b, &r)
}

// remaining is the seconds of a mapping that are left, at least one. One that never ends is to be renewed all the same: RFC 6887, section
// 15, has a day as the most.
func remaining(expires, now time.Time) uint32 {
	left := portmap.DefaultMaxLife
	if !expires.IsZero() {
		left = min(expires.Sub(now), 1<<31*time.Second)
	}
	return uint32(max(1, (left+time.Second-1)/time.Second))
}

// transport is the network of a protocol number of IANA.
func transport(protocol uint8) (forward.Networks, bool) {
	switch protocol {
	case pcp.ProtocolTCP:
		return forward.TCP, true
	case pcp.ProtocolUDP:
		return forward.UDP, true
	}
	return 0, false
}
