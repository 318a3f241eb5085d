package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// A carrierFunc is a carrier that carries everything, and is called at each Apply.
type carrierFunc func()

func (c carrierFunc) Apply(context.Context, forward.List) map[string]error { c(); return nil }
func (carrierFunc) Stats() map[string]forward.Stats                        { return nil }

// A visitor is a client of an SSH server as a node.
type visitor struct{ node.Node }

// startGuests runs guests over a table whose relay calls during.
func startGuests(t *testing.T, during func()) *guests {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	tab := table.New(table.Options{
		Kernel: carrierFunc(func() {}), Relay: carrierFunc(during), Store: db,
		Facts: func() (kernel.Facts, error) { return kernel.Facts{Unusable: "a test"}, nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = tab.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait(); _ = db.Close() })
	<-tab.Ready()
	return newGuests("ssh", tab, node.NewSet(host.New(), nil, nil))
}

func doorAt(t *testing.T, s string, hosts ...string) forward.Door {
	t.Helper()
	return forward.Door{Listen: listenAt(t, s), Hosts: hosts}
}

func listenAt(t *testing.T, s string) forward.Listen {
	t.Helper()
	if strings.HasPrefix(s, "/") {
		return forward.Listen{Path: s}
	}
	l, err := forward.ParseListen(s)
	if err != nil {
		t.Fatal(err)
	}
	l.Networks = forward.TCP
	return l
}

func (g *guests) names() string {
	var names []string
	for _, s := range g.table.Snapshot() {
		names = append(names, s.Forward.Name)
	}
	return strings.Join(names, " ")
}

// A client that goes while its forward is being made leaves none behind.
func TestGuestThatLeavesInBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := false
		g := startGuests(t, func() {
			if asked {
				cancel()
				time.Sleep(time.Second) // which is over when all others wait: Put has seen it before the carriers have answered
			}
		})
		asked = true
		if _, _, err := g.Put(ctx, "anna", doorAt(t, "127.0.0.1:8080"), &visitor{}); err == nil || g.names() != "" {
			t.Errorf("%v; and there is %q", err, g.names())
		}
	})
}

// Places that look alike in a name are places of their own.
func TestGuestNames(t *testing.T) {
	g := startGuests(t, func() {})
	n, seen := &visitor{}, map[string][2]string{}
	for _, at := range [][2]string{
		{"anna", "127.0.0.1:8080"}, {"anna", "[::1]:8080"}, {"anna", "8080"}, {"anna", "/run/a/b"}, {"anna", "/run/a-b"},
		{"anna", "192.0.2.1:8081"}, {"anna-192.0.2.1", "127.0.0.1:8081"},
	} {
		name, _, err := g.Put(t.Context(), at[0], doorAt(t, at[1]), n)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s are both %s", other, at, name)
		}
		seen[name] = at
	}
	// A client that comes back takes over what the one before had, by the same name.
	again := &visitor{}
	for name, at := range seen {
		if got, _, err := g.Put(t.Context(), at[0], doorAt(t, at[1]), again); err != nil || got != name {
			t.Errorf("%s is %s again: %q, %v", at, name, got, err)
		}
	}
	if len(g.table.Snapshot()) != len(seen) {
		t.Errorf("%s", g.names())
	}
}

// A client gets nothing that was meant for another forward, however exactly it names the place.
func TestGuestBesideOthers(t *testing.T) {
	g := startGuests(t, func() {})
	for i, listen := range []string{"8080", "9000-9100", "192.0.2.1:7000"} {
		f := &forward.Forward{
			Name: fmt.Sprintf("file%d", i), Origin: forward.OriginFile, Listen: listenAt(t, listen),
			To: []forward.Target{{Ports: forward.Range{First: 80, Last: 80}}},
		}
		if _, err := g.table.Put(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	for place, free := range map[string]bool{
		"127.0.0.1:8080": false, "192.0.2.1:8080": false, "127.0.0.1:9050": false, "7000": false, "127.0.0.1:7000": true, "127.0.0.1:8081": true,
	} {
		if _, _, err := g.Put(t.Context(), "anna", doorAt(t, place), &visitor{}); (err == nil) != free {
			t.Errorf("%s: %v", place, err)
		}
	}
	if _, _, err := g.Put(t.Context(), "ben", doorAt(t, "8081"), &visitor{}); err == nil {
		t.Error("one key listens around another")
	}
}

// An agent may listen at a port of TCP and at the same of UDP, and what it asks for bears its own origin.
func TestGuestAgents(t *testing.T) {
	g := startGuests(t, func() {})
	g.kind = "agent"
	n := &visitor{}
	udp := doorAt(t, "8080")
	udp.Networks = forward.UDP
	picked := forward.Door{Listen: forward.Listen{Networks: forward.UDP, Addr: netip.MustParseAddr("127.0.0.1"), Ports: forward.Ports{Ranges: []forward.Range{{}}}}}
	for want, listen := range map[string]forward.Door{"agent-home-8080": doorAt(t, "8080"), "agent-home-udp-8080": udp} {
		if name, _, err := g.Put(t.Context(), "home", listen, n); err != nil || name != want {
			t.Errorf("%q, %v; want %s", name, err, want)
		}
	}
	if _, bound, err := g.Put(t.Context(), "home", picked, n); err != nil || portRange(bound.Listen).First == 0 {
		t.Errorf("%s, %v", bound, err)
	}
	for _, f := range g.table.Forwards() {
		if f.Origin != "agent:home" || !f.Origin.Guest() {
			t.Errorf("%s has the origin %s", f.Name, f.Origin)
		}
	}
}

// Agents share a port by the names that their clients call, and no name is two agents'.
func TestGuestsByName(t *testing.T) {
	g := startGuests(t, func() {})
	g.kind = "agent"
	g.whole = func(l forward.Listen) bool { return l.Ports.Contains(443) }
	file := &forward.Forward{
		Name: "file", Origin: forward.OriginFile, Listen: listenAt(t, "443"), Hosts: []string{"www.example.com"}, To: []forward.Target{{Ports: forward.Range{First: 80, Last: 80}}},
	}
	if _, err := g.table.Put(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		key, listen, host, name string
	}{
		{"home", "443", "blog.example.com", "agent-home-blog.example.com-443"},
		{"home", "443", "cloud.example.com", "agent-home-cloud.example.com-443"},
		{"home", "443", "*.home.example.com", "agent-home-home.example.com-443"},
		{"home", "443", "blog.example.com", "agent-home-blog.example.com-443"},
		{"shop", "443", "shop.example.com", "agent-shop-shop.example.com-443"},
		{"shop", "443", "blog.example.com", ""},
		{"shop", "443", "www.example.com", ""},
		{"shop", "80", "shop.example.com", "agent-shop-shop.example.com-80"},
		{"home", "80", "", ""},
		{"home", "443", "", ""},
	} {
		door := doorAt(t, one.listen)
		if one.host != "" {
			door.Hosts = []string{one.host}
		}
		name, _, err := g.Put(t.Context(), one.key, door, &visitor{})
		if name != one.name || (err != nil) != (one.name == "") {
			t.Errorf("%+v: %q, %v", one, name, err)
		}
	}
}
