package socks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/relay/head"
)

// maxFaults is how many errors a socket may have, one after the other, until the association ends.
const maxFaults = 64

// An association carries the datagrams of one client (RFC 1928, section 7). Two goroutines do, and the one that serves the
// client waits for the end of its connection, which ends the association as well.
type association struct {
	env    head.Env
	client netip.Addr     // the address that the client calls from; datagrams of others are dropped
	asked  uint16         // the port that the client sends from, if it said so; else the first datagram tells
	near   net.PacketConn // to the client
	far    head.PacketTarget
	peer   atomic.Pointer[netip.AddrPort] // the client's, as soon as it is known
}

func (s *Server) associate(ctx context.Context, r *reader, env head.Env, q request) error {
	a := &association{env: env, client: head.AddrPort(r.conn.RemoteAddr()).Addr()}
	if !a.client.IsValid() {
		return r.refuse(q.dialect, fmt.Errorf("a client without an IP address sends no datagrams: %w", head.ErrUnfit))
	}
	// A client behind NAT says an address and a port that mean nothing here. One that says its own is held to it.
	if addr, err := netip.ParseAddr(q.host); err == nil && sameHost(addr, a.client) {
		a.asked = q.port
	}
	var err error
	if a.near, err = env.ListenPacket(ctx); err != nil {
		return r.refuse(q.dialect, err)
	}
	defer a.near.Close()
	if a.far, err = env.Packets(ctx); err != nil {
		return r.refuse(q.dialect, err)
	}
	defer a.far.Close()
	bound := boundFor(r.conn, head.AddrPort(a.near.LocalAddr()).Port())
	if err := r.write(q.granted(bound)); err != nil {
		return err
	}
	return s.run(ctx, r.conn, a)
}

// boundFor is where the client is told to send datagrams: to the address that it has called already. When that is a private
// one and the client's is a public one, there is NAT between them, and the client has called an address that nobody here
// knows; then it is 0.0.0.0 or ::, which clients take for the address that they have called.
func boundFor(client net.Conn, port uint16) netip.AddrPort {
	local, remote := head.AddrPort(client.LocalAddr()).Addr().WithZone(""), head.AddrPort(client.RemoteAddr()).Addr()
	switch {
	case !forward.IsInward(local) || forward.IsInward(remote):
	case local.Is4():
		local = netip.IPv4Unspecified()
	default:
		local = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(local, port)
}

// run carries datagrams until the client closes its connection or a socket fails.
func (s *Server) run(ctx context.Context, client net.Conn, a *association) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var carrying sync.WaitGroup
	for _, carry := range []func(context.Context, []byte) error{a.fromClient, a.toClient} {
		carrying.Go(func() {
			buf := s.buffers.Get().(*[bufferSize]byte)
			defer s.buffers.Put(buf)
			cancel(carry(ctx, buf[:]))
		})
	}
	stop := context.AfterFunc(ctx, func() { _ = client.SetReadDeadline(longAgo()) })
	// Clients have nothing to say here; what they say all the same is read and forgotten, so that the end is seen.
	_, err := io.Copy(io.Discard, struct{ io.Reader }{client})
	stop()
	if failed := context.Cause(ctx); failed != nil {
		err = failed
	}
	cancel(nil)
	a.near.Close()
	a.far.Close()
	carrying.Wait()
	return err
}

// fromClient carries datagrams from the client to the targets.
func (a *association) fromClient(ctx context.Context, buf []byte) error {
	known, faults := destinations{}, 0
	for faults < maxFaults {
		n, from, err := a.read(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return err
			}
			faults++
			continue
		}
		faults = 0
		if !a.isClient(from) {
			continue
		}
		address, payload, ok := cutDatagram(buf[:n])
		if !ok {
			continue
		}
		to, ok := known.find(address)
		if !ok {
			continue
		}
		if a.far.Send(ctx, payload, to.host, to.port) == nil {
			a.env.Count(len(payload), 0)
		}
	}
	return errors.New("the socket for the client's datagrams fails")
}

// read reads a datagram without allocating, where the socket can.
func (a *association) read(buf []byte) (int, netip.AddrPort, error) {
	if udp, ok := a.near.(interface {
		ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	}); ok {
		return udp.ReadFromUDPAddrPort(buf)
	}
	n, from, err := a.near.ReadFrom(buf)
	return n, head.AddrPort(from), err
}

// isClient reports whether a datagram from that address is the client's. The first one says which port it has.
func (a *association) isClient(from netip.AddrPort) bool {
	if peer := a.peer.Load(); peer != nil {
		return *peer == from
	}
	if !sameHost(from.Addr(), a.client) || a.asked != 0 && from.Port() != a.asked {
		return false
	}
	a.peer.Store(&from)
	return true
}

// toClient carries datagrams from the targets to the client.
func (a *association) toClient(ctx context.Context, buf []byte) error {
	faults := 0
	for faults < maxFaults {
		n, from, err := a.far.Receive(buf[maxHeader:])
		if err != nil {
			if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
				return err
			}
			faults++ // a target that nobody listens at (ICMP) is such an error
			continue
		}
		faults = 0
		peer := a.peer.Load()
		if peer == nil {
			continue
		}
		if a.write(wrap(buf, n, head.AddrPort(from)), *peer) == nil {
			a.env.Count(0, n)
		}
	}
	return errors.New("the socket for the datagrams of targets fails")
}

func (a *association) write(b []byte, to netip.AddrPort) error {
	if udp, ok := a.near.(interface {
		WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	}); ok {
		_, err := udp.WriteToUDPAddrPort(b, to)
		return err
	}
	_, err := a.near.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}
