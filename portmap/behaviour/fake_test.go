package behaviour

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/fairlead-net/fairlead/portmap/stun"
)

// A fakeNAT is a network with this host, a NAT and a server outside. Nothing takes time in it but being silent.
type fakeNAT struct {
	mapping, filter Rule
	hairpin         bool
	lose            int                          // so many of each port's packets get lost at first
	blocks          func(to netip.AddrPort) bool // what is sent there does not arrive
	server          fakeServer
	unreachable     error

	mu    sync.Mutex
	next  uint16
	hosts map[netip.AddrPort]*fakeConn               // by where they are inside
	out   map[[2]netip.AddrPort]netip.AddrPort       // from inside and, as far as it counts, a destination, to outside
	in    map[netip.AddrPort]netip.AddrPort          // from outside to inside
	sent  map[netip.AddrPort]map[netip.AddrPort]bool // whom a port inside has sent to
	asked map[netip.AddrPort]bool                    // the server's ports that were
	open  int                                        // sockets
}

// A fakeServer is how the server is.
type fakeServer struct {
	alone       bool           // it has one address
	other       netip.AddrPort // that it says it has, if not its own
	keeps       bool           // it answers from where it was asked, whatever it was told
	code        int            // it refuses
	says        netip.AddrPort // what it sees, if not what it sees
	refusesMore int            // a code for CHANGE-REQUEST
}

var (
	inside    = netip.MustParseAddr("192.168.1.20")
	publicIP  = netip.MustParseAddr("198.41.0.4")
	primary   = netip.MustParseAddrPort("198.41.0.9:3478")
	secondary = netip.MustParseAddrPort("198.41.0.10:3479")
)

func (f *fakeNAT) Source(netip.AddrPort) (netip.Addr, error) { return inside, f.unreachable }

func (f *fakeNAT) Listen(local netip.Addr) (Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hosts == nil {
		f.hosts, f.out, f.in = map[netip.AddrPort]*fakeConn{}, map[[2]netip.AddrPort]netip.AddrPort{}, map[netip.AddrPort]netip.AddrPort{}
		f.sent, f.asked = map[netip.AddrPort]map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
	}
	f.next++
	c := &fakeConn{net: f, local: netip.AddrPortFrom(local, 40000+f.next), queue: make(chan packet, 100), closed: make(chan struct{}), lose: f.lose}
	f.hosts[c.local] = c
	f.sent[c.local] = map[netip.AddrPort]bool{}
	f.open++
	return c, nil
}

// send carries a packet of a host.
func (f *fakeNAT) send(from, to netip.AddrPort, payload []byte) {
	f.sent[from][to] = true
	if f.blocks != nil && f.blocks(to) {
		return
	}
	seen := f.translate(from, to)
	if _, ours := f.in[to]; ours {
		if f.hairpin {
			f.receive(seen, to, payload)
		}
		return
	}
	f.serve(seen, to, payload)
}

// translate is what a destination sees.
func (f *fakeNAT) translate(from, to netip.AddrPort) netip.AddrPort {
	k := [2]netip.AddrPort{from}
	switch f.mapping {
	case None:
		f.in[from] = from
		return from
	case Address:
		k[1] = netip.AddrPortFrom(to.Addr(), 0)
	case AddressPort:
		k[1] = to
	}
	if _, ok := f.out[k]; !ok {
		f.next++
		f.out[k] = netip.AddrPortFrom(publicIP, 50000+f.next)
		f.in[f.out[k]] = from
	}
	return f.out[k]
}

// receive carries a packet to a host.
func (f *fakeNAT) receive(from, to netip.AddrPort, payload []byte) {
	host, ok := f.in[to]
	if !ok {
		return
	}
	for whom := range f.sent[host] {
		if f.filter == Endpoint || f.filter == Address && whom.Addr() == from.Addr() || whom == from {
			f.hosts[host].queue <- packet{from, payload}
			return
		}
	}
}

// serve is the server.
func (f *fakeNAT) serve(from, to netip.AddrPort, payload []byte) {
	m, err := stun.Parse(payload)
	if err != nil || m.Class != stun.Request {
		panic("no request")
	}
	there := to.Addr() == primary.Addr() || to.Addr() == secondary.Addr()
	if !there || f.server.alone && to != primary {
		f.asked[to] = true
		return
	}
	f.asked[to] = true
	r := stun.Message{Class: stun.Success, ID: m.ID, Mapped: from, Origin: to}
	if !f.server.alone {
		r.Other = secondary
	}
	if f.server.other.IsValid() {
		r.Other = f.server.other
	}
	if f.server.says.IsValid() {
		r.Mapped = f.server.says
	}
	if f.server.code != 0 {
		r = stun.Message{Class: stun.Failure, ID: m.ID, Code: f.server.code}
	}
	by := to
	if m.ChangePort && f.server.refusesMore != 0 {
		r = stun.Message{Class: stun.Failure, ID: m.ID, Code: f.server.refusesMore}
	} else if !f.server.keeps {
		if m.ChangeAddr {
			by = netip.AddrPortFrom(secondary.Addr(), by.Port())
		}
		if m.ChangePort {
			by = netip.AddrPortFrom(by.Addr(), secondary.Port())
		}
	}
	f.receive(by, from, []byte("no STUN"))
	other := r
	other.ID[0]++
	f.receive(by, from, stun.Append(nil, &other)) // somebody guesses
	f.receive(by, from, stun.Append(nil, &r))
	f.receive(by, from, stun.Append(nil, &r)) // it has come twice
}

type packet struct {
	from    netip.AddrPort
	payload []byte
}

type fakeConn struct {
	net    *fakeNAT
	local  netip.AddrPort
	queue  chan packet
	closed chan struct{}
	lose   int
}

func (c *fakeConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	select {
	case p := <-c.queue:
		if p.payload == nil {
			return 0, netip.AddrPort{}, errors.New("port unreachable")
		}
		return copy(b, p.payload), p.from, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (c *fakeConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.lose > 0 {
		c.lose--
		c.queue <- packet{}
		return 0, errors.New("no buffer space")
	}
	c.net.send(c.local, to, append([]byte(nil), b...))
	return len(b), nil
}

func (c *fakeConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.local) }

func (c *fakeConn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.net.open--
	close(c.closed)
	return nil
}
