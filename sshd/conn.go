package sshd

import (
	"net"
	"sync/atomic"
)

// A wireConn is the connection of a client: it gives back what was read ahead, knows whether anything comes in, and reads much at
// a time once the client has logged in.
type wireConn struct {
	net.Conn
	in      atomic.Uint64 // bytes that came in
	trusted atomic.Bool   // the client has logged in

	// These belong to the one who reads, and to the one who writes.
	ahead   []byte
	storage []byte
	said    int // bytes that were written before, and are not written again
}

// readSize is how much is read at a time: x/crypto alone would take two system calls for each packet.
const readSize = 64 << 10

func (c *wireConn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	if len(p) >= readSize || !c.trusted.Load() {
		n, err := c.Conn.Read(p)
		c.in.Add(uint64(n))
		return n, err
	}
	if c.storage == nil {
		c.storage = make([]byte, readSize)
	}
	n, err := c.Conn.Read(c.storage)
	c.in.Add(uint64(n))
	c.ahead = c.storage[:n]
	n = copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, err
}

func (c *wireConn) Write(p []byte) (int, error) {
	skip := min(c.said, len(p))
	if c.said -= skip; skip == len(p) {
		return skip, nil
	}
	n, err := c.Conn.Write(p[skip:])
	return n + skip, err
}
