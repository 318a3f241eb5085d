package publish

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// pcpMapper speaks PCP (RFC 6887).
type pcpMapper struct{ g *gateway }

func (m *pcpMapper) protocol() portmap.Protocol { return portmap.PCP }

// external is not known in PCP before something is mapped.
func (m *pcpMapper) external(context.Context) (netip.Addr, error) {
	if a := m.g.known(portmap.PCP); a.IsValid() {
		return a, nil
	}
	return netip.Addr{}, &refusal{kind: KindNoExternal, protocol: portmap.PCP, text: "the address is told only with a mapping"}
}

func (m *pcpMapper) add(ctx context.Context, a ask, before *grant) (grant, error) {
	suggest := netip.AddrPortFrom(unspecified(a.client), a.external)
	if a.client.Is6() {
		suggest = netip.AddrPortFrom(a.client, a.internal)
	}
	if before != nil {
		suggest = before.public
	}
	r, err := m.do(ctx, a, suggest, seconds(a.lifetime))
	if err != nil {
		return grant{}, err
	}
	g := grant{public: r.External, lifetime: time.Duration(r.Lifetime) * time.Second}
	if g.public.Port() == 0 || g.lifetime == 0 || g.public.Addr().Is4() != a.client.Is4() {
		return grant{}, &refusal{kind: KindFailed, protocol: portmap.PCP, text: "the answer grants nothing"}
	}
	m.g.learn(portmap.PCP, g.public.Addr()) // which another mapping need not have: translators with several addresses pick one for each
	return g, nil
}

func (m *pcpMapper) holds(ctx context.Context, a ask, g grant) (bool, error) {
	again, err := m.add(ctx, a, &g)
	return again.public == g.public, err
}

func (m *pcpMapper) remove(ctx context.Context, a ask, g grant) error {
	none := netip.AddrPortFrom(unspecified(a.client), 0) // by RFC 6887, section 15.1
	_, err := m.do(ctx, a, none, 0)
	if err != nil && !silent(err) {
		// miniupnpd does not know its own pinholes when they are to be deleted, but renews them for as short a time as it is asked.
		if r, short := m.do(ctx, a, g.public, 1); short == nil {
			return fmt.Errorf("%w; it now ends after %d s", err, r.Lifetime)
		}
	}
	return err
}

func (m *pcpMapper) do(ctx context.Context, a ask, suggest netip.AddrPort, lifetime uint32) (pcp.Response, error) {
	q := pcp.Request{Opcode: pcp.Map, Lifetime: lifetime, Client: a.client}
	q.Nonce, q.Protocol, q.Internal, q.External = m.g.nonce(a), ianaOf(a.network), a.internal, suggest
	var answer pcp.Response
	err := m.g.converse(ctx, portmap.PCP, requestWaits, [][]byte{pcp.AppendRequest(nil, &q)}, func(b []byte) bool {
		r, err := pcp.ParseResponse(b)
		if err != nil || r.Opcode != pcp.Map || r.Nonce != q.Nonce || r.Protocol != q.Protocol || r.Internal != q.Internal {
			return false // to somebody else, or made up (RFC 6887, section 11.4)
		}
		answer = r
		return true
	})
	if err != nil {
		return answer, err
	}
	m.g.epoch(portmap.PCP, answer.Epoch)
	return answer, refusedPCP(answer.Code)
}

func refusedPCP(c pcp.Code) error {
	r := &refusal{kind: KindFailed, protocol: portmap.PCP, code: int(c), text: "it answers " + c.String()}
	switch c {
	case pcp.Success:
		return nil
	case pcp.NotAuthorized:
		r.kind, r.text = KindDenied, "this host may not have the port"
	case pcp.UnsuppOpcode, pcp.UnsuppVersion:
		r.kind, r.text = KindDisabled, "mapping ports is switched off"
	case pcp.NetworkFailure:
		r.kind, r.text = KindNoExternal, "the gateway has no external address"
	case pcp.NoResources:
		r.kind, r.text = KindFull, "the gateway has no room for another mapping"
	case pcp.UserExQuota:
		r.kind, r.text = KindFull, "this host has as many mappings as it may have"
	case pcp.CannotProvideExternal:
		r.kind, r.text = KindConflict, "the port is taken"
	case pcp.AddressMismatch:
		r.text = "another translator stands between this host and the gateway"
	}
	return r
}

// nonce is what shows the gateway that who renews or deletes a mapping is who made it. The same secret makes the same ones, so that a
// program that was killed has its mappings again when it comes back.
func (g *gateway) nonce(a ask) (n [12]byte) {
	h := hmac.New(sha256.New, g.secret)
	addr := a.client.As16()
	h.Write(addr[:])
	h.Write(binary.BigEndian.AppendUint16([]byte{ianaOf(a.network)}, a.internal))
	h.Write([]byte(g.addr.String()))
	copy(n[:], h.Sum(nil))
	return n
}

func ianaOf(n forward.Networks) uint8 {
	if n == forward.UDP {
		return pcp.ProtocolUDP
	}
	return pcp.ProtocolTCP
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// unspecified is the address that leaves the choice, of the same family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
