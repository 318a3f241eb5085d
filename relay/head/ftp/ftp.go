// Package ftp reads the control connection of FTP (RFC 959, RFC 2428) between a client and a server whose address is fixed,
// for the data connections that the two negotiate in it. What they tell each other of addresses is rewritten to those of this
// host, between IPv4 and IPv6 where the two sides differ; everything else passes as it is. Where data connections are opened,
// and who may, is not for this package to know: it asks its Env.
//
// Data connections lead to the two ends of the control connection and to no third host, to ports from 1024 on (RFC 2577):
// of the addresses that are named only the port is ever used. After "AUTH TLS" was granted (RFC 4217), or where a client begins
// with TLS, there is nothing to read any more.
package ftp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Bounds of what either side may say.
const (
	maxLine        = 8 << 10 // bytes of a line, the longest path (PATH_MAX, 4096) and more
	maxOutstanding = 64      // commands that wait for their reply
	minPort        = 1024    // of data connections; those below are of services
)

// ErrUnfit is answered by an Env whose way to the server has no such data connections at all.
var ErrUnfit = errors.New("this forward cannot do that")

// An Env opens the ports of data connections. Each waits for one connection, and not for ever.
type Env interface {
	// Passive opens a port for a connection of the client, which is carried to a port of the server. The address is the one
	// that the client is told.
	Passive(ctx context.Context, port uint16) (netip.AddrPort, error)
	// Active opens a port for a connection of the server, which is carried to a port of the client. The address is the one that
	// the server is told.
	Active(ctx context.Context, port uint16) (netip.AddrPort, error)
	// Connected waits, for a moment, until the port that Active opened last leads to the client. A server connects before it says
	// that it does, and clients take it that they have the connection when they read that.
	Connected(ctx context.Context)
	// Count adds bytes of the control connection: in from the client, out to it.
	Count(in, out int)
}

// Ends are the addresses of both ends as they are seen from here; the server's is zero where only another node knows it.
type Ends struct{ Client, Server netip.Addr }

// An Outcome is what is left to do when Serve has returned without an error. The zero Outcome is nothing: both have ended.
type Outcome struct {
	Opaque             bool   // the connection is TLS from here on, and bytes are all that is left to carry
	ToServer, ToClient []byte // read already; they go first
}

// Serve reads and carries a control connection until it ends or is opaque. It closes nothing: ends of one direction are passed
// on, and both connections are the caller's to close. When ctx is done it returns.
func Serve(ctx context.Context, client, server net.Conn, ends Ends, env Env) (Outcome, error) {
	ends.Client, ends.Server = ends.Client.Unmap().WithZone(""), ends.Server.Unmap().WithZone("")
	s := &session{
		env: env, ends: ends, client: client, server: server,
		fromClient: reader{conn: client}, fromServer: reader{conn: server},
		queue: []command{{}}, // the greeting is the reply to no command
	}
	s.changed.L = &s.mu
	defer context.AfterFunc(ctx, s.interrupt)()
	done := make(chan error)
	go s.repliesTo(ctx, done)
	up := s.commands(ctx)
	down := <-done
	if s.opaque {
		_ = client.SetReadDeadline(time.Time{})
		_ = server.SetReadDeadline(time.Time{})
		return Outcome{true, s.fromClient.rest(), s.fromServer.rest()}, nil
	}
	return Outcome{}, firstError(up, down)
}

// A session is one control connection.
//
//	reading commands ──► AUTH: wait for the reply ──► 234 ──► opaque
//	   └─ TLS at once ─────────────────────────────────────────▲
type session struct {
	env                    Env
	ends                   Ends
	client, server         net.Conn
	fromClient, fromServer reader

	mu      sync.Mutex // held while something is written to the client
	changed sync.Cond  // the queue is shorter, or one of those below is set
	queue   []command  // that wait for their reply, the oldest first
	opaque  bool
	ended   bool // the server says nothing any more
}

// repliesTo is named so that a stack dump says which goroutine this is.
func (s *session) repliesTo(ctx context.Context, done chan<- error) {
	err := s.replies(ctx)
	s.mu.Lock()
	s.ended = true
	s.changed.Broadcast()
	if !s.opaque {
		_ = closeWrite(s.client)
		_ = s.client.SetReadDeadline(past())
	}
	s.mu.Unlock()
	done <- err
}

// interrupt ends all reading and waiting.
func (s *session) interrupt() {
	_ = s.client.SetDeadline(past())
	_ = s.server.SetDeadline(past())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.changed.Broadcast()
}

func past() time.Time { return time.Unix(1, 0) }

// firstError is the first of errors that tells something: an end is none, and neither is a deadline, which is ours.
func firstError(list ...error) error {
	for _, err := range list {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
