package vhost

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// Bounds of what one client may ask for.
const (
	maxHeader    = 64 << 10  // of a request, in bytes
	maxAnswer    = 256 << 10 // the headers of a response, in bytes
	headerWait   = 10 * time.Second
	handshake    = 10 * time.Second // for TLS
	idleWait     = 2 * time.Minute  // between two requests, of clients and to targets
	maxIdleConns = 8                // connections to the targets of one visit that wait for the next request
	maxStreams   = 100              // requests of one client at once, over HTTP/2
	maxVisits    = 16               // forwards of one client connection
	copyBuffer   = 32 << 10
)

// A Server ends HTTP, and TLS where a site has a certificate. It serves what it is given until it is closed.
type Server struct {
	http    http.Server
	porch   *porch
	buffers sync.Pool
	silent  *log.Logger
}

// NewServer returns a Server that has yet to Run.
func NewServer() *Server {
	s := &Server{porch: newPorch(), silent: log.New(io.Discard, "", 0)}
	s.buffers.New = func() any { return new([copyBuffer]byte) }
	s.http = http.Server{
		Handler: s, DisableGeneralOptionsHandler: true, ReadHeaderTimeout: headerWait, IdleTimeout: idleWait, MaxHeaderBytes: maxHeader,
		ErrorLog: s.silent, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, callerOf(c))
		},
	}
	return s
}

// Get and Put are for httputil.ReverseProxy, which copies with these buffers.
func (s *Server) Get() []byte { return s.buffers.Get().(*[copyBuffer]byte)[:] }

// Put is the other half of Get.
func (s *Server) Put(b []byte) { s.buffers.Put((*[copyBuffer]byte)(b)) }

// Run serves until Close.
func (s *Server) Run() { _ = s.http.Serve(s.porch) } // it always ends with the error of the porch

// Close ends every connection; those who serve them return a little later.
func (s *Server) Close() {
	_ = s.porch.Close()
	_ = s.http.Close()
}

type callerKey struct{}

// A caller is one client connection.
type caller struct {
	front Front
	conn  *conn
	tls   *tls.Conn // nil: without
	sni   string    // whom TLS was opened for

	mu       sync.Mutex
	guests   map[Visit]*guest
	requests sync.WaitGroup
	over     bool // no more requests
}

// callerOf finds the caller of a connection of net/http's.
func callerOf(c net.Conn) *caller {
	if t, ok := c.(*tls.Conn); ok { // as which net/http wants to see it
		c = t.NetConn()
	}
	return c.(*conn).caller
}

// ServeHTTPConn serves a client without TLS until it is gone. It closes c.
func (s *Server) ServeHTTPConn(c net.Conn, o Opening, front Front) {
	call := newCaller(c, o, front)
	s.serve(call.conn, call)
}

// ServeTLSConn ends the TLS of a client with a site's certificate, and serves it until it is gone. It closes c.
func (s *Server) ServeTLSConn(c net.Conn, o Opening, site *Site, front Front) {
	call := newCaller(c, o, front)
	call.sni = o.Host
	call.tls = tls.Server(call.conn, site.tls)
	ctx, cancel := context.WithTimeout(context.Background(), handshake)
	err := call.tls.HandshakeContext(ctx)
	cancel()
	if err != nil || o.ACME || call.tls.ConnectionState().NegotiatedProtocol == protoACME {
		_ = call.conn.Close() // an authority has seen what it wanted to
		return
	}
	s.serve(call.tls, call)
}

func newCaller(c net.Conn, o Opening, front Front) *caller {
	call := &caller{front: front, conn: newConn(c, o.Said, front.Client()), guests: map[Visit]*guest{}}
	call.conn.caller = call
	return call
}

// serve has net/http serve a connection, and returns when all that is over.
func (s *Server) serve(c net.Conn, call *caller) {
	if !s.porch.enter(c) {
		_ = c.Close()
	}
	<-call.conn.closed
	call.end()
}

// begin enters a request, if there are to be any.
func (c *caller) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.requests.Add(1)
	}
	return !c.over
}

// end waits for the requests, whose contexts end with the connection, and lets go of the targets.
func (c *caller) end() {
	c.mu.Lock()
	c.over = true
	guests := c.guests
	c.mu.Unlock()
	for _, g := range guests {
		g.end()
	}
	c.requests.Wait()
	for _, g := range guests {
		g.transport.CloseIdleConnections()
	}
}

var (
	errMisdirected = errors.New("this connection was opened for another name")
	errTooMany     = errors.New("this connection has asked for too many names")
)

// guest is the caller at the forward that a request is for.
func (c *caller) guest(s *Server, host string) (*guest, error) {
	if c.tls != nil && host != c.sni {
		return nil, errMisdirected // what the client has seen the certificate of is what it gets
	}
	v, err := c.front.Visit(host)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.guests[v]
	switch {
	case g != nil:
		return g, nil
	case c.over:
		return nil, net.ErrClosed
	case len(c.guests) >= maxVisits:
		return nil, errTooMany
	}
	g = newGuest(s, c, v)
	c.guests[v] = g
	return g, nil
}

// hostOf is whom a request calls. Where the name is in the URI, net/http has it from there (RFC 9112, section 3.2.2).
func hostOf(r *http.Request) string { return forward.NameCalled(r.Host) }
