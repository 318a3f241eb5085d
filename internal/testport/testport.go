// Package testport finds ports that tests tell other programs to listen on.
//
// A port that the system picks is one that it may give to anybody's next connection as soon as it is free again. With many
// packages tested at once that happens, so those here are below the range that systems pick from. A port is also found long before
// the program that is told of it listens, and no other process may find the same one meanwhile: each has a block of its own, which
// it holds by listening on the block's first port until it ends. For tests alone.
package testport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The range is below Linux's for connections (ip(7), ip_local_port_range: 32768 on), IANA's (RFC 6335: 49152 on), and what hubs
// pick for their agents (20000 on).
const (
	first  = 10240
	blocks = 75
	size   = 128
)

// block is what one process has: the ports behind the one that it listens on.
type block struct {
	holder net.Listener
	first  int

	mu   sync.Mutex
	last int // the last that was found, from first on
}

// The block is there from the start, for tests that count what files they leave open.
var own, errOwn = hold()

// hold takes a block that no other process has, from a random one on.
func hold() (*block, error) {
	var last error
	for i, from := 0, rand.IntN(blocks); i < blocks; i++ {
		port := first + (from+i)%blocks*size
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			return &block{holder: l, first: port}, nil
		}
		last = err
	}
	return nil, errors.Join(errors.New("no ports are left for this process"), last)
}

// Free returns a port on which nobody listens, by TCP or UDP, on any address. It is returned again only after all the others that this
// process may have, and by no other process.
func Free() (string, error) {
	if errOwn != nil {
		return "", errOwn
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	var last error
	for range size - 1 {
		own.last = own.last%(size-1) + 1
		port := strconv.Itoa(own.first + own.last)
		if last = try(":" + port); last == nil {
			return port, nil
		}
	}
	return "", errors.Join(errors.New("no port of this process is free"), last)
}

func try(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
