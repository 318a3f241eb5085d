// Package httpproxy is the head for HTTP: CONNECT, requests with an absolute URI (RFC 9112, section 3.2), and the proxy
// auto-config file for browsers. Reading requests and writing responses is left to net/http, whose parser is strict; what a
// proxy has to do with the headers (RFC 9110, section 7.6) is here. Where clients may go is not for this package to know.
package httpproxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
)

// Bounds of what one client may ask for.
const (
	maxHeader    = 64 << 10         // of a request, in bytes
	maxAnswer    = 256 << 10        // the headers of a response, in bytes
	maxIdleConns = 8                // connections to targets that wait for a client's next request
	headerWait   = 30 * time.Second // for the headers of a request, and for the first one that is let in
	idleWait     = 2 * time.Minute  // between two requests, of clients and to targets
	copyBuffer   = 32 << 10
)

// ErrProtocol is the error of a client who does not speak HTTP.
var ErrProtocol = errors.New("the client does not speak HTTP")

// Options are what a Proxy may serve besides; the zero value is a proxy alone.
type Options struct {
	// PAC makes the auto-config file for a browser that called this host and port. It is served at /proxy.pac and /wpad.dat,
	// to everybody: browsers do not log in for it. nil: there is no file.
	PAC func(called string) ([]byte, error)
	// PACOnly serves nothing but that file: the port is for SOCKS.
	PACOnly bool
}

// A Proxy is a head.Head.
type Proxy struct {
	options Options
	via     string // how the proxy calls itself in Via (RFC 9110, section 7.6.3): nobody else has the same name
	silent  *log.Logger
	buffers sync.Pool
}

// New returns a head for HTTP.
func New(o Options) *Proxy {
	var unique [4]byte
	rand.Read(unique[:]) // it never fails
	return &Proxy{
		options: o,
		via:     "fairlead-" + hex.EncodeToString(unique[:]),
		silent:  log.New(io.Discard, "", 0),
		buffers: sync.Pool{New: func() any { return make([]byte, copyBuffer) }},
	}
}

// Get and Put are for httputil.ReverseProxy, which copies with these buffers.
func (p *Proxy) Get() []byte { return p.buffers.Get().([]byte) }

// Put is the other half of Get.
func (p *Proxy) Put(b []byte) { p.buffers.Put(b) } //nolint:staticcheck // a slice header more or less is nothing beside a request

// Serve serves the requests of a client, one after the other, until the client ends, or has asked for a tunnel: then the
// rest is for the caller to carry.
func (p *Proxy) Serve(ctx context.Context, client net.Conn, env head.Env) (head.Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := newConn(client, env)
	s := &session{proxy: p, env: env, conn: c, targets: targets{open: map[net.Conn]bool{}}}
	s.forwarding.dial = s.dialer(ctx)
	l := &listener{conn: c, served: make(chan struct{}), closed: make(chan struct{})}
	server := &http.Server{
		Handler:                      s,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            headerWait,
		IdleTimeout:                  idleWait,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     p.silent,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				close(l.served) // of the one connection, once
			}
		},
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	server.Serve(l) //nolint:errcheck // it always ends with the error of the listener, which has one connection
	if l.given {
		<-l.served
		s.running.Wait()
	}
	stop()
	cancel()
	s.end()
	s.closeTargets()
	switch {
	case s.outcome.Target != nil:
		return s.outcome, nil
	case s.failure != nil:
		return head.Outcome{}, s.failure
	case s.requests == 0 && c.heard():
		return head.Outcome{}, fmt.Errorf("%w: no request could be read", ErrProtocol)
	case s.requests == 0:
		return head.Outcome{}, fmt.Errorf("the client said nothing: %w", io.EOF)
	}
	return head.Outcome{}, nil
}
