package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// A link by QUIC or TLS may have lanes beside it, each a TLS connection of its own to the same port: there a stream that sends a lot has the
// kernel's TCP, which is several times as fast as QUIC in user space, and delays nobody else. The agent dials them all, since the hub cannot.
const (
	sideALPN    = "fairlead-lane/1"
	sideLabel   = "EXPORTER-fairlead-lane" // RFC 8446, section 7.5
	sidesMost   = 64                       // beside one link
	sideTimeout = 3 * time.Second          // TCP_USER_TIMEOUT: the address may have changed, which the link itself survives
)

// A sideID says which link a lane belongs to. Both ends draw it from the link's TLS, so that nobody else can know it.
type sideID [16]byte

// What an agent says first on a side lane is the link's id and who writes there.
const (
	agentWrites byte = iota
	hubWrites
	bothWrite // it is a detour of the first lane
)

// sides are the lanes beside one link.
type sides struct {
	id   sideID
	peer tunnel.Key
	dial func(ctx context.Context) (*records, *net.TCPConn, error) // the agent's

	mu      sync.Mutex
	got     func(tunnel.Lane)
	all     map[*sideLane]struct{}
	detour  chan tunnel.Lane   // the hub's, which the agent has made and the first lane may go on over
	waiting []chan tunnel.Lane // those who want one that the agent has yet to bring
	ended   bool
	forget  func()
}

// newSides is what a link with this TLS has beside it; nil is nothing, where the TLS has no secrets to tell.
func newSides(s tls.ConnectionState, peer tunnel.Key) *sides {
	id, err := s.ExportKeyingMaterial(sideLabel, nil, len(sideID{}))
	if err != nil {
		return nil
	}
	return &sides{id: sideID(id), peer: peer, all: map[*sideLane]struct{}{}, detour: make(chan tunnel.Lane, 1)}
}

var (
	errNoSides   = errors.New("this link has no lanes beside it")
	errManySides = errors.New("this link has as many lanes beside it as there may be")

	errNotBrought = errors.New("the agent brings no lanes beside this link now")
)

// Sides is that of tunnel.Sider.
func (s *sides) Sides(got func(tunnel.Lane)) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = got
}

// Side is that of tunnel.Sider.
func (s *sides) Side(ctx context.Context, ask func()) (tunnel.Lane, error) {
	switch {
	case s == nil:
		return nil, errNoSides
	case s.dial != nil:
		return s.call(ctx, agentWrites)
	}
	brought := make(chan tunnel.Lane, 1)
	s.mu.Lock()
	full := s.ended || len(s.all)+len(s.waiting) >= sidesMost
	if !full {
		s.waiting = append(s.waiting, brought)
	}
	s.mu.Unlock()
	if full {
		return nil, errManySides
	}
	ask()
	select {
	case l, open := <-brought:
		switch {
		case !open:
			return nil, errClosed
		case l == nil:
			return nil, errNotBrought
		}
		return l, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.waiting = slices.DeleteFunc(s.waiting, func(c chan tunnel.Lane) bool { return c == brought })
	s.mu.Unlock()
	select {
	case l := <-brought: // just now
		if l != nil {
			return l, nil
		}
	default:
	}
	return nil, ctx.Err()
}

// NotBrought is that of tunnel.Sider.
func (s *sides) NotBrought() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 { // else who wanted it has waited for too long
		s.waiting[0] <- nil
		s.waiting = s.waiting[1:]
	}
}

// Detour is that of tunnel.Sider.
func (s *sides) Detour(ctx context.Context) (tunnel.Lane, error) {
	switch {
	case s == nil:
		return nil, tunnel.ErrOneLane
	case s.dial != nil:
		return s.call(ctx, bothWrite)
	}
	select {
	case l, open := <-s.detour:
		if !open {
			return nil, errClosed
		}
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Bring is that of tunnel.Sider.
func (s *sides) Bring(ctx context.Context) error {
	if s == nil || s.dial == nil {
		return errNoSides
	}
	l, err := s.call(ctx, hubWrites)
	if err != nil {
		return err
	}
	s.give(l)
	return nil
}

// call makes a lane.
func (s *sides) call(ctx context.Context, who byte) (*sideLane, error) {
	s.mu.Lock()
	full := s.ended || len(s.all) >= sidesMost
	s.mu.Unlock()
	if full {
		return nil, errManySides
	}
	r, tcp, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	if tcp != nil {
		giveUpAfter(tcp, sideTimeout)
	}
	if _, err := r.conn.Write(append(s.id[:], who)); err != nil {
		r.beneath.Close()
		return nil, err
	}
	r.beneath.holdOn()
	return s.enter(r)
}

// enter counts a lane in.
func (s *sides) enter(r *records) (*sideLane, error) {
	l := &sideLane{records: r, of: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.all) >= sidesMost {
		r.beneath.Close()
		return nil, errManySides
	}
	s.all[l] = struct{}{}
	return l, nil
}

// came is a lane that the agent has made, of which it has said who writes there.
func (s *sides) came(r *records, who byte) {
	l, err := s.enter(r)
	switch {
	case err != nil:
	case who == agentWrites:
		s.give(l)
	case who == bothWrite:
		s.keep(l)
	default:
		s.mu.Lock()
		if len(s.waiting) == 0 { // who wanted it has waited for too long
			s.mu.Unlock()
			l.Close()
			return
		}
		s.waiting[0] <- l
		s.waiting = s.waiting[1:]
		s.mu.Unlock()
	}
}

// keep has a lane wait for the first one to go on over it. There is one at a time.
func (s *sides) keep(l *sideLane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		select {
		case s.detour <- l:
			return
		default:
		}
	}
	go l.Close()
}

// give gives a lane to who reads.
func (s *sides) give(l *sideLane) {
	s.mu.Lock()
	got := s.got
	s.mu.Unlock()
	if got == nil {
		l.Close()
		return
	}
	got(l)
}

// end is that the link has ended.
func (s *sides) end() {
	if s == nil {
		return
	}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return
	}
	s.ended = true
	all, waiting, forget := s.all, s.waiting, s.forget
	s.all, s.waiting = nil, nil
	close(s.detour)
	s.mu.Unlock()
	for l := range all {
		l.beneath.Close()
	}
	for _, c := range waiting {
		close(c)
	}
	if forget != nil {
		forget()
	}
}

// A sideLane is a TLS connection beside a link.
type sideLane struct {
	*records
	of *sides
}

func (l *sideLane) Flush() error                       { return l.beneath.flush() }
func (l *sideLane) SetReadDeadline(t time.Time) error  { return l.conn.SetReadDeadline(t) }
func (l *sideLane) SetWriteDeadline(t time.Time) error { return l.conn.SetWriteDeadline(t) }

// Close ends the lane. TLS says no goodbye, see oneLane.end.
func (l *sideLane) Close() error {
	l.of.mu.Lock()
	delete(l.of.all, l)
	l.of.mu.Unlock()
	return l.beneath.Close()
}

// sides are those of an agent's link to an address.
func (d *Dialer) sides(state tls.ConnectionState, hub tunnel.Key, addr string) *sides {
	if !slices.Contains(d.Transports, TLS) {
		return nil
	}
	s := newSides(state, hub)
	if s != nil {
		s.dial = func(ctx context.Context) (*records, *net.TCPConn, error) { return d.dialSide(ctx, addr) }
	}
	return s
}

// dialSide makes a connection that can be a lane.
func (d *Dialer) dialSide(ctx context.Context, addr string) (*records, *net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	conn, tcp, err := d.connect(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	c := d.tls.Clone()
	c.NextProtos = []string{sideALPN}
	r, err := handshake(ctx, c, conn, tcp)
	return r, tcp, err
}

// besides are the lanes beside all links of a hub.
type besides struct {
	mu  sync.Mutex
	all map[sideID]*sides
}

// make is what a link will have beside it, whose lanes can be found until it ends; nil is nothing.
func (b *besides) make(state tls.ConnectionState, agent tunnel.Key) *sides {
	s := newSides(state, agent)
	if s == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.forget = func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.all, s.id)
	}
	b.all[s.id] = s
	return s
}

// came reads what is said first on a lane, and gives it to its link.
func (b *besides) came(r *records, peer tunnel.Key, stop func() bool) error {
	var said [len(sideID{}) + 1]byte
	if _, err := io.ReadFull(r.conn, said[:]); err != nil {
		return err
	}
	b.mu.Lock()
	s := b.all[sideID(said[:len(sideID{})])]
	b.mu.Unlock()
	who := said[len(sideID{})]
	switch {
	case s == nil || s.peer != peer:
		return errors.New("a lane that belongs to no link of its agent")
	case who > bothWrite:
		return fmt.Errorf("a lane on which nobody writes (%d)", who)
	}
	if !stop() {
		return context.DeadlineExceeded
	}
	r.beneath.holdOn()
	s.came(r, who)
	return nil
}
