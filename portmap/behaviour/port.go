package behaviour

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap/stun"
)

// A Conn is what is needed of a UDP socket. *net.UDPConn has it.
type Conn interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// A Network is where ports are opened. System is the real one.
type Network interface {
	// Source is the address of this host by which it talks to a server. Nothing is sent.
	Source(server netip.AddrPort) (netip.Addr, error)
	// Listen opens any UDP port of an address of this host.
	Listen(local netip.Addr) (Conn, error)
}

// System is the network that this host is in.
type System struct{}

// Source asks the routes.
func (System) Source(server netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// Listen opens a port.
func (System) Listen(local netip.Addr) (Conn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
}

// Times of retransmission (RFC 8489, section 6.2.1). Seven times and 39.5 seconds are the default there, and more than somebody waits
// who looks on.
const (
	firstWait = 500 * time.Millisecond // RTO; the waits double
	sends     = 4                      // Rc
	forServer = 4 * firstWait          // Rm × RTO: the wait after the last time where nothing is known yet: 5.5 s together
	forTests  = 2 * firstWait          // the same where the server has answered before, and silence is an answer: 4.5 s together
)

// maxErrors bounds how often reading from a socket fails before it is given up.
const maxErrors = 100

// A port is a UDP port of this host, and what is waited for there.
type port struct {
	conn  Conn
	local netip.AddrPort

	mu    sync.Mutex
	waits map[key]chan heard
}

// A key is what is waited for: the answer to a request, or the request itself, which went out by another port.
type key struct {
	id      stun.ID
	request bool
}

// A heard is a message, and who has sent it.
type heard struct {
	stun.Message
	from netip.AddrPort
}

func newPort(conn Conn) *port {
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &port{conn: conn, local: plain(local), waits: map[key]chan heard{}}
}

// plain is an address as it is compared.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// read passes on what comes until the socket is closed.
func (p *port) read() {
	buf := make([]byte, stun.MaxLength+1)
	for failed := 0; failed < maxErrors; {
		n, from, err := p.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			failed++ // a port of somebody is closed, say
			continue
		}
		m, err := stun.Parse(buf[:n])
		if err != nil {
			continue
		}
		p.mu.Lock()
		ch := p.waits[key{m.ID, m.Class == stun.Request}]
		p.mu.Unlock()
		select {
		case ch <- heard{m, plain(from)}: // nobody waits at nil
		default: // it has come twice
		}
	}
}

// expect has a message be waited for until forget.
func (p *port) expect(k key) (ch <-chan heard, forget func()) {
	c := make(chan heard, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits[k] = c
	return c, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waits, k)
	}
}

// ask sends a request until it is answered. ok is whether it was; err is of sending.
func (p *port) ask(ctx context.Context, to netip.AddrPort, m stun.Message, last time.Duration) (h heard, ok bool, err error) {
	m.ID = newID()
	ch, forget := p.expect(key{id: m.ID})
	defer forget()
	return p.send(ctx, to, m, ch, last)
}

// call sends a request to where another port of this host is outside, and reports whether it has arrived there.
func (p *port) call(ctx context.Context, other *port, at netip.AddrPort) bool {
	m := stun.Message{ID: newID()}
	ch, forget := other.expect(key{m.ID, true})
	defer forget()
	_, ok, _ := p.send(ctx, at, m, ch, forTests)
	return ok
}

// send sends a message again and again until something comes of it.
func (p *port) send(ctx context.Context, to netip.AddrPort, m stun.Message, ch <-chan heard, last time.Duration) (h heard, ok bool, err error) {
	wire := stun.Append(nil, &m)
	wait := firstWait
	for n := 1; n <= sends; n++ {
		// What cannot be sent now may be the next time: routes come back, and neighbours are found.
		_, err = p.conn.WriteToUDPAddrPort(wire, to)
		if n == sends {
			wait = last
		}
		timer := time.NewTimer(wait)
		select {
		case h = <-ch:
			timer.Stop()
			return h, true, nil
		case <-ctx.Done():
			timer.Stop()
			return h, false, err
		case <-timer.C:
		}
		wait *= 2
	}
	return h, false, err
}

func newID() (id stun.ID) {
	_, _ = rand.Read(id[:]) // which never fails
	return id
}
