package pmpserver

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// mapRequest is what a client at 127.0.0.10 sends for a TCP port.
func mapRequest(port uint16, change func(*pcp.Request)) []byte {
	r := pcp.Request{Opcode: pcp.Map, Lifetime: 3600, Client: netip.MustParseAddr("127.0.0.10"), Mapping: pcp.Mapping{
		Nonce: [12]byte{1}, Protocol: pcp.ProtocolTCP, Internal: port, External: netip.AddrPortFrom(netip.IPv4Unspecified(), port),
	}}
	if change != nil {
		change(&r)
	}
	return pcp.AppendRequest(nil, &r)
}

func parse(t testing.TB, b []byte) pcp.Response {
	t.Helper()
	r, err := pcp.ParseResponse(b)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return r
}

func keyOf(port uint16) portmap.Key {
	return portmap.Key{Network: forward.TCP, Internal: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.10"), port)}
}

func TestFiltersAddUpUntilTheyAreDeleted(t *testing.T) {
	desk := newDesk()
	_, port := running(t, Options{Desk: desk})
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	a, b := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("192.0.2.7/32")
	everybody := netip.MustParsePrefix("0.0.0.0/0")
	for _, c := range []struct {
		name    string
		filters []pcp.Filter
		want    []netip.Prefix
	}{
		{"none yet", nil, nil},
		{"one", []pcp.Filter{{Prefix: a}}, []netip.Prefix{a}},
		{"another is added", []pcp.Filter{{Prefix: b}}, []netip.Prefix{a, b}},
		{"once more", []pcp.Filter{{Prefix: a}, {Prefix: b}}, []netip.Prefix{a, b}},
		{"a renewal keeps them", nil, []netip.Prefix{a, b}},
		{"deleted, then one", []pcp.Filter{{}, {Prefix: b}}, []netip.Prefix{b}},
		{"one, then deleted", []pcp.Filter{{Prefix: a}, {}}, nil},
		{"all of IPv4", []pcp.Filter{{Prefix: everybody}}, []netip.Prefix{everybody}},
		{"deleted", []pcp.Filter{{}}, nil},
	} {
		r := parse(t, h.ask(mapRequest(8080, func(r *pcp.Request) { r.Filters = c.filters })))
		m, _ := desk.ByKey(keyOf(8080))
		if r.Code != pcp.Success || !slices.Equal(m.From, c.want) || len(r.Filters) != len(c.filters) {
			t.Errorf("%s: %v, from %v, and %d filters are answered; want %v", c.name, r.Code, m.From, len(r.Filters), c.want)
		}
	}
	var many []pcp.Filter
	for i := range 40 {
		many = append(many, pcp.Filter{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)})
	}
	h.ask(mapRequest(8080, func(r *pcp.Request) { r.Filters = many }))
	for i := range many {
		many[i].Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 3, byte(i)}), 32)
	}
	if r := parse(t, h.ask(mapRequest(8080, func(r *pcp.Request) { r.Filters = many }))); r.Code != pcp.ExcessiveRemotePeers {
		t.Errorf("80 filters: %v", r.Code)
	}
	// A port of the peer is no part of a filter that can be made (sections 7.4 and 13.3): the mapping stays as it is, and to ask again
	// soon is of no use.
	h.ask(mapRequest(8080, func(r *pcp.Request) { r.Filters = []pcp.Filter{{}, {Prefix: a}} }))
	for _, filters := range [][]pcp.Filter{{{Prefix: b, Port: 443}}, {{}, {Prefix: b}, {Prefix: everybody, Port: 1}}} {
		r := parse(t, h.ask(mapRequest(8080, func(r *pcp.Request) { r.Filters = filters })))
		m, _ := desk.ByKey(keyOf(8080))
		if r.Code != pcp.ExcessiveRemotePeers || r.Lifetime != 1800 || !slices.Equal(m.From, []netip.Prefix{a}) || r.Nonce == [12]byte{} {
			t.Errorf("%v: %+v, and from %v", filters, r, m.From)
		}
	}
	// Nor are more lengths of prefixes than a few.
	lengths := []pcp.Filter{{}}
	for bits := 20; bits < 25; bits++ {
		lengths = append(lengths, pcp.Filter{Prefix: netip.PrefixFrom(a.Addr(), bits)})
	}
	if r := parse(t, h.ask(mapRequest(8080, func(r *pcp.Request) { r.Filters = lengths }))); r.Code != pcp.ExcessiveRemotePeers {
		t.Errorf("5 lengths: %v", r.Code)
	}
	if r := parse(t, h.ask(mapRequest(8080, func(r *pcp.Request) { r.Filters = lengths[:5] }))); r.Code != pcp.Success {
		t.Errorf("4 lengths: %v", r.Code)
	}
}

func TestRequestsSayWhoAsks(t *testing.T) {
	desk := newDesk()
	_, port := running(t, Options{Desk: desk, Spec: portmap.Spec{ThirdParty: true}})
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	third := netip.MustParseAddr("192.168.1.11")
	h.ask(mapRequest(8080, func(r *pcp.Request) { r.ThirdParty, r.PreferFailure = third, true }))
	got := desk.Of(netip.Addr{})
	if len(got) != 1 {
		t.Fatalf("%d mappings", len(got))
	}
	if r := got[0].Request; r.Client.String() != "127.0.0.10" || r.Internal.Addr() != third || r.Interface != "lo" || !r.Exact || r.Nonce != [12]byte{1} ||
		r.External != 8080 || r.Lifetime.Seconds() != 3600 || r.Protocol != portmap.PCP {
		t.Errorf("the Desk was asked %+v", r)
	}
}

// TestASlowDeskKeepsNobodyWaiting has a Desk that does not answer, and what needs no Desk goes on; what came meanwhile is one batch.
func TestASlowDeskKeepsNobodyWaiting(t *testing.T) {
	desk := newDesk()
	hold := make(chan struct{})
	desk.hold, desk.entered = hold, make(chan struct{}, 1)
	s, port := running(t, Options{Desk: desk})
	greedy, other := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port), dial(t, "udp4", "127.0.0.11", "127.0.0.1", port)
	other.ask([]byte{0, 0})
	before := s.Stats().Foreign // what comes before the socket tells interfaces is nobody's, and is asked again
	greedy.send(mapRequest(1999, nil))
	<-desk.entered
	desk.set(func(d *fakeDesk) { d.hold = nil })
	const many = 300
	for i := range many {
		greedy.send(mapRequest(uint16(2000+i), nil))
		greedy.send(mapRequest(uint16(2000+i), nil)) // it asks again, and is answered once
		other.ask([]byte{0, 0})                      // answered all the while, and so nothing is lost on the way
	}
	eventually(t, "everything has been read", func() bool { return s.Stats().Requests >= 3*many })
	other.send([]byte{0, 1, 0, 0, 0x10, 0, 0x10, 0, 0, 0, 0x0e, 0x10})
	close(hold)
	if b := other.receive(patience); len(b) != 16 {
		t.Errorf("the other client hears %x", b)
	}
	for range many + 1 {
		if b := greedy.receive(patience); len(b) != 60 {
			t.Fatalf("an answer is %x", b)
		}
	}
	if b := greedy.receive(silence); b != nil {
		t.Errorf("one answer too many: %x", b)
	}
	if got := s.Stats(); got.Crowded != 0 || got.Limited != 0 || got.Foreign != before {
		t.Errorf("%+v", got)
	}
	if len(desk.batches) > 4 {
		t.Errorf("the Desk was asked for %v", desk.batches)
	}
}

// TestDeletionsKeepTheirOrder sends a mapping and its deletion while the Desk is busy.
func TestDeletionsKeepTheirOrder(t *testing.T) {
	desk := newDesk()
	hold := make(chan struct{})
	desk.hold, desk.entered = hold, make(chan struct{}, 1)
	_, port := running(t, Options{Desk: desk})
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	h.ask([]byte{0, 0})
	h.send(mapRequest(1, nil))
	<-desk.entered
	desk.set(func(d *fakeDesk) { d.hold = nil })
	deletion := mapRequest(3000, func(r *pcp.Request) { r.Lifetime = 0 })
	h.send(mapRequest(3000, nil))
	h.send(deletion)
	h.send(mapRequest(3001, nil))
	h.send([]byte{0, 2, 0, 0, 0, 77, 0, 0, 0, 0, 0x0e, 0x10}) // by NAT-PMP, and then all of that
	h.send([]byte{0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	h.ask([]byte{0, 0})
	close(hold)
	for range 6 {
		if h.receive(patience) == nil {
			t.Fatal("an answer is missing")
		}
	}
	var ports []uint16
	for _, m := range desk.Of(netip.Addr{}) {
		ports = append(ports, m.Internal.Port())
	}
	if !slices.Equal(ports, []uint16{1, 3001}) {
		t.Errorf("left are %v", ports)
	}
}

func TestTooManyRequestsOfOneClientAreDropped(t *testing.T) {
	s, port := running(t, Options{Desk: newDesk(), Rate: 10})
	h, other := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port), dial(t, "udp4", "127.0.0.11", "127.0.0.1", port)
	other.ask([]byte{0, 0})
	for range 100 {
		h.send([]byte{0, 0})
	}
	eventually(t, "they are read", func() bool { got := s.Stats(); return got.Requests > 100 })
	if got := s.Stats(); got.Limited < 50 {
		t.Errorf("%+v", got)
	}
	other.ask([]byte{0, 0})
}

func TestFaultsAreAnsweredSeldom(t *testing.T) {
	s, port := running(t, Options{Desk: newDesk()})
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	h.ask([]byte{0, 0})
	for range 20 * faultRate {
		h.send([]byte{2, 9})
	}
	h.ask([]byte{0, 0})
	eventually(t, "they are read", func() bool { return s.Stats().Requests >= 20*faultRate })
	if got := s.Stats(); got.Limited < 5*faultRate {
		t.Errorf("%+v", got)
	}
}

// TestTheSameRequestAgain sends it as soon as the answer is there: that is no repetition.
func TestTheSameRequestAgain(t *testing.T) {
	_, port := running(t, Options{Desk: newDesk()})
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	request := mapRequest(8080, nil)
	h.ask([]byte{0, 0})
	for i := range 2000 {
		h.send(request)
		if h.receive(patience) == nil {
			t.Fatalf("no answer to the request %d", i)
		}
	}
}

// TestAnEndRefusesNobody stops a server whose Desk is busy, and starts it again.
func TestAnEndRefusesNobody(t *testing.T) {
	desk := newDesk()
	desk.hold, desk.entered, desk.refuse = make(chan struct{}), make(chan struct{}, 1), portmap.ErrFailed
	port := freePort(t)
	lo := loopback(t)
	s := New(Options{Desk: desk, Port: port, Places: func() []portmap.Place { return []portmap.Place{lo} }, Spec: portmap.Spec{Protocols: both}})
	run := func(f func() error) error { return f() }
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	stop := start(t, s, run)
	h.ask([]byte{0, 0})
	h.send(mapRequest(8080, nil))
	<-desk.entered
	h.send(mapRequest(8081, nil))
	h.ask([]byte{0, 0})
	stop()
	if b := h.receive(silence); b != nil {
		t.Errorf("the end is told by %x", b)
	}
	desk.set(func(d *fakeDesk) { d.hold, d.refuse = nil, nil })
	start(t, s, run)
	if r := parse(t, h.ask(mapRequest(8081, nil))); r.Code != pcp.Success {
		t.Errorf("after the start: %v", r.Code)
	}
}

func TestPortIsTaken(t *testing.T) {
	_, port := running(t, Options{Desk: newDesk()})
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	h.ask([]byte{0, 0})
	err := New(Options{Desk: newDesk(), Port: port, Places: func() []portmap.Place { return nil }}).Run(t.Context())
	if err == nil {
		t.Fatal("two servers have one port")
	}
	t.Log(err)
}

// TestNobodyElseIsServed has no place at all.
func TestNobodyElseIsServed(t *testing.T) {
	places := make(chan []portmap.Place, 1)
	places <- nil
	s, port := running(t, Options{Desk: newDesk(), Places: func() []portmap.Place { p := <-places; places <- p; return p }})
	h := dial(t, "udp4", "127.0.0.10", "127.0.0.1", port)
	eventually(t, "messages are dropped", func() bool { h.send([]byte{0, 0}); return s.Stats().Foreign > 0 })
	if b := h.receive(silence); b != nil {
		t.Fatalf("answered with %x", b)
	}
	<-places
	places <- []portmap.Place{loopback(t)}
	h.ask([]byte{0, 0}) // and it is, when the interface is there
	<-places
	places <- nil
	for h.receive(silence) != nil {
	}
	h.send([]byte{0, 0})
	if b := h.receive(silence); b != nil {
		t.Errorf("answered with %x when the interface had gone", b)
	}
}
