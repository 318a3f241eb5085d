package vhost

import (
	"io"
	"net"
	"net/netip"
	"sync"
)

// A conn is a client's connection, with what was read of it before, and the client's own address.
type conn struct {
	net.Conn
	said   []byte
	client net.Addr
	once   sync.Once
	closed chan struct{}
	caller *caller
}

func newConn(c net.Conn, said []byte, client netip.AddrPort) *conn {
	out := &conn{Conn: c, said: said, client: c.RemoteAddr(), closed: make(chan struct{})}
	if client.IsValid() {
		out.client = net.TCPAddrFromAddrPort(client)
	}
	return out
}

func (c *conn) Read(b []byte) (int, error) {
	if len(c.said) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.said)
	if c.said = c.said[n:]; len(c.said) == 0 {
		c.said = nil
	}
	return n, nil
}

func (c *conn) RemoteAddr() net.Addr { return c.client }

func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

// A porch is a listener for connections that somebody else has accepted.
type porch struct {
	come   chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func newPorch() *porch { return &porch{come: make(chan net.Conn), closed: make(chan struct{})} }

// enter hands a connection to whoever accepts, and reports whether anybody does.
func (p *porch) enter(c net.Conn) bool {
	select {
	case p.come <- c:
		return true
	case <-p.closed:
		return false
	}
}

func (p *porch) Accept() (net.Conn, error) {
	select {
	case c := <-p.come:
		return c, nil
	case <-p.closed:
		return nil, io.EOF
	}
}

func (p *porch) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *porch) Addr() net.Addr { return &net.TCPAddr{} }
