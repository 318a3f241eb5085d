package publish

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// portPMP is where gateways are asked, in NAT-PMP and PCP.
const portPMP = pcp.ServerPort

// pcpAnycast is where a PCP server on the way to the internet answers, wherever it is (RFC 7723).
var pcpAnycast = netip.MustParseAddr("192.0.0.9")

// How long an answer is waited for before the question is asked again. RFC 6886, section 3.1, begins with 250 ms; RFC 6887,
// section 8.1.1, with 3 s, for servers that are far.
var (
	probeWaits   = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second}
	requestWaits = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}
)

// pmpAnswers is what answers at portPMP.
type pmpAnswers struct{ pcp, natpmp bool }

// errNoAnswer is a refusal without words.
func errNoAnswer(p portmap.Protocol) error {
	return &refusal{kind: KindSilent, protocol: p, text: "no answer"}
}

// converse sends questions and sends them again until heard returns true. Nobody answers: a refusal of KindSilent. That the port is
// closed ends a probe; who was known to be there may be about to come back, and is asked again.
func (g *gateway) converse(ctx context.Context, p portmap.Protocol, waits []time.Duration, questions [][]byte, heard func([]byte) bool) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	conn, err := g.net.Dial(ctx, "udp", g.local.Addr(), netip.AddrPortFrom(g.addr, portPMP))
	if err != nil {
		return &refusal{kind: KindSilent, protocol: p, text: err.Error()}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	known := len(waits) > len(probeWaits)
	for i, wait := range waits {
		end := time.Now().Add(wait)
		if err := conn.SetDeadline(end); err != nil {
			return g.ended(ctx, p, err)
		}
		err := exchange(conn, questions, heard)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
		case known && i < len(waits)-1 && errors.Is(err, syscall.ECONNREFUSED):
			select {
			case <-time.After(time.Until(end)):
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			return g.ended(ctx, p, err)
		}
	}
	return errNoAnswer(p)
}

// exchange sends questions once and reads until heard returns true, or there is an error.
func exchange(conn net.Conn, questions [][]byte, heard func([]byte) bool) error {
	for _, q := range questions {
		if _, err := conn.Write(q); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err // ECONNREFUSED of the question before it: nobody listens there
		}
	}
	var buf [pcp.MaxLength + 1]byte
	for {
		n, err := conn.Read(buf[:])
		if err != nil {
			return err
		}
		if heard(buf[:n]) {
			return nil
		}
	}
}

func (g *gateway) ended(ctx context.Context, p portmap.Protocol, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &refusal{kind: KindSilent, protocol: p, text: err.Error()}
}

// probePMP asks in both protocols at once: a server of NAT-PMP alone may be silent when it sees PCP.
func (g *gateway) probePMP(ctx context.Context) (pmpAnswers, error) {
	var a pmpAnswers
	unsupported := false
	questions := [][]byte{pcp.AppendRequest(nil, &pcp.Request{Opcode: pcp.Announce, Client: g.client})}
	if g.addr.Is4() {
		questions = append(questions, natpmp.AppendRequest(nil, &natpmp.Request{Opcode: natpmp.Address}))
	}
	err := g.converse(ctx, portmap.PCP, probeWaits, questions, func(b []byte) bool {
		if r, err := pcp.ParseResponse(b); err == nil && r.Opcode == pcp.Announce {
			a.pcp = r.Code != pcp.UnsuppVersion && r.Code != pcp.NotAuthorized
			unsupported = !a.pcp
			if r.Code == pcp.Success {
				g.epoch(portmap.PCP, r.Epoch)
			}
		} else if r, err := natpmp.ParseResponse(b); err == nil {
			switch {
			case r.Code == natpmp.UnsupportedVersion: // it says so of PCP's version
				unsupported = true
			case r.Opcode == natpmp.Address:
				a.natpmp = true
				g.heardNATPMP(r)
			}
		}
		return (a.pcp || unsupported) && (a.natpmp || !g.addr.Is4())
	})
	switch {
	case ctx.Err() != nil:
		return a, ctx.Err()
	case err != nil && asRefusal(err).kind != KindSilent:
		return a, err
	}
	return a, nil // silence is an answer, too
}

// heardNATPMP takes down what an address response says, asked for or not.
func (g *gateway) heardNATPMP(r natpmp.Response) {
	g.epoch(portmap.NATPMP, r.Epoch)
	if r.Code == natpmp.Success && g.learn(portmap.NATPMP, r.Address) {
		g.lost(g, "its external address is another")
	}
}
