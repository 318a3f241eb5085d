package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// A sharedHost is this host, whose hub has one of the ports: who listens there, too, gets those who call one of its names.
type sharedHost struct {
	*host.Node
	doors *doors
}

// Bind returns the same with its listeners held to b.
func (s *sharedHost) Bind(b node.Binding) node.Node {
	bound := &host.Node{}
	if n, ok := s.Node.Bind(b).(*host.Node); ok {
		bound = n
	}
	if b.Interface != "" {
		return bound
	}
	return &sharedHost{bound, s.doors}
}

// Listen listens at the hub's port by way of the hub, and elsewhere by itself.
func (s *sharedHost) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	if strings.HasPrefix(network, "tcp") {
		if d := s.doors.open(addr); d != nil {
			return d, nil
		}
	}
	return s.Node.Listen(ctx, network, addr)
}

// Shares reports whether a listener at an address is a door.
func (s *sharedHost) Shares(addr string) bool { return s.doors.leads(addr) }

// SharedPort is the hub's.
func (s *sharedHost) SharedPort() uint16 {
	s.doors.mu.Lock()
	defer s.doors.mu.Unlock()
	return s.doors.at.Port()
}

var _ node.Sharer = (*sharedHost)(nil)

// doors are the listeners that forwards with names have at the hub's port.
type doors struct {
	list func() []*forward.Forward // of the table

	mu    sync.Mutex
	at    netip.AddrPort // of the hub, address zero for all; zero: there is none
	all   []*door
	names []string // that forwards have there
	asked time.Time
}

// How old the names may be that visitors are compared with, and how old when one has called none of them: anybody can do that.
const (
	doorNews = time.Second
	doorMiss = 20 * time.Millisecond
)

// settle says where the hub listens now.
func (d *doors) settle(want *config.Hub) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := netip.AddrPort{}
	if want != nil && slices.ContainsFunc(want.Transports, func(t string) bool { return t != link.QUIC }) {
		at = netip.AddrPortFrom(want.Listen.Addr, portRange(want.Listen).First)
	}
	if at == d.at {
		return
	}
	d.at = at
	for _, one := range d.all { // who listened there opens it again
		one.shut()
	}
	d.all = nil
}

// has reports whether a place of this host is the hub's port, which is nobody else's but for names.
func (d *doors) has(l forward.Listen) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at.Port() == 0 || l.IsUnix() || l.Networks&forward.TCP == 0 || !l.Ports.Contains(d.at.Port()) {
		return false
	}
	hub := d.at.Addr()
	return !hub.IsValid() || hub.IsUnspecified() || !l.Addr.IsValid() || l.Addr.IsUnspecified() || l.Addr == hub
}

// own is l where the hub listens at one address alone, and l is its port of every address: an agent does not know.
func (d *doors) own(l forward.Listen) forward.Listen {
	d.mu.Lock()
	defer d.mu.Unlock()
	if portRange(l).First == d.at.Port() && !l.Addr.IsValid() && d.at.Addr().IsValid() && !d.at.Addr().IsUnspecified() {
		l.Addr = d.at.Addr()
	}
	return l
}

// open is a listener at the hub's port, or nil where that is another one.
func (d *doors) open(addr string) *door {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.whereLocked(addr)
	if !ok {
		return nil
	}
	one := &door{at: at, come: make(chan net.Conn, 128), closed: make(chan struct{})}
	d.all = append(d.all, one)
	return one
}

// leads reports whether open would return a door.
func (d *doors) leads(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.whereLocked(addr)
	return ok
}

// whereLocked is an address of package net, if the hub has it.
func (d *doors) whereLocked(addr string) (at netip.AddrPort, ok bool) {
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return at, false
	}
	var ip netip.Addr
	if name != "" {
		if ip, err = netip.ParseAddr(name); err != nil {
			return at, false
		}
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil || uint16(n) != d.at.Port() || n == 0 {
		return at, false
	}
	hub := d.at.Addr()
	return netip.AddrPortFrom(ip, uint16(n)), !hub.IsValid() || hub.IsUnspecified() || hub == ip
}

// visit gives somebody who has come to the hub's port to the forward that he calls by its name, and reports whether there is one.
func (d *doors) visit(v *link.Visitor, first link.First) bool {
	name := forward.NameCalled(first.ServerName)
	if name == "" || !first.TLS && first.Path == link.WellKnown { // agents come by the hub's own name, or by a proxy's
		return false
	}
	local, _ := v.LocalAddr().(*net.TCPAddr)
	if local == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = slices.DeleteFunc(d.all, (*door).isShut)
	if len(d.all) == 0 || !d.hasLocked(name) {
		return false
	}
	to := d.all[0]
	for _, one := range d.all {
		if one.at.Addr() == local.AddrPort().Addr().Unmap() {
			to = one
		}
	}
	select {
	case to.come <- v:
	default: // as a full queue of the kernel's would
		_ = v.Close()
	}
	return true
}

// awaitEmpty waits until all who have come are accepted, or for so long.
func (d *doors) awaitEmpty(most time.Duration) {
	waits := func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.ContainsFunc(d.all, func(o *door) bool { return !o.isShut() && len(o.come) > 0 })
	}
	for end := time.Now().Add(most); waits() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// hasLocked reports whether a forward has a name at the port. One that nobody has may have come just now: an authority that is asked for a
// certificate calls at once.
func (d *doors) hasLocked(name string) bool {
	d.learnLocked(doorNews)
	if d.knowsLocked(name) {
		return true
	}
	d.learnLocked(doorMiss)
	return d.knowsLocked(name)
}

// learnLocked asks for the names if they are older than that.
func (d *doors) learnLocked(most time.Duration) {
	now := time.Now()
	if now.Sub(d.asked) <= most {
		return
	}
	d.names, d.asked = nil, now
	for _, f := range d.list() {
		if !f.Disabled && f.ListensAt() == forward.Host && f.Listen.Ports.Contains(d.at.Port()) {
			d.names = append(d.names, f.Hosts...)
		}
	}
	slices.Sort(d.names)
}

func (d *doors) knowsLocked(name string) bool {
	_, above, _ := strings.Cut(name, ".")
	for _, one := range []string{name, "*." + above} {
		if _, found := slices.BinarySearch(d.names, one); found {
			return true
		}
	}
	return false
}

// A door is one listener at the hub's port.
type door struct {
	at     netip.AddrPort
	come   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (o *door) Accept() (net.Conn, error) {
	select {
	case c := <-o.come:
		return c, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}

func (o *door) Close() error {
	o.shut()
	return nil
}

func (o *door) shut() { o.once.Do(func() { close(o.closed) }) }

func (o *door) isShut() bool {
	select {
	case <-o.closed:
		return true
	default:
		return false
	}
}

func (o *door) Addr() net.Addr {
	at := o.at.Addr()
	if !at.IsValid() {
		at = netip.IPv6Unspecified()
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, o.at.Port()))
}
