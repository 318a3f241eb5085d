package publish

import (
	"context"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
)

// natpmpMapper speaks NAT-PMP (RFC 6886), which is for IPv4 alone.
type natpmpMapper struct{ g *gateway }

func (m *natpmpMapper) protocol() portmap.Protocol { return portmap.NATPMP }

func (m *natpmpMapper) external(ctx context.Context) (netip.Addr, error) {
	r, err := m.do(ctx, natpmp.Request{Opcode: natpmp.Address})
	if err != nil {
		return netip.Addr{}, err
	}
	m.g.heardNATPMP(r)
	return r.Address, nil
}

func (m *natpmpMapper) add(ctx context.Context, a ask, before *grant) (grant, error) {
	suggest := a.external
	if before != nil {
		suggest = before.public.Port()
	}
	r, err := m.do(ctx, natpmp.Request{Opcode: opcodeOf(a.network), Internal: a.internal, External: suggest, Lifetime: seconds(a.lifetime)})
	if err != nil {
		return grant{}, err
	}
	if r.External == 0 || r.Lifetime == 0 {
		return grant{}, &refusal{kind: KindFailed, protocol: portmap.NATPMP, text: "the answer grants nothing"}
	}
	addr, err := m.external(ctx)
	if err != nil {
		return grant{}, err
	}
	return grant{public: netip.AddrPortFrom(addr, r.External), lifetime: time.Duration(r.Lifetime) * time.Second}, nil
}

func (m *natpmpMapper) holds(ctx context.Context, a ask, g grant) (bool, error) {
	again, err := m.add(ctx, a, &g)
	return again.public == g.public, err
}

func (m *natpmpMapper) remove(ctx context.Context, a ask, _ grant) error {
	_, err := m.do(ctx, natpmp.Request{Opcode: opcodeOf(a.network), Internal: a.internal})
	return err
}

func (m *natpmpMapper) do(ctx context.Context, q natpmp.Request) (natpmp.Response, error) {
	var answer natpmp.Response
	err := m.g.converse(ctx, portmap.NATPMP, requestWaits, [][]byte{natpmp.AppendRequest(nil, &q)}, func(b []byte) bool {
		r, err := natpmp.ParseResponse(b)
		if err != nil || r.Opcode != q.Opcode || r.Code == natpmp.Success && r.Internal != q.Internal {
			return false
		}
		answer = r
		return true
	})
	if err != nil {
		return answer, err
	}
	m.g.epoch(portmap.NATPMP, answer.Epoch)
	return answer, refusedNATPMP(answer.Code)
}

func refusedNATPMP(c natpmp.Code) error {
	r := &refusal{kind: KindFailed, protocol: portmap.NATPMP, code: int(c), text: "it answers " + c.String()}
	switch c {
	case natpmp.Success:
		return nil
	case natpmp.NotAuthorized: // "box supports mapping, but user has turned feature off" (RFC 6886, section 3.5)
		r.kind, r.text = KindDisabled, "refused, or switched off"
	case natpmp.NetworkFailure:
		r.kind, r.text = KindNoExternal, "the gateway has no external address"
	case natpmp.OutOfResources:
		r.kind, r.text = KindFull, "the gateway has no room for another mapping"
	}
	return r
}

func opcodeOf(n forward.Networks) natpmp.Opcode {
	if n == forward.UDP {
		return natpmp.MapUDP
	}
	return natpmp.MapTCP
}
