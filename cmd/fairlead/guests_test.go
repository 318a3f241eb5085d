package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
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
	return newGuests(tab, node.NewSet(host.New(), nil, nil))
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
	ctx, cancel := context.WithCancel(t.Context())
	asked := false
	g := startGuests(t, func() {
		if asked {
			cancel()
			time.Sleep(20 * time.Millisecond) // Put has seen it before the carriers have answered
		}
	})
	asked = true
	if _, _, err := g.Put(ctx, "anna", listenAt(t, "127.0.0.1:8080"), &visitor{}); err == nil || g.names() != "" {
		t.Errorf("%v; and there is %q", err, g.names())
	}
}

// Places that look alike in a name are places of their own.
func TestGuestNames(t *testing.T) {
	g := startGuests(t, func() {})
	n, seen := &visitor{}, map[string][2]string{}
	for _, at := range [][2]string{
		{"anna", "127.0.0.1:8080"}, {"anna", "[::1]:8080"}, {"anna", "8080"}, {"anna", "/run/a/b"}, {"anna", "/run/a-b"},
		{"anna", "192.0.2.1:8081"}, {"anna-192.0.2.1", "127.0.0.1:8081"},
	} {
		name, _, err := g.Put(t.Context(), at[0], listenAt(t, at[1]), n)
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
		if got, _, err := g.Put(t.Context(), at[0], listenAt(t, at[1]), again); err != nil || got != name {
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
		if _, _, err := g.Put(t.Context(), "anna", listenAt(t, place), &visitor{}); (err == nil) != free {
			t.Errorf("%s: %v", place, err)
		}
	}
	if _, _, err := g.Put(t.Context(), "ben", listenAt(t, "8081"), &visitor{}); err == nil {
		t.Error("one key listens around another")
	}
}
