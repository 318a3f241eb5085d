package grant

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/neighbours"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// A home is a desk on a gateway with the kernel's own carrier.
type home struct {
	*Desk
	*netlab.Topology
	t     *testing.T
	table *table.Table
}

func newHome(t *testing.T) *home {
	h := &home{Topology: netlab.Gateway(t), t: t}
	h.Router.Forwarding(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c := &inside{Carrier: kernel.New(kernel.Options{Log: log}), host: h.Router}
	within := func(do func()) { _ = h.Router.Do(func() error { do(); return nil }) }
	book, s := NewBook(), store.Memory()
	h.table = table.New(table.Options{
		Kernel: c, Relay: sink{}, Store: s, Lease: book.Note, Log: log,
		Facts: func() (f kernel.Facts, err error) {
			within(func() { f, err = kernel.Probe() })
			return f, err
		},
	})
	hosts := neighbours.New(neighbours.Options{Files: []neighbours.File{}})
	h.Desk = New(Options{
		Book: book, Table: h.table, Store: s, Log: log, Neighbours: lookUp(func(a netip.Addr) (mac, name string) {
			within(func() { mac, name = hosts.Lookup(a) })
			return mac, name
		}),
		Outside: func() (Outside, <-chan struct{}) { return Outside{Addr: netip.MustParseAddr(netlab.RouterWAN4)}, nil },
		Busy: func(network forward.Networks, at netip.AddrPort) (busy bool) {
			within(func() { busy = Busy(network, at) })
			return busy
		},
	})
	h.Configure(&portmap.Spec{})
	ctx, cancel := context.WithCancel(context.Background())
	counting, counted := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- h.table.Run(counting) }()
	go func() {
		defer counted()
		done <- h.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

type lookUp func(netip.Addr) (string, string)

func (l lookUp) Lookup(a netip.Addr) (string, string) { return l(a) }

// call has a node call and wants another to answer; nil is nobody.
func (h *home) call(by *netlab.Node, network, at string, want *netlab.Node) {
	h.t.Helper()
	got, err := by.Call(h.t.Context(), network, at)
	switch {
	case want == nil && err == nil:
		h.t.Errorf("%s calls %s/%s: %s answers", by, network, at, got.Node)
	case want != nil && err != nil:
		h.t.Errorf("%s calls %s/%s: %v", by, network, at, err)
	case want != nil && got.Node != want.String():
		h.t.Errorf("%s calls %s/%s: %s answers, not %s", by, network, at, got.Node, want)
	}
}

// TestInTheKernel has real packets go by leases: from the WAN, from the LAN by the outer address, and not where the gateway itself
// is meant.
func TestInTheKernel(t *testing.T) {
	h := newHome(t)
	for _, n := range []*netlab.Node{h.Server, h.Peer} {
		n.Echo(t, "[::]:3074")
		n.Echo(t, "[::]:22")
	}
	h.Router.Echo(t, "[::]:22") // the gateway's own
	ask := func(text, public string) {
		t.Helper()
		r := h.Map(t.Context(), []portmap.Request{request(t, text)})[0]
		if r.Err != nil || r.Public.String() != public {
			t.Errorf("%s: %s %v, want %s", text, r.Public, r.Err, public)
		}
	}
	ask("natpmp udp 192.168.1.10:3074 3074", "203.0.113.1:3074")
	ask("natpmp udp 192.168.1.20:3074 3074", "203.0.113.1:3075")
	ask("natpmp tcp 192.168.1.10:22 22", "203.0.113.1:23")
	ask("pcp udp [fd00:1::10]:3074", "[fd00:1::10]:3074")

	h.call(h.Client, "udp", "203.0.113.1:3074", h.Server)
	h.call(h.Client, "udp", "203.0.113.1:3075", h.Peer)
	h.call(h.Client, "tcp", "203.0.113.1:23", h.Server)
	h.call(h.Client, "tcp", "203.0.113.1:22", h.Router)
	h.call(h.Peer, "udp", "203.0.113.1:3074", h.Server) // hairpin
	h.call(h.Server, "udp", "203.0.113.1:3074", h.Server)
	h.call(h.Peer, "tcp", "192.168.1.1:22", h.Router)
	h.call(h.Peer, "tcp", "192.168.1.1:23", nil) // no lease has a port of the inner address
	h.call(h.Router, "udp", "203.0.113.1:3075", h.Peer)

	found := false
	for _, s := range h.table.Snapshot() {
		if s.Forward.Name == "lease-192.168.1.10-udp-3074" {
			found = s.Carried == forward.CarryKernel && s.Stats.Total >= 3 && s.Stats.BytesIn > 0
		}
	}
	if !found {
		t.Error("the lease is not carried by the kernel, or its sessions are not counted")
	}

	// The operator comes later, with a range.
	op := spec(t, "op", forward.OriginFile, config.Spec{Listen: "udp/3000-3074", To: config.Strings{"192.168.1.20:3074"}})
	if _, err := h.table.ReplaceFile(t.Context(), &config.Config{Forwards: []*forward.Forward{op}}); err != nil {
		t.Fatal(err)
	}
	h.call(h.Client, "udp", "203.0.113.1:3074", h.Peer)
	ask("natpmp udp 192.168.1.10:3074 3074", "203.0.113.1:3076")
	h.call(h.Client, "udp", "203.0.113.1:3076", h.Server)

	// A DMZ host has what is left.
	dmz := spec(t, "dmz", forward.OriginFile, config.Spec{Listen: "tcp+udp/*", To: config.Strings{"192.168.1.20"}})
	if _, err := h.table.ReplaceFile(t.Context(), &config.Config{Forwards: []*forward.Forward{dmz}}); err != nil {
		t.Fatal(err)
	}
	h.call(h.Client, "udp", "203.0.113.1:3074", h.Peer)
	h.call(h.Client, "udp", "203.0.113.1:3076", h.Server)
	if err := h.Unmap(t.Context(), netip.MustParseAddr(netlab.Server4), request(t, "natpmp udp 192.168.1.10:3074").Key); err != nil {
		t.Fatal(err)
	}
	h.call(h.Client, "udp", "203.0.113.1:3076", nil)
}
