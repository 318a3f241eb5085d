package link

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
)

// WellKnown is the path at which a hub takes agents by WebSocket (RFC 8615).
const WellKnown = "/.well-known/fairlead"

// A web is the HTTP that a hub speaks by itself.
type web struct {
	server http.Server
	tls    *tls.Config
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newWeb(l *Listener) *web {
	w := &web{
		tls: &tls.Config{
			Certificates:           []tls.Certificate{l.Identity.cert},
			NextProtos:             []string{"http/1.1"},
			MinVersion:             tls.VersionTLS12,
			SessionTicketsDisabled: true,
		},
		conns:  make(chan net.Conn),
		closed: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.Handle(WellKnown, l)
	w.server = http.Server{
		Handler:           mux,
		ReadHeaderTimeout: handshakeTime,
		ReadTimeout:       handshakeTime,
		WriteTimeout:      handshakeTime,
		IdleTimeout:       handshakeTime,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          quiet(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if t, ok := c.(*tls.Conn); ok {
				c = t.NetConn() // a *seat, as those without TLS
			}
			return context.WithValue(ctx, seatKey{}, c)
		},
	}
	return w
}

// run serves until ctx ends.
func (w *web) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { w.server.Close() })()
	err := w.server.Serve(w)
	w.server.Close()
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// A seat is a visitor's connection that is counted until it is closed or an agent's.
type seat struct {
	*Visitor
	guest *guest
}

// seatKey is where a request's context has the seat, if it is one.
type seatKey struct{}

func (s *seat) Close() error {
	s.guest.leave()
	return s.Conn.Close()
}

// visit serves a visitor; nil for a guest: there is no room.
func (w *web) visit(v *Visitor, first First, guest *guest) {
	if guest == nil {
		reset(v.Conn)
		return
	}
	var c net.Conn = &seat{v, guest}
	if first.TLS {
		c = tls.Server(c, w.tls)
	}
	select {
	case w.conns <- c:
	case <-w.closed:
		c.Close()
	}
}

// Accept is what makes web a net.Listener.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (w *web) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// Addr is nobody's.
func (w *web) Addr() net.Addr { return &net.TCPAddr{} }

// ServeHTTP takes agents that come by WebSocket. It is for those, too, who serve HTTP at the hub's port by themselves, at WellKnown.
func (l *Listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "this is for agents", http.StatusMethodNotAllowed)
		return
	}
	l.serveWebSocket(w, r)
}
