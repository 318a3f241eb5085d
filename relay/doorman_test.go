package relay

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node/host"
)

// A guard is a Doorman that writes down whom it lets in.
type guard struct {
	mu      sync.Mutex
	inside  map[netip.Addr][]netip.AddrPort
	seen    int
	refuses bool
}

func (g *guard) Admit(_ string, client netip.Addr, at netip.AddrPort, _ time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuses {
		return errors.New("no")
	}
	if g.inside == nil {
		g.inside = map[netip.Addr][]netip.AddrPort{}
	}
	g.seen++
	g.inside[client] = append(g.inside[client], at)
	return nil
}

func (g *guard) Dismiss(client netip.Addr, at netip.AddrPort) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, one := range g.inside[client] {
		if one == at {
			g.inside[client] = append(g.inside[client][:i:i], g.inside[client][i+1:]...)
			return nil
		}
	}
	return errors.New("nobody was let in there")
}

// counts is how many were let in since the beginning, and how many are now.
func (g *guard) counts() (seen, now int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, list := range g.inside {
		now += len(list)
	}
	return g.seen, now
}

// TestFTPDoorman has the doorman know of every port that is offered, before it is, and of none any more that is not.
func TestFTPDoorman(t *testing.T) {
	g := &guard{}
	r := start(t, host.New(), Options{Doorman: g})
	front, ranged := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t)
	server := ftpServer(t, "127.0.0.2:0", "0")
	f, within := ftpForward(t, "ftp", front, server), ftpForward(t, "ranged", ranged, server)
	within.PassivePorts.First, within.PassivePorts.Last = 41000, 41050
	apply(t, r, f, within)
	client := dialFTP(t, front)
	offered := client.offered("EPSV")
	g.mu.Lock()
	if list := g.inside[netip.MustParseAddr("127.0.0.1")]; len(list) != 1 || list[0] != offered {
		t.Errorf("let in at %v, offered is %s", g.inside, offered)
	}
	g.mu.Unlock()
	for range 6 { // the oldest make room
		client.offered("PASV")
	}
	if seen, now := g.counts(); seen != 7 || now != maxWaiting {
		t.Errorf("%d were let in, %d are", seen, now)
	}
	ask(t, client.passive("EPSV"), "hello")
	ask(t, dialFTP(t, front).active(), "hello")
	client.Close()
	eventually(t, "nobody to be let in", func() bool { _, now := g.counts(); return now == 0 })
	before, _ := g.counts()
	ask(t, dialFTP(t, ranged).passive("EPSV"), "hello")
	if seen, _ := g.counts(); seen != before {
		t.Error("a port of passive_ports was let in once more")
	}
	g.mu.Lock()
	g.refuses = true
	g.mu.Unlock()
	ask(t, dialFTP(t, front).passive("EPSV"), "hello") // of a client whom nothing stops
}
