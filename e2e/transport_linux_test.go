package e2e

import (
	"testing"
	"time"
)

// TestTunnelChangesTransport: UDP vanishes on the way while data goes both ways over several connections, and later comes through again. The tunnel is by
// TLS meanwhile, and by QUIC in the end, and nobody notices more than a pause.
func TestTunnelChangesTransport(t *testing.T) {
	needs(t, "ip", "nft")
	t.Parallel()
	l := newTunnelLab(t)
	hub := up(t, l.hub, hubFile)
	agent := agentUp(t, hub, l.home, "home", webAtHub)
	waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8000) })
	x := startTransfer(t, l.visitor, hubAddr+":8000", l.home, 8080, 3)
	by := func(transport string) {
		t.Helper()
		start := time.Now()
		for hub.agents()["home"].Transport != transport {
			if time.Since(start) > time.Minute {
				t.Fatalf("the tunnel is by %s, and not by %s\nhub:\n%s\nagent:\n%s", hub.agents()["home"].Transport, transport, tail(hub.proc.Output()), tail(agent.proc.Output()))
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("by %s after %v", transport, time.Since(start).Round(time.Millisecond))
		up, down := x.moved()
		waitFor(t, "bytes come both ways", func() bool {
			u, d := x.moved()
			return u > up+1<<20 && d > down+1<<20
		})
	}
	by("quic")
	l.hub.Nft(t, "table inet block { chain in { type filter hook input priority 0; meta l4proto udp drop; }; }")
	by("tls")
	l.hub.Nft(t, "delete table inet block")
	l.home.Run(t, "ip", "addr", "add", "192.168.1.7/24", "dev", "lan") // it is another network: what was blocked may not be
	by("quic")
	x.finish()
}
