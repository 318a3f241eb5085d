package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// messages is a WebSocket as a connection: what is written at once is one message. A deadline that passes ends it.
type messages struct {
	net.Conn
	ws     *websocket.Conn
	out    *holder  // nil, or what the WebSocket writes to, a few KiB at a time
	base   net.Conn // the socket beneath it all; nil: unknown
	remote net.Addr
	until  [2]atomic.Int64 // deadlines of reading and writing, Unix nanoseconds
}

// newMessages makes a connection of a WebSocket. It outlives the context of whoever made it.
func newMessages(ws *websocket.Conn, out *holder, base net.Conn, remote net.Addr) *messages {
	return &messages{Conn: websocket.NetConn(context.Background(), ws, websocket.MessageBinary), ws: ws, out: out, base: base, remote: remote}
}

func (m *messages) RemoteAddr() net.Addr { return m.remote }

// Close does not wait for the other end, as closing a WebSocket or the TLS around it by the rules would.
func (m *messages) Close() error {
	if m.base != nil {
		m.base.Close()
	}
	return m.ws.CloseNow()
}

// socketOf is the socket beneath what is made on top of it here.
func socketOf(c net.Conn) net.Conn {
	for {
		switch over := c.(type) {
		case *tls.Conn:
			c = over.NetConn()
		case *holder:
			c = over.Conn
		case *seat:
			c = over.Conn
		case *Visitor:
			c = over.Conn
		default:
			return c
		}
	}
}

// A hijack remembers the connection that an HTTP server hands over.
type hijack struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack is http.Hijacker's.
func (h *hijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = c
	return c, rw, err
}

func (m *messages) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	return n, m.explain(err, &m.until[0])
}

func (m *messages) Write(p []byte) (int, error) {
	if m.out == nil {
		n, err := m.Conn.Write(p)
		return n, m.explain(err, &m.until[1])
	}
	m.out.holdOn()
	n, err := m.Conn.Write(p)
	if flushed := m.out.holdOff(); err == nil && flushed != nil {
		n, err = 0, flushed
	}
	return n, m.explain(err, &m.until[1])
}

// explain says of an error that a deadline made that it did.
func (m *messages) explain(err error, until *atomic.Int64) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if t := until.Load(); t != 0 && t <= time.Now().UnixNano() {
		return os.ErrDeadlineExceeded
	}
	return err
}

func (m *messages) SetDeadline(t time.Time) error {
	return errors.Join(m.SetReadDeadline(t), m.SetWriteDeadline(t))
}

func (m *messages) SetReadDeadline(t time.Time) error {
	m.until[0].Store(nanoseconds(t))
	if m.base != nil { // at once, while TLS in between would take its time to say goodbye
		return m.base.SetReadDeadline(t)
	}
	return m.Conn.SetReadDeadline(t)
}

func (m *messages) SetWriteDeadline(t time.Time) error {
	m.until[1].Store(nanoseconds(t))
	if m.base != nil {
		return m.base.SetWriteDeadline(t)
	}
	return m.Conn.SetWriteDeadline(t)
}

func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixNano(), 1)
}

// serveWebSocket answers an agent's request, and does the handshake of the link in it.
func (l *Listener) serveWebSocket(w http.ResponseWriter, r *http.Request) {
	from := remoteOf(r)
	var evicted seatless
	guest := l.gate.enter(addrPort(from).Addr(), evicted.close)
	if guest == nil || !l.join() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many handshakes; come again", http.StatusServiceUnavailable)
		if guest != nil {
			guest.leave()
		}
		return
	}
	defer l.guests.Done()
	taken := &hijack{ResponseWriter: w}
	ws, err := websocket.Accept(taken, r, &websocket.AcceptOptions{Subprotocols: []string{ALPN}, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		guest.leave()
		return
	}
	socket := socketOf(taken.conn)
	inner := newMessages(ws, nil, socket, from)
	evicted.is(inner)
	_ = inner.SetDeadline(time.Now().Add(handshakeTime))
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	go func() { // ends with ctx
		select {
		case <-l.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	stop := context.AfterFunc(ctx, func() { inner.Close() })
	defer stop()
	seat, _ := r.Context().Value(seatKey{}).(*seat)
	beneath := &holder{Conn: inner}
	conn := tls.Server(beneath, l.agents)
	err = conn.HandshakeContext(ctx)
	if protocol := conn.ConnectionState().NegotiatedProtocol; err == nil && protocol != ALPN && protocol != measureALPN {
		err = fmt.Errorf("the agent does not speak %s", ALPN)
	}
	var link *oneLane
	if err == nil {
		tcp, _ := socket.(*net.TCPConn)
		if tcp != nil {
			tune(tcp)
		}
		link, err = newOneLane("wss", conn, beneath, tcp, false)
	}
	if err != nil || !stop() {
		guest.leave()
		inner.Close()
		if err != nil {
			l.failed(from, err)
		}
		return
	}
	if seat != nil {
		seat.guest.leave()
	}
	protocol := conn.ConnectionState().NegotiatedProtocol
	if protocol == measureALPN {
		defer guest.leave()
	} else {
		link.admit = sync.OnceFunc(guest.leave)
	}
	l.hand(ctx, link, protocol)
}

// A seatless closes the connection of a guest who is evicted, who may be that before there is one.
type seatless struct {
	mu      sync.Mutex
	conn    io.Closer
	evicted bool
}

func (s *seatless) is(conn io.Closer) {
	s.mu.Lock()
	s.conn = conn
	evicted := s.evicted
	s.mu.Unlock()
	if evicted {
		_ = conn.Close()
	}
}

func (s *seatless) close() {
	s.mu.Lock()
	s.evicted = true
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

// remoteOf is whom a request is from.
func remoteOf(r *http.Request) net.Addr {
	a, err := net.ResolveTCPAddr("tcp", r.RemoteAddr) // which net/http made of numbers
	if err != nil {
		return &net.TCPAddr{}
	}
	return a
}

// webSocket has a connection to an HTTP server, which may be within TLS, speak WebSocket. host is whom the server is asked for.
func webSocket(ctx context.Context, c net.Conn, host string) (*messages, error) {
	out := &holder{Conn: c}
	conns := make(chan net.Conn, 1)
	conns <- out
	transport := &http.Transport{
		DisableKeepAlives:      false,
		MaxResponseHeaderBytes: 16 << 10,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			select {
			case c := <-conns:
				return c, nil
			default:
				return nil, errors.New("the server wants another connection")
			}
		},
	}
	defer transport.CloseIdleConnections()
	target := url.URL{Scheme: "http", Host: host, Path: WellKnown} // TLS, if any, is c's business
	ws, resp, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Subprotocols:    []string{ALPN},
		CompressionMode: websocket.CompressionDisabled,
	})
	switch {
	case err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("%s answers %s with %s, and not as a hub does", host, WellKnown, resp.Status)
	case err != nil:
		return nil, err
	case ws.Subprotocol() != ALPN:
		_ = ws.CloseNow()
		return nil, fmt.Errorf("%s takes a WebSocket at %s, but does not speak %s", host, WellKnown, ALPN)
	}
	return newMessages(ws, out, socketOf(c), c.RemoteAddr()), nil
}

// quiet is a logger for net/http, which would tell of each visitor who speaks no HTTP.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
