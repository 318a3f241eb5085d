package grant

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
)

func TestTwoConsoles(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.want("upnp udp 192.168.1.20:3074 3074!", "203.0.113.5:3074")
		h.want("upnp udp 192.168.1.30:3074 3074!", "the external port is taken")
		h.want("upnp udp 192.168.1.30:3074 3074", "203.0.113.5:3075")
		h.want("upnp udp 192.168.1.20:3074 3074!", "203.0.113.5:3074") // its own again
		h.want("natpmp tcp 192.168.1.20:9308 9308", "203.0.113.5:9308")
		h.want("pcp tcp 192.168.1.30:9308", "203.0.113.5:9309")
		h.wantCarried(
			"lease-192.168.1.20-tcp-9308 tcp/203.0.113.5:9308 192.168.1.20:9308", "lease-192.168.1.20-udp-3074 udp/203.0.113.5:3074 192.168.1.20:3074",
			"lease-192.168.1.30-tcp-9308 tcp/203.0.113.5:9309 192.168.1.30:9308", "lease-192.168.1.30-udp-3074 udp/203.0.113.5:3075 192.168.1.30:3074")
		for _, s := range h.table.Snapshot() {
			f := s.Forward
			if !f.Outbound || f.Lease.MAC == "" || s.State != forward.StateUp || f.Expires.IsZero() {
				t.Errorf("%+v, %+v", s, f.Lease)
			}
		}
		if m, ok := h.At(forward.UDP, 3075); !ok || m.Client != two || m.Internal.String() != "192.168.1.30:3074" || m.Protocol != portmap.UPnP {
			t.Errorf("at 3075: %+v %v", m, ok)
		}
		if list := h.Of(one); len(list) != 2 || list[0].Name != "lease-192.168.1.20-tcp-9308" {
			t.Errorf("of one: %+v", list)
		}
		if list := h.Of(netip.Addr{}); len(list) != 4 {
			t.Errorf("of all: %+v", list)
		}
		if !h.logged("lease granted") || !h.logged("hostname=xbox") || !h.logged("mapping refused") {
			t.Error("what was granted and refused is not logged")
		}
	})
}

func TestRenewal(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		first := h.want("natpmp udp 192.168.1.20:5000 6000", "203.0.113.5:6000")
		applies, changes := h.carrier.counts()
		elapse(40 * time.Minute)
		again := h.want("natpmp udp 192.168.1.20:5000 7000", "203.0.113.5:6000") // the same mapping, whatever port is asked for
		if !again.Expires.Equal(first.Expires.Add(40 * time.Minute)) {
			t.Errorf("renewed until %s, first %s", again.Expires, first.Expires)
		}
		if a, c := h.carrier.counts(); a != applies || c != changes {
			t.Errorf("a renewal reached the carrier: %d applies and %d changes, before %d and %d", a, c, applies, changes)
		}
		elapse(59 * time.Minute)
		h.wantCarried("lease-192.168.1.20-udp-5000 udp/203.0.113.5:6000 192.168.1.20:5000")
		elapse(2 * time.Minute)
		h.wantCarried()
		if _, ok := h.At(forward.UDP, 6000); ok || len(h.Of(one)) > 0 {
			t.Error("it has ended, and is found")
		}
		h.want("natpmp udp 192.168.1.20:5000 7000", "203.0.113.5:7000")
	})
}

func TestLifetimes(t *testing.T) {
	inHouse(t, &portmap.Spec{MinLife: time.Minute, MaxLife: 2 * time.Hour}, func(h *house) {
		for asked, want := range map[time.Duration]time.Duration{0: 2 * time.Hour, time.Second: time.Minute, time.Hour: time.Hour, 1000 * time.Hour: 2 * time.Hour} {
			r := request(t, "pcp tcp 192.168.1.20:80")
			r.Lifetime = asked
			if got := h.Map(h.t.Context(), []portmap.Request{r})[0]; got.Err != nil || time.Until(got.Expires) != want {
				t.Errorf("%s: until %s (%v)", asked, time.Until(got.Expires), got.Err)
			}
		}
	})
}

// What the operator forwards is nobody else's, whoever came first, and however the port is written.
func TestOperatorFirst(t *testing.T) {
	for _, c := range []struct{ listen, gone string }{
		{"203.0.113.5:6000", "6000"}, {"6000", "6000"}, {"5999-6001", "6000"}, {"tcp+udp/6000,7000", "6000"}, {"0.0.0.0:6000", "6000"},
		{"udp/6000", ""}, {"192.168.1.1:6000", ""}, {"*", ""}, {"[::]:6000", ""},
	} {
		t.Run(c.listen, func(t *testing.T) {
			inHouse(t, &portmap.Spec{}, func(h *house) {
				h.want("pcp tcp 192.168.1.20:6000", "203.0.113.5:6000")
				op := admin(t, "op", c.listen)
				h.replace(op)
				_, still := h.At(forward.TCP, 6000)
				if still != (c.gone == "") {
					h.t.Fatalf("the lease is still there: %v", still)
				}
				if c.gone == "" {
					return
				}
				if !h.logged("gives way") {
					t.Error("that it gives way is not logged")
				}
				h.want("pcp tcp 192.168.1.20:6000 6000!", "the external port is taken")
				if r := h.ask("pcp tcp 192.168.1.20:6000 6000"); r.Err != nil {
					h.t.Error(r.Err)
				}
				if m, _ := h.ByKey(request(t, "pcp tcp 192.168.1.20:6000").Key); op.Listen.Ports.Contains(m.External) {
					t.Errorf("it got %d, which the operator has", m.External)
				}
				h.replace()
				h.want("pcp tcp 192.168.1.30:6000 6000!", "203.0.113.5:6000")
			})
		})
	}
}

func TestAddedForwardTakesALeasesPort(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.want("pcp tcp 192.168.1.20:6000", "203.0.113.5:6000")
		h.want("pcp tcp 192.168.1.20:6001", "203.0.113.5:6001")
		if _, err := h.table.Put(h.t.Context(), spec(t, "web", forward.OriginAPI, config.Spec{Listen: "6000", To: config.Strings{"192.168.1.9"}})); err != nil {
			t.Fatal(err)
		}
		if list := h.Of(one); len(list) != 1 || list[0].External != 6001 {
			t.Errorf("%+v", list)
		}
		if err := h.table.Delete(h.t.Context(), "lease-192.168.1.20-tcp-6001"); err != nil { // fairlead rm
			t.Fatal(err)
		}
		if list := h.Of(netip.Addr{}); len(list) != 0 {
			t.Errorf("%+v", list)
		}
		h.want("pcp tcp 192.168.1.20:6001", "203.0.113.5:6001") // its client asks again
	})
}

func TestPortsOfThisHost(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.busy[22], h.busy[443] = true, true
		h.want("upnp tcp 192.168.1.20:22 22!", "the external port is taken")
		h.want("natpmp tcp 192.168.1.20:22 22", "203.0.113.5:23")
		h.want("natpmp tcp 192.168.1.20:443", "203.0.113.5:444")
	})
}

// What the operator keeps for this host is no lease's, also while no program has it, and when it is kept later.
func TestReservedPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := map[uint16]bool{5000: true}
		var mu sync.Mutex
		h := newHouse(t, store.Memory(), &portmap.Spec{})
		h.Reserved = func(_ forward.Networks, at netip.AddrPort) bool {
			mu.Lock()
			defer mu.Unlock()
			return kept[at.Port()]
		}
		defer h.start().stop()
		h.want("natpmp udp 192.168.1.20:5000", "203.0.113.5:5001")
		h.want("natpmp udp 192.168.1.20:6000", "203.0.113.5:6000")
		mu.Lock()
		kept[6000] = true
		mu.Unlock()
		h.Configure(&portmap.Spec{})
		elapse(time.Second)
		if _, there := h.At(forward.UDP, 6000); there {
			t.Error("a lease has the port still")
		}
		h.want("natpmp udp 192.168.1.20:6000", "203.0.113.5:6001")
	})
}

// What is neither a host of the LAN nor anything but one gets nothing, whoever asks.
func TestInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, store.Memory(), &portmap.Spec{})
		h.Inside = func(addr netip.Addr) bool { return addr == one }
		defer h.start().stop()
		for _, r := range []string{"pcp tcp 192.168.1.1:22", "natpmp tcp 203.0.113.9:22", "pcp tcp [2001:db8:1::1]:22"} {
			if r := h.ask(r); !errors.Is(r.Err, portmap.ErrDenied) {
				t.Errorf("%v: %v", r.Internal, r.Err)
			}
		}
		h.want("pcp tcp 192.168.1.20:80", "203.0.113.5:80")
	})
}

func TestHostsChangeOnlyTheirOwn(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.want("pcp tcp 192.168.1.20:80 8000", "203.0.113.5:8000")
		key := request(t, "pcp tcp 192.168.1.20:80").Key
		foreign := request(t, "pcp tcp 192.168.1.20:80")
		foreign.Client = two
		if r := h.Map(h.t.Context(), []portmap.Request{foreign})[0]; !errors.Is(r.Err, portmap.ErrDenied) {
			t.Errorf("a mapping for another host: %v", r.Err)
		}
		if err := h.Unmap(h.t.Context(), two, key); !errors.Is(err, portmap.ErrDenied) {
			t.Errorf("Unmap by another: %v", err)
		}
		if err := h.UnmapAt(h.t.Context(), two, forward.TCP, 8000); !errors.Is(err, portmap.ErrDenied) {
			t.Errorf("UnmapAt by another: %v", err)
		}
		if err := h.UnmapAll(h.t.Context(), two, forward.TCP, portmap.PCP); err != nil {
			t.Error(err)
		}
		h.wantCarried("lease-192.168.1.20-tcp-80 tcp/203.0.113.5:8000 192.168.1.20:80")
		for range 2 { // what is not there is as wished
			if err := h.Unmap(h.t.Context(), one, key); err != nil {
				t.Error(err)
			}
		}
		h.wantCarried()
	})
}

func TestThirdParty(t *testing.T) {
	inHouse(t, &portmap.Spec{ThirdParty: true}, func(h *house) {
		r := request(t, "pcp tcp 192.168.1.20:80 8000")
		r.Client, r.Nonce = two, [12]byte{1}
		ask := func() error { return h.Map(h.t.Context(), []portmap.Request{r})[0].Err }
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		r.Nonce = [12]byte{2}
		if err := ask(); !errors.Is(err, portmap.ErrNonce) {
			t.Errorf("another nonce: %v", err)
		}
		r.Client, r.Nonce = netip.MustParseAddr("192.168.1.40"), [12]byte{1}
		if err := ask(); !errors.Is(err, portmap.ErrDenied) {
			t.Errorf("a fourth party: %v", err)
		}
		if list := h.Of(two); len(list) != 1 || list[0].Nonce != [12]byte{1} {
			t.Errorf("%+v", list)
		}
		// The host itself may take it over, and draws a new nonce each time.
		r.Client, r.Nonce = one, [12]byte{3}
		if err := ask(); err != nil {
			t.Error(err)
		}
		r.Nonce = [12]byte{4}
		if err := ask(); err != nil {
			t.Error(err)
		}
		if err := h.Unmap(h.t.Context(), two, r.Key); !errors.Is(err, portmap.ErrDenied) {
			t.Errorf("who asked first ends it: %v", err)
		}
	})
}

func TestUnmapAll(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.ask("natpmp tcp 192.168.1.20:1")
		h.ask("natpmp tcp 192.168.1.20:2")
		h.ask("natpmp udp 192.168.1.20:1")
		h.ask("upnp tcp 192.168.1.20:3")
		h.ask("natpmp tcp 192.168.1.30:1")
		if err := h.UnmapAll(h.t.Context(), one, forward.TCP, portmap.NATPMP); err != nil {
			t.Fatal(err)
		}
		h.wantCarried(
			"lease-192.168.1.20-tcp-3 tcp/203.0.113.5:3 192.168.1.20:3", "lease-192.168.1.20-udp-1 udp/203.0.113.5:1 192.168.1.20:1",
			"lease-192.168.1.30-tcp-1 tcp/203.0.113.5:4 192.168.1.30:1")
	})
}

// A client of UPnP may lead several external ports to one of its own, and one of them to another place.
func TestUPnPNamesExternalPorts(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.want("upnp tcp 192.168.1.20:80 8000!", "203.0.113.5:8000")
		h.want("upnp tcp 192.168.1.20:80 8001!", "203.0.113.5:8001")
		h.want("upnp tcp 192.168.1.20:80 8001!", "203.0.113.5:8001")
		h.want("pcp tcp 192.168.1.20:80 9000", "203.0.113.5:8000") // PCP knows of one
		h.want("pcp tcp 192.168.1.20:80 9000!", "the mapping has port 8000 already")
		h.wantCarried("lease-192.168.1.20-tcp-80 tcp/203.0.113.5:8000 192.168.1.20:80", "lease-192.168.1.20-tcp-80-at-8001 tcp/203.0.113.5:8001 192.168.1.20:80")
		outbound := 0
		for _, f := range h.table.Forwards() {
			outbound += b2i(f.Outbound)
		}
		if outbound != 1 {
			t.Errorf("%d of two mappings have the sessions that begin inside", outbound)
		}
		h.want("upnp tcp 192.168.1.20:81 8001!", "203.0.113.5:8001")
		h.wantCarried("lease-192.168.1.20-tcp-80 tcp/203.0.113.5:8000 192.168.1.20:80", "lease-192.168.1.20-tcp-81 tcp/203.0.113.5:8001 192.168.1.20:81")
		if err := h.UnmapAt(h.t.Context(), one, forward.TCP, 8000); err != nil {
			t.Error(err)
		}
		h.wantCarried("lease-192.168.1.20-tcp-81 tcp/203.0.113.5:8001 192.168.1.20:81")
	})
}

func TestPinhole(t *testing.T) {
	inHouse(t, &portmap.Spec{MaxClient: 2}, func(h *house) {
		h.want("pcp tcp [2001:db8:1::20]:443 1000", "[2001:db8:1::20]:443")
		h.want("pcp tcp [2001:db8:1::20]:444 1000!", "the port stays 444")
		h.want("pcp tcp [fe80::1]:444", "no mapping leads to")
		h.want("upnp udp [2001:db8:1::2020]:443", "[2001:db8:1::2020]:443") // the same host has many addresses
		h.want("pcp udp 192.168.1.20:1", "too many mappings")
		h.wantCarried("lease-2001-db8-1--20-tcp-443 tcp/[2001:db8:1::20]:443 [2001:db8:1::20]:443",
			"lease-2001-db8-1--2020-udp-443 udp/[2001:db8:1::2020]:443 [2001:db8:1::2020]:443")
		h.goTo(Outside{})
		if r := h.ask("pcp tcp [2001:db8:1::20]:443"); r.Err != nil {
			t.Errorf("IPv6 without an IPv4 address: %v", r.Err)
		}
	})
}

func TestFilter(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		r := request(t, "pcp tcp 192.168.1.20:80")
		r.From = []netip.Prefix{netip.MustParsePrefix("198.51.100.77/24"), netip.MustParsePrefix("::ffff:192.0.2.1/128"), netip.MustParsePrefix("2001:db8::/32")}
		if got := h.Map(h.t.Context(), []portmap.Request{r})[0]; got.Err != nil || len(got.From) != 2 || got.From[1].String() != "198.51.100.0/24" {
			t.Errorf("%+v", got)
		}
		r.From = r.From[2:]
		if got := h.Map(h.t.Context(), []portmap.Request{r})[0]; !errors.Is(got.Err, portmap.ErrDenied) {
			t.Errorf("nobody of this family: %+v", got)
		}
		r.From = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		if got := h.Map(h.t.Context(), []portmap.Request{r})[0]; got.Err != nil || got.From != nil {
			t.Errorf("everybody: %+v", got)
		}
	})
}

func TestMapMany(t *testing.T) {
	inHouse(t, &portmap.Spec{MaxClient: 1000}, func(h *house) {
		var all []portmap.Request
		for range 100 {
			all = append(all, request(t, "natpmp udp 192.168.1.20:5000 5000"), request(t, "natpmp udp 192.168.1.30:5000 5000"))
		}
		for i := range uint16(50) {
			r := request(t, "natpmp tcp 192.168.1.20:1 7000")
			r.Internal = netip.AddrPortFrom(one, 1+i)
			all = append(all, r)
		}
		all = append(all, request(t, "natpmp udp 192.168.1.40:0"))
		before, _ := h.carrier.counts()
		results := h.Map(h.t.Context(), all)
		if after, _ := h.carrier.counts(); after != before+1 {
			t.Errorf("%d cycles for one Map", after-before)
		}
		for i, r := range results {
			want := uint16(5000 + i%2)
			if i >= 200 {
				want = uint16(7000 + i - 200)
			}
			if i == 250 {
				if r.Err == nil {
					t.Error("port 0 was mapped")
				}
				continue
			}
			if r.Err != nil || r.External != want || r.Internal != all[i].Internal {
				t.Errorf("request %d: %+v", i, r)
			}
		}
		if list := h.Of(netip.Addr{}); len(list) != 52 {
			t.Errorf("%d leases", len(list))
		}
	})
}

func TestCarrierRefuses(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.carrier.refuse("lease-192.168.1.20-tcp-80", errors.New("no buffer space"))
		r := h.want("pcp tcp 192.168.1.20:80", "no buffer space")
		if !errors.Is(r.Err, portmap.ErrFailed) || len(h.Of(one)) > 0 || len(h.table.Forwards()) > 0 {
			t.Errorf("%v; %v are left", r.Err, h.Of(one))
		}
	})
}

func TestOff(t *testing.T) {
	inHouse(t, &portmap.Spec{}, func(h *house) {
		h.want("pcp tcp 192.168.1.20:80", "203.0.113.5:80")
		changed := h.Changed()
		elapse(time.Minute)
		h.Configure(nil)
		synctest.Wait()
		h.wantCarried()
		select {
		case <-changed:
		default:
			t.Error("nobody was told")
		}
		if h.Epoch() != 0 {
			t.Errorf("the epoch is %d", h.Epoch())
		}
		h.want("pcp tcp 192.168.1.20:80", "switched off")
	})
}

func TestStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, store.Memory(), &portmap.Spec{}).start()
		h.stop()
		if r := h.ask("pcp tcp 192.168.1.20:80"); !errors.Is(r.Err, portmap.ErrFailed) || !strings.Contains(r.Err.Error(), "stopping") {
			t.Errorf("after the end: %v", r.Err)
		}
	})
}
