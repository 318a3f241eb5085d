package kernel

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// Admit lets TCP connections in from one client to one address and port of this host, where a program waits for it that agreed on
// the port just now (data connections of FTP). It holds until Dismiss, or for as long as said: whoever is killed dismisses nobody.
// owner is the forward that it is for. Where this gateway drops nothing there is nothing to do.
func (g *Gateway) Admit(owner string, client netip.Addr, at netip.AddrPort, lasts time.Duration) error {
	e, ok := awaited(client, at)
	if !ok {
		return nil
	}
	e.owner, e.lasts = owner, lasts
	return g.changeAwaited(unix.NFT_MSG_NEWSETELEM, e)
}

// Dismiss takes back what Admit let in. A session that has begun goes on.
func (g *Gateway) Dismiss(client netip.Addr, at netip.AddrPort) error {
	e, ok := awaited(client, at)
	if !ok {
		return nil
	}
	err := g.changeAwaited(unix.NFT_MSG_DELSETELEM, e)
	if errors.Is(err, unix.ENOENT) {
		return nil // its time was over, or the table was made anew
	}
	return err
}

// awaited is the element for a client and where it is waited for. What is of two families is nobody's.
func awaited(client netip.Addr, at netip.AddrPort) (element, bool) {
	client, addr := client.Unmap().WithZone(""), at.Addr().Unmap().WithZone("")
	if !client.IsValid() || !addr.IsValid() || client.Is4() != addr.Is4() {
		return element{}, false
	}
	id := gatewaySet(roleAwaited, addr.Is6(), forward.TCP)
	m := match{Claim: forward.Claim{
		From: netip.PrefixFrom(client, id.FromBits), Addr: addr, Network: forward.TCP, Range: forward.Range{First: at.Port(), Last: at.Port()},
	}}
	return newElement(id, "", m, nil), true
}

func (g *Gateway) changeAwaited(kind uint16, e element) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.known || g.plan == nil || !g.plan.filters() {
		return nil
	}
	return g.socket.with(func(s *nlSocket) error {
		before, err := generation(s)
		if err != nil {
			return err
		}
		b := newBatch(g.table)
		b.changeElements(kind, e.set, []element{e}, 1)
		if err := b.commit(s); err != nil {
			return err
		}
		// A change of our own is no reason for Lost to read the table.
		if now, err := generation(s); err == nil && before == g.generation && now == before+1 {
			g.generation = now
		}
		return nil
	})
}
