package publish

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// A fakeNet is a network of fake gateways, over pipes: for a bubble of synctest.
type fakeNet struct {
	mu       sync.Mutex
	routes   []Route
	addrs    []Address
	gateways map[netip.Addr]*fakeGateway
	hops     map[int]netip.Addr
	hearing  map[int]func(Heard)
	ears     int
	asked    int // searches
}

var (
	home    = netip.MustParseAddr("192.168.1.10")
	homeGW  = netip.MustParseAddr("192.168.1.1")
	outerGW = netip.MustParseAddr("10.7.7.1")
	between = netip.MustParseAddr("10.7.7.2")
	front   = netip.MustParseAddr("198.41.0.4")
)

// newFakeNet is a host behind one gateway.
func newFakeNet(g *fakeGateway) *fakeNet {
	g.mappings, g.started = map[mapKey]mapEntry{}, time.Now().Add(-time.Hour)
	return &fakeNet{
		routes:   []Route{{Interface: "eth0", Gateway: homeGW}},
		addrs:    []Address{{Interface: "eth0", Prefix: netip.PrefixFrom(home, 24)}},
		gateways: map[netip.Addr]*fakeGateway{homeGW: g}, hops: map[int]netip.Addr{}, hearing: map[int]func(Heard){},
	}
}

// behind adds a gateway that is reached through the others, and sees the host as they do.
func (f *fakeNet) behind(addr, client netip.Addr, g *fakeGateway) {
	g.mappings, g.started, g.client = map[mapKey]mapEntry{}, time.Now().Add(-time.Hour), client
	f.gateways[addr] = g
}

func (f *fakeNet) Routes() ([]Route, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.routes), nil
}

func (f *fakeNet) Addresses() ([]Address, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.addrs), nil
}

func (f *fakeNet) Hop(_ context.Context, _ netip.Addr, n int) (netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.hops[n]; ok {
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("hop %d is silent", n)
}

func (f *fakeNet) at(addr netip.Addr) *fakeGateway {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gateways[addr.WithZone("")]
}

func (f *fakeNet) Dial(_ context.Context, network string, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	g := f.at(to.Addr())
	if g == nil {
		if network == "tcp" {
			return nil, syscall.EHOSTUNREACH
		}
		g = &fakeGateway{off: true}
	}
	if network == "tcp" && (g.isOff() || g.igd == 0 || to.Port() != g.port()) {
		return nil, syscall.ECONNREFUSED
	}
	if g.client.IsValid() {
		from = g.client
	}
	here, there := net.Pipe()
	if network == "tcp" {
		go g.serveHTTP(there, from)
	} else {
		go g.servePMP(there, from)
	}
	return here, nil
}

func (f *fakeNet) Ask(ctx context.Context, _ Address, questions []Datagram, hear func(Heard) bool) error {
	f.mu.Lock()
	f.asked++
	f.mu.Unlock()
	for _, q := range questions {
		m, err := ssdp.Parse(q.Payload)
		if err != nil {
			panic(err)
		}
		f.mu.Lock()
		var answers []Heard
		for addr, g := range f.gateways {
			if !g.isOff() && g.igd > 0 && (addr == q.To.Addr() || q.To.Addr().IsMulticast() && !g.client.IsValid()) {
				answers = append(answers, Heard{addr, g.answer(addr, m.Target, ssdp.Answer)})
			}
		}
		f.mu.Unlock()
		for _, a := range answers {
			if !hear(a) {
				return nil
			}
		}
	}
	<-ctx.Done()
	return nil
}

func (f *fakeNet) Listen(ctx context.Context, _ string, group netip.AddrPort, hear func(Heard)) error {
	f.mu.Lock()
	f.ears++
	id := f.ears
	f.hearing[id*10000+int(group.Port())] = hear
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hearing, id*10000+int(group.Port()))
	return nil
}

// notice sends a datagram to a group.
func (f *fakeNet) notice(port uint16, h Heard) {
	f.mu.Lock()
	var list []func(Heard)
	for id, hear := range f.hearing {
		if id%10000 == int(port) {
			list = append(list, hear)
		}
	}
	f.mu.Unlock()
	for _, hear := range list {
		hear(h)
	}
}

type mapKey struct {
	network  forward.Networks
	external uint16
}

type mapEntry struct {
	client   netip.Addr
	internal uint16
	lease    time.Duration
	nonce    [12]byte
}

// A fakeGateway speaks what it is told to. It counts what it is asked.
type fakeGateway struct {
	pcp, natpmp bool
	igd         int // the version; 0: none
	firewall    bool
	external    netip.Addr
	client      netip.Addr // whom it sees, whoever asks
	off         bool
	lease       time.Duration // the longest; 0: what is asked for
	permanent   bool          // UPnP: error 725 for leases
	steals      bool          // UPnP: gives a port to whoever comes last
	lies        bool          // grants and keeps nothing
	code        int           // every mapping is refused with this code
	garble      func([]byte) []byte
	location    string // in answers to searches
	gen         int    // of its HTTP server

	mu       sync.Mutex
	mappings map[mapKey]mapEntry
	started  time.Time
	adds     int
	pinholes map[int]upnp.Pinhole
}

// restart forgets everything.
func (g *fakeGateway) restart() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mappings, g.pinholes, g.started = map[mapKey]mapEntry{}, nil, time.Now()
	g.gen++
}

func (g *fakeGateway) epoch() uint32 { return uint32(time.Since(g.started) / time.Second) }

func (g *fakeGateway) port() uint16 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return 5000 + uint16(g.gen)
}

// turn switches it on or off.
func (g *fakeGateway) turn(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.off = !on
}

func (g *fakeGateway) isOff() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.off
}

// count is how many mappings there are.
func (g *fakeGateway) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.mappings)
}

func (g *fakeGateway) asked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.adds
}

func (g *fakeGateway) servePMP(conn net.Conn, from netip.Addr) {
	defer conn.Close()
	buf := make([]byte, 2048)
	answers := make(chan []byte, 16) // a datagram does not wait for who reads it
	defer close(answers)
	go func() {
		for out := range answers {
			_, _ = conn.Write(out)
		}
	}()
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if g.isOff() {
			continue
		}
		g.mu.Lock()
		var out []byte
		if buf[0] == pcp.Version && g.pcp {
			out = g.answerPCP(buf[:n], from)
		} else if buf[0] == natpmp.Version && g.natpmp {
			out = g.answerNATPMP(buf[:n], from)
		}
		g.mu.Unlock()
		if g.garble != nil && out != nil { // which may take its time
			out = g.garble(out)
		}
		if out != nil {
			answers <- out
		}
	}
}

func (g *fakeGateway) answerPCP(b []byte, from netip.Addr) []byte {
	q, err := pcp.ParseRequest(b)
	if err != nil {
		return nil
	}
	r := pcp.Response{Opcode: q.Opcode, Epoch: g.epoch(), Mapping: q.Mapping, Lifetime: q.Lifetime}
	if q.Opcode != pcp.Map {
		return pcp.AppendResponse(nil, &r)
	}
	network := forward.TCP
	if q.Protocol == pcp.ProtocolUDP {
		network = forward.UDP
	}
	switch {
	case q.Client != from:
		r.Code = pcp.AddressMismatch
	case g.code != 0:
		r.Code = pcp.Code(g.code)
	case q.Lifetime == 0:
		g.drop(network, from, q.Internal)
	default:
		external := g.put(network, from, q.Internal, q.External.Port(), time.Duration(q.Lifetime)*time.Second, q.Nonce)
		r.Lifetime = uint32(g.life(time.Duration(q.Lifetime)*time.Second) / time.Second)
		r.External = netip.AddrPortFrom(g.external, external)
		if from.Is6() {
			r.External = netip.AddrPortFrom(from, q.Internal)
		}
	}
	return pcp.AppendResponse(nil, &r)
}

func (g *fakeGateway) answerNATPMP(b []byte, from netip.Addr) []byte {
	q, err := natpmp.ParseRequest(b)
	if err != nil {
		return nil
	}
	r := natpmp.Response{Opcode: q.Opcode, Epoch: g.epoch(), Address: g.external, Internal: q.Internal}
	network := forward.TCP
	if q.Opcode == natpmp.MapUDP {
		network = forward.UDP
	}
	switch {
	case q.Opcode == natpmp.Address:
		if !g.external.IsValid() {
			r.Code = natpmp.NetworkFailure
		}
	case g.code != 0:
		r.Code = natpmp.Code(g.code)
	case q.Lifetime == 0:
		g.drop(network, from, q.Internal)
	default:
		r.External = g.put(network, from, q.Internal, q.External, time.Duration(q.Lifetime)*time.Second, [12]byte{})
		r.Lifetime = uint32(g.life(time.Duration(q.Lifetime)*time.Second) / time.Second)
	}
	return natpmp.AppendResponse(nil, &r)
}

func (g *fakeGateway) life(d time.Duration) time.Duration {
	if g.lease > 0 {
		return min(d, g.lease)
	}
	return d
}

func (g *fakeGateway) drop(n forward.Networks, client netip.Addr, internal uint16) {
	for k, e := range g.mappings {
		if k.network == n && e.client == client && (e.internal == internal || internal == 0) {
			delete(g.mappings, k)
		}
	}
}

// put maps, at another port if the one that is wished for is taken.
func (g *fakeGateway) put(n forward.Networks, client netip.Addr, internal, external uint16, life time.Duration, nonce [12]byte) uint16 {
	g.adds++
	for k, e := range g.mappings {
		if k.network == n && e.client == client && e.internal == internal {
			external = k.external
		}
	}
	if external == 0 {
		external = 40000
	}
	for {
		e, taken := g.mappings[mapKey{n, external}]
		if !taken || e.client == client && e.internal == internal {
			break
		}
		external++
	}
	if !g.lies {
		g.mappings[mapKey{n, external}] = mapEntry{client, internal, g.life(life), nonce}
	}
	return external
}
