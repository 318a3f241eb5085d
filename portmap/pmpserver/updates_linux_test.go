package pmpserver

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// TestUpdates tells a client that its mapping is another or gone, at the socket that asked and at the port of announcements, of both
// families; and nobody of what is mended or asked for again meanwhile.
func TestUpdates(t *testing.T) {
	h := newHome(t)
	for _, c := range []struct {
		client, gateway, network string
		six                      bool
	}{{client4, gateway4, "udp4", false}, {client4, gateway4b, "udp4", false}, {client6, gateway6, "udp6", true}} {
		t.Run(c.network+" "+c.gateway, func(t *testing.T) {
			asks := dialFrom(t, h.client, c.network, c.client, c.gateway)
			asks.ask(requestOf(c.client))
			conn, err := h.client.ListenPacket(c.network, netip.AddrPortFrom(netip.MustParseAddr(c.client), pcp.ClientPort).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			told := func(by func() []byte, lifetime bool, port uint16) {
				t.Helper()
				for {
					b := by()
					r, err := pcp.ParseResponse(b)
					if err != nil {
						t.Fatalf("%x: %v", b, err)
					}
					if r.Opcode != pcp.Map || r.Lifetime > 0 != lifetime { // of before
						continue
					}
					if r.Code != pcp.Success || r.Nonce != [12]byte{7} || r.Internal != 4000 || r.Protocol != pcp.ProtocolUDP || r.Epoch != h.desk.Epoch() {
						t.Errorf("told %+v", r)
					}
					if lifetime && !c.six && (r.External.Port() != port || r.External.Addr() != h.desk.outside) {
						if r.External.Port() == 4000 {
							continue // of before
						}
						t.Errorf("it leads to %s", r.External)
					}
					return
				}
			}
			atSocket := func() []byte { return asks.receive(patience) }
			atPort := func() []byte {
				b := make([]byte, 2000)
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				n, from, err := conn.ReadFrom(b)
				if err != nil {
					t.Fatal(err)
				}
				if at, _ := netip.ParseAddrPort(from.String()); at != netip.AddrPortFrom(netip.MustParseAddr(c.gateway), pcp.ServerPort) {
					t.Errorf("told by %s", at)
				}
				return b[:n]
			}
			key := portmap.Key{Network: forward.UDP, Internal: netip.AddrPortFrom(netip.MustParseAddr(c.client), 4000)}
			if !c.six {
				h.desk.alter(key, 4007)
				told(atSocket, true, 4007)
				told(atPort, true, 4007)
			}
			h.desk.alter(key, 0)
			told(atSocket, false, 0)
			told(atPort, false, 0)
			told(atSocket, false, 0) // again
		})
	}
}

// TestUpdatesAreBounded tells of a few mappings a beat, of each three times, of a client of no interface nothing, and of one that came
// again nothing more.
func TestUpdatesAreBounded(t *testing.T) {
	desk := newDesk()
	lo := loopback(t)
	s := New(Options{Desk: desk, Port: freePort(t), Places: func() []portmap.Place { return []portmap.Place{lo} }, Spec: portmap.Spec{Protocols: both}})
	doors, err := s.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	boxes := map[*door]*outbox{}
	for _, d := range doors {
		defer d.conn.Close()
		boxes[d] = &outbox{door: d}
	}
	var list []*notice
	for i := range 25 {
		client := netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)})
		m := portmap.Mapping{Request: portmap.Request{Protocol: portmap.PCP, Client: client, Key: portmap.Key{Network: forward.TCP, Internal: netip.AddrPortFrom(client, 80)}}}
		list = append(list, &notice{Alteration: portmap.Alteration{Mapping: m, Gone: true}})
	}
	back := list[24]
	desk.leases[back.Key] = back.Mapping
	sent := func() (n int) {
		for _, one := range list {
			n += one.sent
		}
		return n
	}
	left := list
	for beat := range 4 {
		left = s.tell(append([]*notice(nil), left...), boxes)
		if want := min(10*(beat+1), 24); sent() != want {
			t.Errorf("beat %d: %d were told, want %d", beat, sent(), want)
		}
	}
	if len(left) != 24 || back.sent != 0 {
		t.Errorf("%d are left, and of the one that came again %d were sent", len(left), back.sent)
	}
	for range 3 {
		for _, n := range left {
			n.next = time.Time{}
		}
		for range 3 {
			left = s.tell(append([]*notice(nil), left...), boxes)
		}
	}
	if len(left) != 0 || sent() != 24*updateTimes {
		t.Errorf("%d are left, and %d were told", len(left), sent())
	}
	stranger := portmap.Mapping{Request: portmap.Request{Client: netip.MustParseAddr("198.51.100.7")}}
	for d, l := range s.addressees(&stranger, s.o.Places(), boxes) {
		t.Errorf("a stranger is told by %v at %v", d, l)
	}
	if text := s.updateOf(&stranger, true, time.Now()); text == nil {
		t.Error("nothing to say")
	}
}

// TestHeardIsBounded forgets rather than grow.
func TestHeardIsBounded(t *testing.T) {
	var h heard
	a := &ask{}
	for i := range maxHeard + 10 {
		a.key.Internal = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 16), 1}), uint16(i))
		h.note(a, true)
	}
	if len(h.by) > maxHeard {
		t.Errorf("%d are remembered", len(h.by))
	}
	a.errand = errandUnmap
	h.note(a, true)
	if _, ok := h.of(a.key); ok {
		t.Error("one that was ended is remembered")
	}
}

// TestFewLengths bounds the different lengths of prefixes in the filters of one client.
func TestFewLengths(t *testing.T) {
	desk := newDesk()
	s := New(Options{Desk: desk, Spec: portmap.Spec{Protocols: both}})
	c := newClerk(s)
	ask := func(client string, port uint16, prefixes ...string) error {
		t.Helper()
		r := portmap.Request{Client: netip.MustParseAddr(client), Key: portmap.Key{Network: forward.UDP, Internal: netip.AddrPortFrom(netip.MustParseAddr(client), port)}}
		for _, p := range prefixes {
			r.From = append(r.From, netip.MustParsePrefix(p))
		}
		if err := c.fewLengths(&r); err != nil {
			return err
		}
		return desk.Map(context.Background(), []portmap.Request{r})[0].Err
	}
	if err := ask("192.168.1.20", 1, "198.51.100.0/24", "203.0.113.0/24", "10.0.0.0/8"); err != nil {
		t.Error(err)
	}
	for i, step := range []struct {
		port uint16
		from []string
		ok   bool
	}{
		{2, []string{"198.51.100.7/32", "198.51.0.0/16"}, true},
		{3, []string{"198.51.100.0/25"}, false},
		{3, []string{"198.51.100.0/24", "198.51.100.9/32"}, true},
		{2, []string{"198.51.100.0/24"}, true},
		{4, []string{"198.51.100.0/25", "198.51.100.9/32"}, true},
		{5, []string{"1.0.0.0/9"}, false},
		{6, []string{"1.0.0.0/9", "1.0.0.0/10", "1.0.0.0/11", "1.0.0.0/12", "1.0.0.0/13"}, false},
	} {
		if err := ask("192.168.1.20", step.port, step.from...); (err == nil) != step.ok || err != nil && !errors.Is(err, pcp.ExcessiveRemotePeers) {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if err := ask("192.168.1.21", 1, "1.0.0.0/9"); err != nil {
		t.Errorf("of another client: %v", err)
	}
}
