// Package testport finds ports that tests tell other programs to listen on.
//
// A port that the system picks is one that it may give to anybody's next connection as soon as it is free again. With many
// packages tested at once that happens, so those here are below the range that systems pick from. For tests alone.
package testport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// The range, which is below Linux's for connections (ip(7), ip_local_port_range: 32768 on) and IANA's (RFC 6335: 49152 on).
const (
	first = 10240
	last  = 32000
)

// Free returns a port on which nobody listens, by TCP or UDP, on any address.
func Free() (string, error) {
	var err error
	for range 100 {
		port := strconv.Itoa(first + rand.IntN(last-first+1))
		if err = try(":" + port); err == nil {
			return port, nil
		}
	}
	return "", errors.Join(errors.New("no free port was found in a hundred"), err)
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
