package igd

import (
	"net"
	"net/netip"
	"sync"
)

// How many connections there are at once: of one client, and in all.
const (
	maxClientConns = 64
	maxConns       = 1024
)

// guests counts the connections of clients.
type guests struct {
	mu  sync.Mutex
	of  map[netip.Addr]int
	all int
}

func (g *guests) init() { g.of = map[netip.Addr]int{} }

func (g *guests) enter(client netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= maxConns || g.of[client] >= maxClientConns {
		return false
	}
	g.all++
	g.of[client]++
	return true
}

func (g *guests) leave(client netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.of[client]--; g.of[client] <= 0 {
		delete(g.of, client)
	}
}

// A lobby is a listener that lets in who belongs to the place, and not too many. The others are hung up on.
type lobby struct {
	net.Listener
	guests *guests
	admit  func(client netip.Addr) bool
}

func (l *lobby) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := addrOf(c.RemoteAddr())
		if l.admit(client) && l.guests.enter(client) {
			return &guest{Conn: c, leave: sync.OnceFunc(func() { l.guests.leave(client) })}, nil
		}
		_ = c.Close()
	}
}

type guest struct {
	net.Conn
	leave func()
}

func (g *guest) Close() error {
	g.leave()
	return g.Conn.Close()
}

// addrOf is the address of one end of a connection, without its zone.
func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
