package agent

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// flowBuffers hold datagrams on their way. A flow that is silent has none.
var flowBuffers = sync.Pool{New: func() any { b := make([]byte, maxDatagram); return &b }}

// awaiting is what waits until a connection has something to say, so that one that is silent needs no buffer. Where nothing can, the
// reader does.
func awaiting(from net.Conn) func() error {
	switch c := from.(type) {
	case interface{ Await() }:
		return func() error {
			c.Await()
			return nil
		}
	case *net.UDPConn, *net.TCPConn, *net.UnixConn:
		if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
			return func() error { return readable(raw) }
		}
	}
	return func() error { return nil }
}

// datagrams calls got for each datagram of a connection, until its end. got must not keep what it is given; when it returns an error, that is
// the end.
func datagrams(from net.Conn, got func([]byte) error) error {
	await := awaiting(from)
	for {
		if err := await(); passing(err) {
			continue
		} else if err != nil {
			return err
		}
		buf := flowBuffers.Get().(*[]byte)
		n, err := from.Read(*buf)
		if err == nil {
			err = got((*buf)[:n])
		}
		flowBuffers.Put(buf)
		if err != nil && !passing(err) {
			return err
		}
	}
}

// passing reports whether an error is what an ICMP message has said about an earlier datagram (RFC 1122, section 4.1.3.3): the next may get
// there.
func passing(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENOPROTOOPT, syscall.EHOSTDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// copyFlow carries datagrams one way until one end is closed. That a target is not there now does not end a flow: UDP has no connections.
func copyFlow(to, from net.Conn) {
	_ = datagrams(from, func(p []byte) error {
		_, err := to.Write(p)
		return err
	})
	_ = to.Close()
	_ = from.Close()
}
